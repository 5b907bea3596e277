"""A chosen batch: the candidates with their scores, why they were chosen, and random batches beside them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.planning.batch import Pick, coverage, greedy_batch, pool_weights, random_batch, root_weights
from adapt.planning.candidates import ranks

SPEAKERS = 0.2  # the share of the speakers in what a batch should cover, if they are known
RANDOM_BATCHES = 20  # for the comparison with random choice
_UNIT_NAMES = {"letters": "groups of letters", "words": "words", "phonemes": "pairs of phonemes"}
_SAID = {"gradient": "gradient", "confusion": "confusion", "disagreement": "disagreement between speeds"}


@dataclass(frozen=True)
class Candidate:
    """A candidate with its scores.

    Attributes:
        number: Its place among the candidates, from 0.
        example: The recording or sentence pair; None for a sentence to read.
        text: The model's hypothesis for it, or the sentence itself.
        cost: Its minutes; 1 if the budget is a number.
        scores: The value of each measure; NaN where it could not be measured.
        score: The score by which the criterion counts it, from 0 to 1.
        rank: Its place in the batch, from 1; None if it was not chosen.
        reason: Why it was chosen; empty otherwise.
    """

    number: int
    example: Example | None
    text: str
    cost: float
    scores: Mapping[str, float]
    score: float
    rank: int | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """The audio file, the source sentence, or the sentence to read."""
        if isinstance(self.example, Pair):
            return self.example.source
        return self.text if self.example is None else self.example.name


@dataclass(frozen=True)
class NextBatch:
    """The examples to label next.

    Attributes:
        kind: "transcribe", "translate" or "read".
        criterion: By what they were chosen.
        units: The units whose coverage counts.
        budget: The budget, in `unit`.
        unit: "minutes" or "examples".
        candidates: The chosen candidates in the order of choice, then the others by their score.
        comparison: For each figure, such as "coverage", its value for the chosen batch ("chosen"), the mean of random
            batches with the same budget ("random"), and the least and the most of these ("random_range").
    """

    kind: str
    criterion: str
    units: str
    budget: float
    unit: str
    candidates: tuple[Candidate, ...]
    comparison: Mapping[str, Mapping[str, Any]]

    @property
    def chosen(self) -> tuple[Candidate, ...]:
        """The chosen candidates, the first chosen first."""
        return tuple(candidate for candidate in self.candidates if candidate.rank is not None)

    @property
    def spent(self) -> float:
        """The sum of the costs of the chosen candidates."""
        return sum(candidate.cost for candidate in self.chosen)

    @property
    def sentence(self) -> str:
        """What was chosen, and how it compares with random choice, in a sentence."""
        amount = f", {self.spent:.3g} minutes" if self.unit == "minutes" else ""
        covered = self.comparison["coverage"]
        noun = "sentences" if self.kind == "translate" or self.kind == "read" else "recordings"
        return (
            f"{len(self.chosen)} of {len(self.candidates)} {noun}{amount}. They and the known data cover "
            f"{100 * covered['chosen']:.1f} % of the {_UNIT_NAMES[self.units]} of all candidates; random choice covers "
            f"{100 * covered['random']:.1f} %."
        )

    def figures(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`."""
        return {
            "kind": self.kind, "criterion": self.criterion, "units": self.units, "budget": self.budget,
            "unit": self.unit, "spent": self.spent, "chosen": len(self.chosen), "candidates": len(self.candidates),
            "sentence": self.sentence,
            "comparison": {name: dict(values) for name, values in self.comparison.items()},
        }  # fmt: skip


@dataclass(frozen=True)
class Pool:
    """The candidates as the choice sees them.

    Attributes:
        examples: The recordings or sentence pairs; None for sentences to read.
        texts: The model's hypothesis for each candidate, or the sentence to read.
        counts: The units of each candidate.
        known: The units of the data that is known.
        speakers: The speaker of each candidate as a unit, `{"speaker anna": 1}`; empty if unknown.
        costs: The minutes of each candidate, or 1.
        values: For each measure, `(candidates,)`; NaN where it could not be measured.
    """

    examples: Sequence[Example] | None
    texts: Sequence[str]
    counts: Sequence[Counter[str]]
    known: Counter[str]
    costs: Sequence[float]
    values: Mapping[str, Tensor]
    speakers: Sequence[Counter[str]] = ()

    def greedy(self, budget: float, score: Sequence[float]) -> list[Pick]:
        """Choose a batch that covers the units and the speakers."""
        if not any(self.speakers):
            return greedy_batch(self.counts, self.costs, budget, score, self.known)
        both = [units + speaker for units, speaker in zip(self.counts, self.speakers, strict=True)]
        weights = root_weights(self.counts, 1 - SPEAKERS) | root_weights(self.speakers, SPEAKERS)
        return greedy_batch(both, self.costs, budget, score, self.known, weights)

    def facts(self, batch: Sequence[int], weights: Mapping[str, float]) -> dict[str, float]:
        """Return the figures by which batches are compared."""
        facts = {"coverage": coverage([self.counts[n] for n in batch], weights, self.known)}
        facts["units"] = float(len({unit for n in batch for unit in self.counts[n]}))
        facts["examples"] = float(len(batch))
        if any(self.speakers):
            facts["speakers"] = float(len({speaker for n in batch for speaker in self.speakers[n]}))
        means = {name: float(torch.nanmean(values[list(batch)])) for name, values in self.values.items()}
        return facts | {name: value for name, value in means.items() if math.isfinite(value)}


def choose_batch(
    pool: Pool, kind: str, criterion: str, units: str, minutes: float | None, number: int | None, seed: int
) -> NextBatch:
    """Choose a batch within the budget, `minutes` or else `number`, and compare it with random ones.

    Args:
        pool: The candidates.
        kind: What to do with them: "transcribe", "translate" or "read".
        criterion: "random" draws; any other covers units, weighted by the mean rank of the pool's measures.
        units: The kind of units, for the result.
        minutes: The budget in minutes; None for `number`.
        number: The budget as a number.
        seed: The seed of random choices.

    Raises:
        InputError: no candidate fits the budget.
    """
    budget, unit = (float(number or 0), "examples") if minutes is None else (float(minutes), "minutes")
    if min(pool.costs) > budget:
        raise InputError(f"No candidate fits into {budget:g} {unit}: the shortest takes {min(pool.costs):.3g}.")
    ranked = {name: ranks(values) for name, values in pool.values.items()}
    score = torch.stack(list(ranked.values())).mean(0).tolist() if ranked else [1.0] * len(pool.costs)
    weights = pool_weights(pool.counts)
    if criterion == "random":
        reasons = dict.fromkeys(random_batch(pool.costs, budget, seed), "random")
    else:
        picks = pool.greedy(budget, score)
        reasons = {pick.number: _reason(pick.number, pick.units, ranked) for pick in picks}
    place = {chosen: rank for rank, chosen in enumerate(reasons, start=1)}
    candidates = [
        Candidate(
            n, None if pool.examples is None else pool.examples[n], pool.texts[n], pool.costs[n],
            {name: float(values[n]) for name, values in pool.values.items()}, score[n], place.get(n),
            reasons.get(n, ""),
        )
        for n in range(len(pool.costs))
    ]  # fmt: skip
    candidates.sort(key=lambda one: (one.rank is None, one.rank or 0, -one.score, one.number))
    comparison = _compared(pool, list(reasons), budget, weights, seed)
    return NextBatch(kind, criterion, units, budget, unit, tuple(candidates), comparison)


def _compared(
    pool: Pool, chosen: Sequence[int], budget: float, weights: Mapping[str, float], seed: int
) -> dict[str, dict[str, Any]]:
    """Return each figure of the chosen batch beside those of random batches with the same budget."""
    drawn = [
        pool.facts(random_batch(pool.costs, budget, seed + 1 + number), weights) for number in range(RANDOM_BATCHES)
    ]
    compared = {}
    for name, value in pool.facts(chosen, weights).items():
        others = [facts[name] for facts in drawn if name in facts] or [math.nan]
        compared[name] = {"chosen": value, "random": fmean(others), "random_range": (min(others), max(others))}
    return compared


def _reason(number: int, new: Sequence[str], ranked: Mapping[str, Tensor]) -> str:
    parts = [f"covers {', '.join(repr(unit) for unit in new)}"] if new else []
    for name, own in ranked.items():
        share = 100 * (1 - float(own[number]))
        if share <= 50:
            parts.append(f"{_SAID[name]} in the top {max(1, math.ceil(share))} %")
    return "; ".join(parts)
