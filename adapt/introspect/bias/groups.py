"""Which groups of examples are held against each other, and how their speakers or examples are dealt into folds."""

from collections import Counter
from collections.abc import Sequence
from zlib import crc32

from adapt.data.example import Example
from adapt.errors import InputError

KEYS = ("accent", "gender", "domain", "speaker")  # that groups are looked for by, in this order
FOLDS = 32  # with these, p can be as small as 1e-8
FEWEST_SPEAKERS = 16  # in each group, for figures that hold for other speakers too


def find_key(examples: Sequence[Example], least: int) -> str:
    """The first of `KEYS` by which there are two groups of at least `least` examples.

    Raises:
        InputError: there is none.
    """
    for key in KEYS:
        count = Counter(example.group(key) for example in examples)
        if sum(size >= least for name, size in count.items() if name != "unknown") > 1:
            return key
    raise InputError(
        f"measure.by: the examples have no two groups of at least {least} by {', '.join(KEYS)}. Name another key of "
        "the data, give more examples, or lower measure.least."
    )


def groups_of(examples: Sequence[Example], by: str, least: int, most: int) -> tuple[list[str], dict[str, int]]:
    """The names of the groups of at least `least` examples, the `most` largest, and the sizes of those left out.

    Raises:
        InputError: there are no two.
    """
    count = Counter(example.group(by) for example in examples)
    if list(count) == ["unknown"]:
        raise InputError(f"measure.by={by}: no example has '{by}'. Name a key of the data, such as accent or speaker.")
    large = [name for name, size in count.items() if size >= least and name != "unknown"]
    kept = sorted(sorted(large, key=lambda name: (-count[name], name))[:most])
    if len(kept) < 2:
        sizes = ", ".join(f"{name} {size}" for name, size in count.most_common(8))
        raise InputError(
            f"measure.by={by}: two groups of at least {least} examples are needed, and there are {sizes}. Give more "
            "examples, or lower measure.least."
        )
    return kept, {name: size for name, size in sorted(count.items()) if name not in kept}


def units_of(examples: Sequence[Example], of: Sequence[int], by: str, resample: str | None) -> tuple[str, list[int]]:
    """What is resampled, as a word, and for each example its number; `of` is the group of each.

    Raises:
        InputError: speakers are asked for, and there are too few, or some are not known.
    """
    speakers = [example.group("speaker") for example in examples]
    if resample is None:
        known = "unknown" not in speakers and by != "speaker"
        each: dict[int, set[str]] = {}
        for group, speaker in zip(of, speakers, strict=True):
            each.setdefault(group, set()).add(speaker)
        resample = "speaker" if known and min(map(len, each.values())) >= FEWEST_SPEAKERS else "example"
    if resample == "example":
        return "example", list(range(len(examples)))
    # One who is in two groups counts in each: what they have in common is not resampled.
    both = list(zip(of, speakers, strict=True))
    places = {own: place for place, own in enumerate(dict.fromkeys(both))}
    units = [places[own] for own in both]
    fewest = min(len({unit for unit, own in zip(units, of, strict=True) if own == group}) for group in set(of))
    if fewest < 4 or "unknown" in speakers:
        raise InputError(
            "measure.resample=speaker takes at least 4 speakers in each group, all of whom are known; there are "
            f"{fewest}. Use measure.resample=example, and remember that figures are of these speakers then."
        )
    return "speaker", units


def folds_of(of: Sequence[int], units: Sequence[int]) -> list[int]:
    """The fold of each example: each group's units are dealt in turn, in an order that says nothing."""
    own: dict[int, list[int]] = {}
    for group, unit in dict.fromkeys(zip(of, units, strict=True)):
        own.setdefault(group, []).append(unit)
    count = min(FOLDS, *map(len, own.values()))
    dealt = {}
    for found in own.values():
        for place, unit in enumerate(sorted(found, key=lambda unit: (crc32(str(unit).encode()), unit))):
            dealt[unit] = place % count
    return [dealt[unit] for unit in units]
