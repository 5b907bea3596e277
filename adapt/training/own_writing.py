"""Training texts in a recogniser's own writing, so that it learns words and keeps its punctuation, case and digits."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from adapt.checks import check_choice
from adapt.data.example import Example, language_of
from adapt.data.kinds import with_text
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.rewrite import rewrite
from adapt.errors import InputError
from adapt.models.inference import decode_examples
from adapt.models.model import Model
from adapt.models.writing import choose_normaliser

WrittenLike = Literal["references", "model"]
log = logging.getLogger(__name__)


def check_written_like(model: Model, splits: Splits, written_like: str) -> None:
    """Raise InputError if there is no such writing, or the model has none of its own."""
    check_choice("written_like", written_like, ("references", "model"))
    if written_like == "model" and choose_normaliser(model, (*splits.train, *splits.validation)) is None:
        raise InputError(
            "written_like=model is for recognisers that write punctuation or digits. This model writes none, or "
            "translates. Leave it out."
        )


def in_own_writing(model: Model, splits: Splits, loader: Loader) -> Splits:
    """Return splits whose texts to learn are written as the model writes: those for training, validation and replay.

    The model transcribes each example once. Where its words agree with the text, they are taken as it writes them;
    elsewhere the text stays (`adapt.data.rewrite`).
    """
    parts = {name: getattr(splits, name) for name in ("train", "validation", "source_train")}
    return replace(splits, **{name: _rewritten(model, part, loader, name) for name, part in parts.items() if part})


def _rewritten(model: Model, examples: Sequence[Example], loader: Loader, name: str) -> tuple[Example, ...]:
    normaliser = choose_normaliser(model, examples)
    if normaliser is None:
        return tuple(examples)
    answers = decode_examples(model, model.task, examples, loader, f"own writing, {name}")
    texts = [
        rewrite(example.text, answer, normaliser, language_of(example))
        for example, answer in zip(examples, answers, strict=True)
    ]
    rewritten = [with_text(example, text) for example, text in zip(examples, texts, strict=True)]
    # What it can write by itself, it may not be able to write beside words of the reference.
    kept = tuple(old if model.unwritable(new) else new for old, new in zip(examples, rewritten, strict=True))
    changed = sum(old.text != new.text for old, new in zip(examples, kept, strict=True))
    log.info(
        "%s: %d of %d texts are learned in the model's own writing. The first: %s", name, changed, len(examples),
        kept[0].text,
    )  # fmt: skip
    return kept
