"""`measure=bias`: compare groups of examples by error rates and by the neurons that respond differently to them."""

from collections.abc import Sequence
from typing import Any

from adapt.checks import check_counts
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.introspect.bias.comparisons import Comparison, find_diverging, find_error_linked
from adapt.introspect.bias.errors import GroupErrors
from adapt.introspect.bias.group_results import GroupComparison, GroupRate
from adapt.introspect.bias.groups import divide
from adapt.introspect.bias.maps import divergence_maps
from adapt.introspect.bias.result import BiasResult
from adapt.introspect.bias.rows import layer_rows, neuron_rows
from adapt.introspect.bias.shift import ShiftEffect, measure_shifts
from adapt.introspect.bias.streamed import StreamedSums
from adapt.introspect.profiles.groupings import groupings
from adapt.introspect.reading import select_examples, select_sites
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.model import DecoderModel, Model
from adapt.models.writing import normalising

OTHERS = "all others"


def bias(
    loaded: Loaded,
    splits: Splits,
    loader: Loader | None = None,
    group_by: str | None = None,
    reference: str | None = None,
    content: str | Sequence[str] | None = None,
    false_discovery_rate: float = 0.01,
    sites: str | Sequence[str] = "*",
    part: str | None = None,
    examples: str | Sequence[str] = ("test", "source_test"),
    min_examples: int = 20,
    max_groups: int = 12,
    resample: str | None = None,
    confirm: bool = False,
    seed: int = 0,
) -> BiasResult:
    """Compare groups of examples.

    Args:
        loaded: The model.
        splits: The data.
        loader: Makes the batches; None for the default.
        group_by: The key of the groups; None for the first of accent, gender, domain and speaker with two groups.
        reference: The group that the others are compared with. None compares each group with all
            others; if there are only two groups, it compares the one with the higher error rate with the other.
        content: The keys of the contents within which neurons are compared; "none" for all steps together. None for
            the letter or token of the reference text, and phonemes in a speech encoder with data that have them.
        false_discovery_rate: The expected share of false positives among the neurons that are reported.
        sites: A glob over the names of sites, or a list of them.
        part: Only sites in this part of the model: encoder, decoder or cross-attention.
        examples: The names of the splits to read.
        min_examples: Groups with fewer examples are left out.
        max_groups: Only the largest groups are compared, at most this many.
        resample: What is resampled for intervals and dealt into folds: "speaker" or "example"; None for speakers if
            each group has enough.
        confirm: Shift the diverging neurons towards the reference, and measure the effect on errors.
        seed: Seed of the random control neurons of `confirm`.

    Raises:
        InputError: There are fewer than two groups to compare, or an argument is invalid.
    """
    model, loader = loaded.model, loader or Loader()
    places = select_sites(model, sites, part)
    # The units of the output layer are the output itself, and differ wherever the output does.
    places = [site for site in places if site.name != model.sites[-1].name] or places
    check_counts(2, max_groups=max_groups)
    check_counts(8, min_examples=min_examples)
    check_counts(0, seed=seed)
    _check(false_discovery_rate, resample, confirm, content)
    chosen, _ = select_examples(model, splits, examples)
    division = divide(chosen, group_by, reference, min_examples, max_groups, resample)
    chosen, group_of, folds = division.examples, division.group_of, division.folds
    contents = groupings(model, chosen, _content_keys(model, chosen, content), max_groups=60)

    texts = decode_examples(model, model.task, chosen, loader)
    with normalising([model], chosen):
        scores = model.task.score(chosen, texts)
    errors = GroupErrors(scores, group_of, division.unit_of)
    streamed = StreamedSums(model, chosen, loader, contents, group_of, folds, places)
    comparisons = _compare(division.groups, reference, errors, streamed)
    comparisons = find_diverging(comparisons, false_discovery_rate)
    diverging = {c.number: [c.divergences[site] for site in c.diverging.used] for c in comparisons if len(c.diverging)}
    by_speaker, each = division.resampled == "speaker", errors.each.tolist()
    links = streamed.links(each, by_speaker, diverging)
    comparisons = find_error_linked(comparisons, links, false_discovery_rate)
    with normalising([model], chosen):
        shifts = _shifts(model, chosen, errors, loader, comparisons, seed) if confirm else {}

    rates = _rates(division.groups, comparisons, errors)
    order = {rate.group: place for place, rate in enumerate(rates)}
    comparisons.sort(key=lambda comparison: order[comparison.group])
    return BiasResult(
        group_by=division.key,
        example_name=model.task.example_name,
        metric=errors.metric,
        resampled=division.resampled,
        folds=max(folds) + 1,
        false_discovery_rate=false_discovery_rate,
        left_out=division.left_out,
        rates=rates,
        comparisons=tuple(_plain(comparison, shifts.get(comparison.number, ())) for comparison in comparisons),
        maps=divergence_maps(comparisons),
    )


def _check(level: Any, resample: Any, confirm: Any, content: Any) -> None:
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1:
        raise InputError(f"false_discovery_rate must be a share between 0 and 1; got {level!r}.")
    if resample not in (None, "speaker", "example"):
        raise InputError(f"resample must be speaker, example, or null for the default; got {resample!r}.")
    if not isinstance(confirm, bool):
        raise InputError(f"confirm must be true or false; got {confirm!r}.")
    if content is not None and not isinstance(content, (str, Sequence)):
        raise InputError(f"content must be a key such as phoneme or aligned_letter, or none; got {content!r}.")


def _content_keys(model: Model, examples: Sequence[Example], content: str | Sequence[str] | None) -> list[str]:
    if content is None:
        if not isinstance(model, DecoderModel):
            return ["aligned_letter"]
        phonemes = any(example.phonemes for example in examples)
        return ["phoneme", "token"] if phonemes and model.reads_audio else ["token"]
    if content == "none":
        return []
    return [content] if isinstance(content, str) else [str(key) for key in content]


def _compare(
    groups: Sequence[str], reference: str | None, errors: GroupErrors, streamed: StreamedSums
) -> list[Comparison]:
    pairs = _pairs(groups, reference, errors)
    comparisons = []
    for (number, others), by_site in zip(pairs, streamed.divergences(pairs), strict=True):
        name = groups[others[0]] if len(others) == 1 else OTHERS
        comparisons.append(Comparison(groups[number], name, number, tuple(others), by_site))
    if not any(comparison.divergences for comparison in comparisons):
        raise InputError("content: no two groups have the same content at any site. Try content=none.")
    return comparisons


def _pairs(groups: Sequence[str], reference: str | None, errors: GroupErrors) -> list[tuple[int, list[int]]]:
    """Return each comparison: the index of a group, and the indices of the groups that are its reference."""
    numbers = range(len(groups))
    if reference is not None:
        other = groups.index(str(reference))
        return [(number, [other]) for number in numbers if number != other]
    if len(groups) == 2:
        worse = 0 if errors.difference(0, [1])[0] >= 0 else 1
        return [(worse, [1 - worse])]
    return [(number, [other for other in numbers if other != number]) for number in numbers]


def _shifts(
    model: Model,
    examples: Sequence[Example],
    errors: GroupErrors,
    loader: Loader,
    comparisons: Sequence[Comparison],
    seed: int,
) -> dict[int, list[ShiftEffect]]:
    """Shift the diverging neurons of the groups that are significantly worse. Returns the effects by group index."""
    shifts = {}
    for each in comparisons:
        if len(each.diverging) and errors.difference(each.number, each.reference_numbers)[1][0] > 0:
            places = errors.examples(each.number)
            chosen, unmodified = [examples[place] for place in places], errors.scores[places]
            shifts[each.number] = measure_shifts(
                model, chosen, unmodified, loader, each.diverging, each.divergences, seed
            )
    return shifts


def _rates(groups: Sequence[str], comparisons: Sequence[Comparison], errors: GroupErrors) -> tuple[GroupRate, ...]:
    """Return the error rate of each group, the highest first."""
    compared = {comparison.number: comparison for comparison in comparisons}
    rates = []
    for number, name in enumerate(groups):
        rate, interval = errors.rate([number])
        versus: dict[str, Any] = {}
        if number in compared:
            others = compared[number].reference_numbers
            difference, difference_interval = errors.difference(number, others)
            versus = {
                "reference": compared[number].reference,
                "reference_rate": errors.rate(others)[0],
                "difference": difference,
                "difference_interval": difference_interval,
            }
        examples, units = len(errors.examples(number)), len(errors.units([number]))
        rates.append(GroupRate(name, examples, units, rate, interval, **versus))
    return tuple(sorted(rates, key=lambda rate: -rate.rate))


def _plain(comparison: Comparison, shifts: Sequence[ShiftEffect]) -> GroupComparison:
    if not comparison.divergences:
        return GroupComparison(comparison.group, comparison.reference)
    return GroupComparison(
        group=comparison.group,
        reference=comparison.reference,
        layers=layer_rows(comparison),
        neurons=neuron_rows(comparison),
        scores=comparison.scores,
        top_site=comparison.top_site.name,
        shifts=tuple(shifts),
    )
