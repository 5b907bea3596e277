"""The error rates of groups of examples, with confidence intervals, by the first metric where lower is better."""

from collections.abc import Sequence

import numpy as np

from adapt.metrics import Metric, TextScores, bootstrap_intervals, unpaired_intervals


class GroupErrors:
    """Error rates of groups.

    Args:
        scores: The scores of all examples.
        group_of: The index of each example's group.
        unit_of: The index of each example's unit (itself or its speaker), which is resampled for intervals.

    `each` `(examples,)` is the error rate of each example. If higher is better in all metrics, it is the first metric,
    negated.
    """

    def __init__(self, scores: TextScores, group_of: Sequence[int], unit_of: Sequence[int]) -> None:
        self.scores = scores
        place = next((n for n, metric in enumerate(scores.metrics) if not metric.higher), 0)
        self.metric: Metric = scores.metrics[place]
        self._group_of, self._unit_of = np.array(group_of), np.array(unit_of)
        each = np.nan_to_num(scores.formulas[place](scores.statistics[place]))
        self.each = -each if self.metric.higher else each

    def scores_of(self, groups: Sequence[int]) -> TextScores:
        """Return the scores of some groups, with one row for each unit."""
        inside = np.isin(self._group_of, groups)
        return self.scores.pooled([np.flatnonzero(inside & (self._unit_of == unit)) for unit in self.units(groups)])

    def units(self, groups: Sequence[int]) -> list[int]:
        """Return the indices of the units of some groups."""
        return sorted(set(self._unit_of[np.isin(self._group_of, groups)].tolist()))

    def examples(self, group: int) -> np.ndarray:
        """Return the positions of the examples of a group."""
        return np.flatnonzero(self._group_of == group)

    def rate(self, groups: Sequence[int]) -> tuple[float, tuple[float, float]]:
        """Return the metric over some groups and its 95 % confidence interval."""
        scores = self.scores_of(groups)
        return scores.values()[self.metric.key], bootstrap_intervals(scores)[self.metric.key]

    def difference(self, group: int, reference: Sequence[int]) -> tuple[float, tuple[float, float]]:
        """Return how much worse a group is than its reference (positive: worse), and the 95 % confidence interval."""
        one, other = self.scores_of([group]), self.scores_of(reference)
        key, sign = self.metric.key, -1 if self.metric.higher else 1
        value = sign * (one.values()[key] - other.values()[key])
        low, high = sorted(sign * end for end in unpaired_intervals(one, other)[key])
        return value, (low, high)
