"""The source examples on which a blend is chosen: data of the user, or a stand-in. Test data are never used."""

import logging
from collections.abc import Sequence
from dataclasses import replace

from adapt.data.example import Example
from adapt.data.kinds import with_text
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.splits import check_examples
from adapt.data.subset import evenly
from adapt.errors import InputError
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.model import Model

log = logging.getLogger(__name__)

EXAMPLES = 200  # the most that are parted off, or that stand in
_SHARE = 5  # one in so many source examples is parted off if the others are replayed


def part_off(splits: Splits, replayed: bool) -> tuple[Splits, str]:
    """Fill an empty `source_validation` from `source_train`, and say in a sentence where its examples come from.

    If `source_train` is replayed, each fifth of its examples, at most `EXAMPLES`, is moved; otherwise all may be used.
    The sentence is empty if there are no source data but for testing.
    """
    if splits.source_validation:
        return splits, f"Source: {len(splits.source_validation)} validation examples."
    given = splits.source_train
    chosen = evenly(given, min(EXAMPLES, len(given) // _SHARE) if replayed else EXAMPLES)
    if not chosen:
        return splits, ""
    if not replayed:
        return replace(splits, source_validation=tuple(chosen)), f"Source: {len(chosen)} examples of source_train."
    moved = {id(one) for one in chosen}
    kept = tuple(one for one in given if id(one) not in moved)
    sentence = f"Source: {len(chosen)} examples that were parted off source_train and not replayed."
    return replace(splits, source_train=kept, source_validation=tuple(chosen)), sentence


def stand_in(base: Loaded, model: Model, audio: Sequence[Example], loader: Loader) -> tuple[list[Example], str]:
    """Return examples that stand in for validation data of the source, and a sentence on what they can tell.

    Args:
        base: The base. For an embedded model, the examples are of the kind that it was trained on.
        model: The base with the alphabet of the run.
        audio: Inputs of the target; for other bases, the base's own answers to them are the texts.
        loader: Batches the examples.
    """
    found, sentence = _embedded(base), "Source: {} synthetic examples like those that the embedded base was trained on."
    if not found:
        inputs = evenly(audio, EXAMPLES)
        answers = decode_examples(base.model, base.model.task, inputs, loader, "the base's answers")
        found = [with_text(example, text) for example, text in zip(inputs, answers, strict=True) if text.strip()]
        sentence = (
            "Source: no data, so the base's own answers to {} inputs of the target stand in. They tell how far the "
            "model moves from the base on these inputs; what it forgets elsewhere, only data of the source can tell."
        )
    usable = list(check_examples(found, model, True, "the stand-in")[0])
    return usable, sentence.format(len(usable))


def _embedded(base: Loaded) -> list[Example]:
    origin = base.header.get("base", {}).get("reference", base.reference)
    try:
        if origin == "us-english":
            from adapt.data.synthetic.accents import accents

            return list(accents(train=0, validation=0, test=0, source_test=0, source_validation=60).source_validation)
        if origin == "weather-en-de":
            from adapt.data.synthetic.domains import domains

            return list(domains(train=0, validation=0, test=0, source_test=0, source_validation=100).source_validation)
    except InputError as error:  # the synthesiser is an extra
        log.info("There is no stand-in for the source data of '%s': %s", origin, error)
    return []
