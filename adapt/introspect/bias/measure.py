"""`measure=bias`: for which groups the model errs more, where inside it they part from others, and by which neurons."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from adapt.checks import check_counts, check_flag, check_share
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.introspect.bias.comparisons import Compared, discover, discover_links
from adapt.introspect.bias.divergence import compare
from adapt.introspect.bias.error_link import link_errors
from adapt.introspect.bias.errors import GroupErrors
from adapt.introspect.bias.groups import find_key, folds_of, groups_of, units_of
from adapt.introspect.bias.result import MeasuredBias
from adapt.introspect.bias.shift import move_together
from adapt.introspect.bias.sums import read_content
from adapt.introspect.profiles.groups import groupings
from adapt.introspect.reading import examples_of, sites_named
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.model import DecoderModel, Model

OTHERS = "all others"


def bias(
    loaded: Loaded,
    splits: Splits,
    loader: Loader,
    by: str | None = None,
    reference: str | None = None,
    content: str | Sequence[str] | None = None,
    false_discoveries: float = 0.01,
    sites: str | Sequence[str] = "*",
    part: str | None = None,
    examples: str | Sequence[str] = ("test", "source_test"),
    least: int = 20,
    most: int = 12,
    resample: str | None = None,
    confirm: bool = False,
    seed: int = 0,
) -> MeasuredBias:
    """Compare the groups of examples that have the same value of `by` (None: the first of accent, gender, domain and
    speaker that tells groups apart), each with the `reference` group, or (None) with all others; of two groups, the one
    that is read worse with the other. Groups of fewer than `least` examples are left out, as are all but the `most`
    largest.

    Neurons are compared within `content` (None: the letter that should be written, or the token; phonemes in a speech
    encoder whose data have them; "none": all steps together). What is resampled, dealt into folds and counted are
    speakers or examples (`resample`; None: speakers, where each group has enough of them). `confirm` moves the neurons
    that part towards the reference, and measures what it does.

    Raises:
        InputError: there are no two such groups, or an option is none.
    """
    model = loaded.model
    places = sites_named(model, sites, part)
    # Units of the output layer are what is written, and part wherever other things are.
    places = [site for site in places if site.name != model.sites[-1].name] or places
    check_counts(2, most=most)
    check_counts(8, least=least)
    check_counts(0, seed=seed)
    _check(false_discoveries, resample, confirm, content)
    chosen, _ = examples_of(model, splits, examples)
    by = by or find_key(chosen, least)
    groups, left_out = groups_of(chosen, str(by), least, most)
    if reference is not None and str(reference) not in groups:
        raise InputError(
            f"measure.reference={reference}: no {by} is called that and has {least} examples; there are "
            f"{', '.join(groups)}."
        )
    numbers = {name: number for number, name in enumerate(groups)}
    chosen = [example for example in chosen if example.group(str(by)) in numbers]
    of = [numbers[example.group(str(by))] for example in chosen]
    unit, units = units_of(chosen, of, str(by), resample)
    folds = folds_of(of, units)
    made = groupings(model, chosen, _contents(model, chosen, content), most=60)

    texts = decode_examples(model, model.task, chosen, loader)
    quality = model.task.evaluate([example.text for example in chosen], texts)
    errors = GroupErrors(quality, of, units)
    sums = read_content(model, chosen, loader, made, of, folds, places)
    pairs = _pairs(groups, reference, errors)
    compared = []
    for group, others in pairs:
        found = [own for site in places if (own := compare(sums, site, [group], others)) is not None]
        against = groups[others[0]] if len(others) == 1 else OTHERS
        compared.append(Compared(groups[group], against, group, tuple(others), {own.site: own for own in found}))
    if not any(own.partings for own in compared):
        raise InputError("measure.content: no two groups have the same content at any site. Try measure.content=none.")
    discover(compared, false_discoveries)
    parted = {own.number: [own.partings[site] for site in own.neurons.used] for own in compared if len(own.neurons)}
    wrong = errors.each.tolist()
    links = link_errors(model, chosen, wrong, loader, made, of, folds, sums, unit == "speaker", parted)
    discover_links(compared, links, false_discoveries)
    if confirm:
        for own in compared:
            if len(own.neurons) and errors.difference(own.number, own.others)[1][0] > 0:
                theirs = np.flatnonzero(np.array(of) == own.number)
                own.moved = move_together(
                    model, [chosen[n] for n in theirs], quality[theirs], loader, own.neurons, own.partings, seed
                )
    return MeasuredBias(
        model, str(by), tuple(groups), left_out, unit, max(folds) + 1, false_discoveries, errors, tuple(compared)
    )


def _check(level: Any, resample: Any, confirm: Any, content: Any) -> None:
    check_share("false_discoveries", level)
    if resample not in (None, "speaker", "example"):
        raise InputError(f"measure.resample must be speaker, example, or null for what fits, got {resample!r}.")
    check_flag("confirm", confirm)
    if content is not None and not isinstance(content, (str, Sequence)):
        raise InputError(f"measure.content is a key such as phoneme or aligned_letter, or none; got {content!r}.")


def _contents(model: Model, examples: Sequence[Example], content: Any) -> list[str]:
    phonemes = any(example.phonemes for example in examples)
    if content is None:
        if not isinstance(model, DecoderModel):
            return ["aligned_letter"]
        return ["phoneme", "token"] if phonemes and model.reader.unit != "tokens" else ["token"]
    if content == "none":
        return []
    return [content] if isinstance(content, str) else [str(key) for key in content]


def _pairs(groups: Sequence[str], reference: str | None, errors: GroupErrors) -> list[tuple[int, list[int]]]:
    """Which group is held against which others."""
    numbers = range(len(groups))
    if reference is not None:
        other = groups.index(str(reference))
        return [(number, [other]) for number in numbers if number != other]
    if len(groups) == 2:
        worse = 0 if errors.difference(0, [1])[0] >= 0 else 1
        return [(worse, [1 - worse])]
    return [(number, [other for other in numbers if other != number]) for number in numbers]
