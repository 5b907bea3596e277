"""Divide utterances into training, validation and test data, with no speaker in two of them."""

import random
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal

from adapt.checks import check_choice, is_number
from adapt.data.describe import Manifest
from adapt.data.manifest import Utterance
from adapt.errors import InputError

By = Literal["speaker", "utterance"]
_ALL = 20_000  # divisions that are all tried
_ROUNDS = 50  # of improving a larger division


def split_data(
    data: Manifest, split: Sequence[float] = (0.8, 0.1, 0.1), split_by: By = "speaker", seed: int = 0
) -> dict[str, tuple[Utterance, ...]]:
    """Divide utterances into parts whose durations are as near as possible to the shares.

    No speaker is in two parts, and neither is the same audio.

    Args:
        data: the utterances.
        split: the shares of train, validation and test; or of train and test. They add up to 1.
        split_by: what stays together: the utterances of a speaker, or only the same audio ("utterance").
        seed: the seed for which of several equally good divisions is taken.

    Returns:
        The utterances of each part, in their order.

    Raises:
        InputError: the shares are wrong, or there are too few speakers, or utterances without one.
    """
    shares = check_shares(split)
    check_choice("split_by", split_by, ("speaker", "utterance"))
    groups = _groups(data, split_by)
    if len(groups) < len(shares):
        what = f"there are {len(groups)}" if len(groups) != 1 else "there is 1"
        advice = "Give fewer shares, or split_by=utterance." if split_by == "speaker" else "Give fewer shares."
        raise InputError(f"split needs at least {len(shares)} {split_by}s with different audio; {what}. {advice}")
    seconds = [sum(data.utterances[number].duration or 0.0 for number in group) for group in groups]
    order = list(range(len(groups)))
    random.Random(seed).shuffle(order)
    wanted = [share * sum(seconds) for share in shares.values()]
    chosen = _divide([seconds[number] for number in order], wanted)
    part = {number: names for group, names in zip(order, chosen, strict=True) for number in groups[group]}
    return {
        name: tuple(one for number, one in enumerate(data.utterances) if part[number] == place)
        for place, name in enumerate(shares)
    }


def check_shares(split: Any) -> dict[str, float]:
    """Return the share of each part by its name. Raises InputError if they are not shares of two or three parts."""
    names = {2: ("train", "test"), 3: ("train", "validation", "test")}
    values = list(split) if isinstance(split, Sequence) and not isinstance(split, str) else []
    right = len(values) in names and all(is_number(value) and 0 < value < 1 for value in values)
    if not right or abs(sum(values) - 1) > 1e-3:
        raise InputError(
            "split must be the shares of train, validation and test, or of train and test, which add up to 1, such as "
            f"[0.8,0.1,0.1]; got {split}."
        )
    return dict(zip(names[len(values)], values, strict=True))


def _groups(data: Manifest, split_by: By) -> list[list[int]]:
    """Return the numbers of the utterances that must stay together, group by group."""
    if split_by == "speaker" and data.facts.unknown:
        number = data.facts.unknown
        raise InputError(
            f"split_by=speaker needs the speaker of each utterance, and {number:,} of {len(data.utterances):,} have "
            "none. Add the column 'speaker', or give split_by=utterance: then a speaker may be in several parts."
        )
    roots: dict[str, str] = {}

    def root(key: str) -> str:
        while roots.setdefault(key, key) != key:
            key = roots[key]
        return key

    for utterance, digest in zip(data.utterances, data.digests, strict=True):
        if split_by == "speaker":
            roots[root(f"audio {digest}")] = root(f"speaker {utterance.speaker}")
    found: dict[str, list[int]] = {}
    for number, digest in enumerate(data.digests):
        found.setdefault(root(f"audio {digest}"), []).append(number)
    return list(found.values())


def _divide(seconds: Sequence[float], wanted: Sequence[float]) -> list[int]:
    """Return a part for each group, none of them empty, so that the parts' seconds are near the wanted ones."""
    parts = range(len(wanted))
    if len(wanted) ** len(seconds) <= _ALL:
        full = (one for one in product(parts, repeat=len(seconds)) if len(set(one)) == len(wanted))
        return list(min(full, key=lambda one: _distance(_totals(seconds, one, len(wanted)), wanted)))
    chosen = [0] * len(seconds)
    totals = [0.0] * len(wanted)
    empty = set(parts)
    for number in sorted(range(len(seconds)), key=lambda number: -seconds[number]):
        left = sum(1 for place in parts if place in empty)
        late = len(seconds) - sum(1 for one in totals if one) <= left
        places = empty if late and empty else parts
        chosen[number] = max(places, key=lambda place: wanted[place] - totals[place])
        totals[chosen[number]] += seconds[number]
        empty.discard(chosen[number])
    return _improved(chosen, seconds, totals, wanted)


def _improved(chosen: list[int], seconds: Sequence[float], totals: list[float], wanted: Sequence[float]) -> list[int]:
    """Move single groups to other parts as long as that brings the durations nearer."""
    for _ in range(_ROUNDS):
        moved = False
        for number, length in enumerate(seconds):
            own = chosen[number]
            if chosen.count(own) == 1:
                continue
            gains = {place: _gain(totals, wanted, own, place, length) for place in range(len(wanted)) if place != own}
            place = max(gains, key=lambda one: gains[one])
            if gains[place] > 1e-9:
                totals[own], totals[place] = totals[own] - length, totals[place] + length
                chosen[number], moved = place, True
        if not moved:
            break
    return chosen


def _gain(totals: Sequence[float], wanted: Sequence[float], own: int, place: int, length: float) -> float:
    before = abs(totals[own] - wanted[own]) + abs(totals[place] - wanted[place])
    return before - abs(totals[own] - length - wanted[own]) - abs(totals[place] + length - wanted[place])


def _totals(seconds: Sequence[float], chosen: Sequence[int], count: int) -> list[float]:
    totals = [0.0] * count
    for place, length in zip(chosen, seconds, strict=True):
        totals[place] += length
    return totals


def _distance(totals: Sequence[float], wanted: Sequence[float]) -> float:
    return sum(abs(total - one) for total, one in zip(totals, wanted, strict=True))


def sizes(parts: Mapping[str, Sequence[Utterance]]) -> str:
    """Return the sizes of the parts in words."""
    return "; ".join(
        f"{name}: {len(part):,} utterances, {sum(one.duration or 0.0 for one in part) / 60:.1f} min, "
        f"{len({one.speaker for one in part} - {None})} speakers"
        for name, part in parts.items()
    )
