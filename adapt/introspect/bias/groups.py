"""Divide examples into groups to compare, and the speakers or examples of each group into folds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from adapt.data.example import Example
from adapt.errors import InputError

KEYS = ("accent", "gender", "domain", "speaker")  # the default keys, in the order in which they are tried
FOLDS = 32  # allow a p as small as 1e-8
MIN_SPEAKERS = 16  # per group, for speakers to be resampled by default


@dataclass(frozen=True)
class Division:
    """Examples divided into groups.

    Args:
        key: The key of the groups.
        groups: The names of the groups.
        left_out: The sizes of the groups that are left out.
        examples: The examples of the groups.
        group_of: The index of each example's group.
        resampled: The kind of unit that is resampled: "speaker" or "example".
        unit_of: The index of each example's unit.
        folds: The fold of each example.
    """

    key: str
    groups: Sequence[str]
    left_out: Mapping[str, int]
    examples: Sequence[Example]
    group_of: Sequence[int]
    resampled: str
    unit_of: Sequence[int]
    folds: Sequence[int]


def divide(
    examples: Sequence[Example],
    group_by: str | None,
    reference: str | None,
    min_examples: int,
    max_groups: int,
    resample: str | None,
) -> Division:
    """Divide examples into groups and folds. The arguments are those of `adapt.introspect.bias.measure.bias`.

    Raises:
        InputError: There are fewer than two groups, the reference is not among them, or there are too few speakers.
    """
    key = str(group_by or find_key(examples, min_examples))
    groups, left_out = groups_of(examples, key, min_examples, max_groups)
    if reference is not None and str(reference) not in groups:
        raise InputError(
            f"reference={reference}: no {key} of this name has at least {min_examples} examples. Those that do: "
            f"{', '.join(groups)}."
        )
    numbers = {name: number for number, name in enumerate(groups)}
    chosen = [example for example in examples if example.group(key) in numbers]
    group_of = [numbers[example.group(key)] for example in chosen]
    resampled, unit_of = resampling_units(chosen, group_of, key, resample)
    folds = folds_of(group_of, unit_of)
    return Division(key, groups, left_out, chosen, group_of, resampled, unit_of, folds)


def find_key(examples: Sequence[Example], min_examples: int) -> str:
    """Return the first of `KEYS` with two groups of at least `min_examples` examples.

    Raises:
        InputError: No key has two such groups.
    """
    for key in KEYS:
        count = Counter(example.group(key) for example in examples)
        if sum(size >= min_examples for name, size in count.items() if name != "unknown") > 1:
            return key
    raise InputError(
        f"group_by: the examples have no two groups of at least {min_examples} by {', '.join(KEYS)}. Name another key "
        "of the data, give more examples, or lower min_examples."
    )


def groups_of(
    examples: Sequence[Example], key: str, min_examples: int, max_groups: int
) -> tuple[list[str], dict[str, int]]:
    """Return the groups to compare, sorted by name, and the sizes of the groups that are left out.

    Args:
        examples: The examples.
        key: The key of the groups.
        min_examples: Groups with fewer examples are left out.
        max_groups: Only the largest groups are compared, at most this many.

    Raises:
        InputError: There are fewer than two groups to compare.
    """
    count = Counter(example.group(key) for example in examples)
    if list(count) == ["unknown"]:
        raise InputError(f"group_by={key}: no example has '{key}'. Name a key of the data, such as accent or speaker.")
    large = [name for name, size in count.items() if size >= min_examples and name != "unknown"]
    groups = sorted(sorted(large, key=lambda name: (-count[name], name))[:max_groups])
    if len(groups) < 2:
        sizes = ", ".join(f"{name} {size}" for name, size in count.most_common(8))
        raise InputError(
            f"group_by={key}: expected two groups of at least {min_examples} examples, got {sizes}. Give more "
            "examples, or lower min_examples."
        )
    return groups, {name: size for name, size in sorted(count.items()) if name not in groups}


def resampling_units(
    examples: Sequence[Example], group_of: Sequence[int], key: str, resample: str | None
) -> tuple[str, list[int]]:
    """Return the kind of unit that is resampled, "speaker" or "example", and the index of each example's unit.

    Args:
        examples: The examples.
        group_of: The index of each example's group.
        key: The key of the groups.
        resample: "speaker" or "example"; None for speakers if each group has enough of them.

    Raises:
        InputError: Speakers are asked for, and there are too few, or some are unknown.
    """
    speakers = [example.group("speaker") for example in examples]
    if resample is None:
        known = "unknown" not in speakers and key != "speaker"
        speakers_of: dict[int, set[str]] = {}
        for group, speaker in zip(group_of, speakers, strict=True):
            speakers_of.setdefault(group, set()).add(speaker)
        resample = "speaker" if known and min(map(len, speakers_of.values())) >= MIN_SPEAKERS else "example"
    if resample == "example":
        return "example", list(range(len(examples)))
    # A speaker in two groups is one unit in each.
    pairs = list(zip(group_of, speakers, strict=True))
    places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
    units = [places[pair] for pair in pairs]
    fewest = min(len({unit for unit, own in zip(units, group_of, strict=True) if own == g}) for g in set(group_of))
    if fewest < 4 or "unknown" in speakers:
        raise InputError(
            "resample=speaker needs at least 4 speakers in each group, and the speaker of every example; the group "
            f"with the fewest has {fewest}. Use resample=example; intervals then hold for these speakers only."
        )
    return "speaker", units


def folds_of(group_of: Sequence[int], unit_of: Sequence[int]) -> list[int]:
    """Return the fold of each example. The units of each group are dealt to folds in turn, in the order of a hash."""
    units_of: dict[int, list[int]] = {}
    for group, unit in dict.fromkeys(zip(group_of, unit_of, strict=True)):
        units_of.setdefault(group, []).append(unit)
    count = min(FOLDS, *map(len, units_of.values()))
    fold_of = {}
    for units in units_of.values():
        for place, unit in enumerate(
            sorted(units, key=lambda unit: (crc32(str(unit).encode("utf-8", "backslashreplace")), unit))
        ):
            fold_of[unit] = place % count
    return [fold_of[unit] for unit in unit_of]
