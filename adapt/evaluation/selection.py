"""Select neurons by one or more measures, and compare the selections."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from adapt.data.loader import Loader, as_loader
from adapt.data.manifest import Splits
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.files import read_json, write_json
from adapt.models.loaded import Loaded
from adapt.tuning.overlap import chance_overlap, overlap, rank_correlation
from adapt.tuning.selection import best_neurons, neuron_weights, score, select
from interventions.neurons import Neurons, Scores

TOP = 20  # how many of the highest-scoring neurons are listed


@dataclass(frozen=True)
class ScoredMeasure:
    """The scores of one measure and the neurons selected by them.

    Attributes:
        name: The name of the measure.
        scores: The score of each neuron.
        chosen: The selected neurons.
        summary: A sentence about the measure and the selection.
        weights_per_neuron: The number of incoming weights of a neuron, by site name.
    """

    name: str
    scores: Scores
    chosen: Neurons
    summary: str
    weights_per_neuron: Mapping[str, int]


@dataclass(frozen=True)
class MeasurePair:
    """How well two measures agree.

    Attributes:
        one: The name of the first measure.
        other: The name of the second measure.
        both: The number of neurons that both selected.
        overlap: The number of neurons that both selected, divided by the number that either selected (Jaccard index).
        chance: The overlap expected if as many neurons were selected at random at each site.
        correlation: Spearman's rank correlation of the scores of all neurons.
    """

    one: str
    other: str
    both: int
    overlap: float
    chance: float
    correlation: float


@dataclass(frozen=True)
class SelectionResult:
    """The scores and selections of one or more measures, as plain data. The first measure determines the result.

    Attributes:
        measures: The measures.
        pairs: How well each pair of measures agrees.
        seconds: The computing time of each measure, by name.
    """

    measures: Sequence[ScoredMeasure]
    pairs: Sequence[MeasurePair]
    seconds: Mapping[str, float]

    @property
    def summary(self) -> str:
        """A sentence about the selection."""
        return self.measures[0].summary

    def figures(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`."""
        return {
            "chosen": {measure.name: len(measure.chosen) for measure in self.measures},
            "pairs": [asdict(pair) for pair in self.pairs],
            "measure_seconds": dict(self.seconds),
        }

    def save(self, folder: Path | str, **provenance: Any) -> None:
        """Write `selection.json`, `selection.safetensors` and the scores of each measure.

        The scores of the first measure are in `scores.safetensors`, those of others in `scores-NAME.safetensors`.
        `provenance` is added to the file headers.
        """
        folder = Path(folder)
        for number, measure in enumerate(self.measures):
            measure.scores.save(folder / _scores_file(measure.name, number), measure=measure.name, **provenance)
        self.measures[0].chosen.save(folder / "selection.safetensors", summary=self.summary, **provenance)
        measures = {measure.name: _described(measure, self.measures) for measure in self.measures}
        write_json(folder / "selection.json", {"measures": measures, **self.figures()})

    @classmethod
    def load(cls, folder: Path | str) -> "SelectionResult":
        """Read what `save`, or a run of `innertune choose`, wrote.

        Raises:
            InputError: The folder does not contain a selection.
        """
        folder = Path(folder)
        try:
            values = read_json(folder / "selection.json")
            measures = []
            for number, (name, described) in enumerate(values["measures"].items()):
                scores = Scores.load(folder / _scores_file(name, number))
                rows = {row["name"]: row for row in described["sites"]}
                chosen = Neurons({site: rows[site.name]["chosen"] for site in scores.sites})
                weights = {name: row["weights_per_neuron"] for name, row in rows.items()}
                measures.append(ScoredMeasure(name, scores, chosen, described["summary"], weights))
            return cls(measures, [MeasurePair(**pair) for pair in values["pairs"]], values["measure_seconds"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"'{folder}' does not hold a selection of neurons ({error}).") from None


def choose(
    loaded: Loaded,
    splits: Splits,
    measures: str | Sequence[str] = "rgn",
    *,
    top: float | int = 0.05,
    weight_share: float | None = None,
    per_site: bool = False,
    sites: str | Sequence[str] = "*",
    examples: int | None = 64,
    seed: int = 0,
    loader: Loader | None = None,
) -> SelectionResult:
    """Score every neuron by each measure, and select those with the highest scores.

    Args:
        loaded: The model.
        splits: Training data of the target (`train`) and of the source (`source_train`), which the measures read.
        measures: Names of measures, as in `adapt.tuning.selection.score`; the first one's selection is the result.
        top: The share (0.05) or number (10) of neurons to select.
        weight_share: Instead of `top`: select neurons up to this share of the model's weights.
        per_site: Select this share or number at every site, instead of over all sites together.
        sites: Globs over the names of sites to include.
        examples: The maximum number of target examples, and of source examples, that a measure reads; None reads all.
        seed: Seed of random scores.
        loader: Batches the data; None uses the default.

    Returns:
        The scores and selections of all measures, and how well the measures agree.

    Raises:
        InputError: A measure does not exist or has no data to read, or the size of the selection is invalid.
    """
    names = [str(name) for name in measures] if isinstance(measures, (list, tuple)) else [str(measures)]
    labels = [Path(name).name for name in names]
    if not names or len(set(labels)) < len(labels):
        raise InputError(f"choose must be one or more different measures, got {', '.join(names) or 'none'}.")
    if not isinstance(per_site, bool):
        raise InputError(f"per_site must be true or false, got {per_site!r}.")
    model = loaded.model
    data = TuningData(splits.train, splits.source_train, as_loader(loader))
    scored: list[ScoredMeasure] = []
    seconds: dict[str, float] = {}
    for name, label in zip(names, labels, strict=True):
        started = time.perf_counter()
        try:
            scores, reason = score(model, name, data, sites, seed, examples)
            weights = neuron_weights(model, scores.sites)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"choose={name}: {error}") from None
        try:
            chosen = best_neurons(model, scores, top, per_site, weight_share)
        except ValueError as error:
            raise InputError(f"{'top' if weight_share is None else 'weight_share'}: {error}") from None
        seconds[label] = time.perf_counter() - started
        scored.append(ScoredMeasure(label, scores, chosen, select(model, chosen, reason).summary, weights))
    return SelectionResult(scored, [_compare(one, other) for one, other in combinations(scored, 2)], seconds)


def top_neurons(measure: ScoredMeasure, measures: Sequence[ScoredMeasure], count: int = TOP) -> list[dict[str, Any]]:
    """Return the neurons with the highest scores of `measure`, as plain values.

    `rank` is a neuron's rank within its layer; `other_ranks` are its ranks among all neurons by each of the other
    measures.
    """
    scores = measure.scores
    ranked = sorted(
        ((float(value), site, unit) for site in scores.sites for unit, value in enumerate(scores[site])),
        key=lambda neuron: -neuron[0],
    )
    others = [other for other in measures if other is not measure]
    return [
        {
            "site": site.name,
            "unit": unit,
            "score": value,
            "units": site.units,
            "rank": 1 + int((scores[site] > value).sum()),
            "chosen": (site.name, unit) in measure.chosen,
            "other_ranks": [_rank(other.scores, site.name, unit) for other in others],
        }
        for value, site, unit in ranked[:count]
    ]


def _rank(scores: Scores, site: str, unit: int) -> int:
    value = scores[site][unit]
    return 1 + sum(int((scores[other] > value).sum()) for other in scores.sites)


def _scores_file(name: str, number: int) -> str:
    return f"scores-{name.removesuffix('.safetensors')}.safetensors" if number else "scores.safetensors"


def _compare(one: ScoredMeasure, other: ScoredMeasure) -> MeasurePair:
    try:
        correlation = rank_correlation(one.scores, other.scores)
    except ValueError as error:
        raise InputError(f"choose={one.name} and {other.name}: {error}") from None
    return MeasurePair(
        one.name,
        other.name,
        len(one.chosen & other.chosen),
        overlap(one.chosen, other.chosen),
        chance_overlap(one.chosen, other.chosen),
        correlation,
    )


def _described(measure: ScoredMeasure, measures: Sequence[ScoredMeasure]) -> dict[str, Any]:
    others = [other.name for other in measures if other is not measure]
    top = [
        {**neuron, "other_ranks": dict(zip(others, neuron["other_ranks"], strict=True))}
        for neuron in top_neurons(measure, measures)
    ]
    sites = [
        {
            "name": site.name,
            "units": site.units,
            "chosen": list(measure.chosen[site]),
            "weights_per_neuron": measure.weights_per_neuron[site.name],
            "mean": float(measure.scores[site].mean()),
            "highest": float(measure.scores[site].max()),
        }
        for site in measure.scores.sites
    ]
    return {"summary": measure.summary, "sites": sites, "top": top}
