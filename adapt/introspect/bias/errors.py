"""How much groups of examples err, by the task's first metric of which less is better, and how sure that is."""

from collections.abc import Sequence

import numpy as np

from adapt.metrics import Metric, TextScores, bootstrap_intervals, unpaired_intervals


class GroupErrors:
    """Error rates of groups, with intervals over what is resampled."""

    def __init__(self, quality: TextScores, of: Sequence[int], units: Sequence[int]) -> None:
        self.quality = quality
        self.place = next((n for n, metric in enumerate(quality.metrics) if not metric.higher), 0)
        self.metric: Metric = quality.metrics[self.place]
        self._of, self._units = np.array(of), np.array(units)
        each = quality.formulas[self.place](quality.statistics[self.place])
        self.each = np.nan_to_num(each) * (-1 if self.metric.higher else 1)

    def group(self, numbers: Sequence[int]) -> TextScores:
        """The quality of some groups, a row each speaker or example."""
        inside = np.isin(self._of, numbers)
        return self.quality.pooled([np.flatnonzero(inside & (self._units == u)) for u in self.units(numbers)])

    def units(self, numbers: Sequence[int]) -> list[int]:
        return sorted(set(self._units[np.isin(self._of, numbers)].tolist()))

    def count(self, number: int) -> int:
        return int((self._of == number).sum())

    def rate(self, numbers: Sequence[int]) -> tuple[float, tuple[float, float]]:
        own = self.group(numbers)
        return own.values()[self.metric.key], bootstrap_intervals(own)[self.metric.key]

    def difference(self, number: int, others: Sequence[int]) -> tuple[float, tuple[float, float]]:
        """How much more a group errs than others (for a metric of which more is better, how much less it has)."""
        one, other = self.group([number]), self.group(others)
        key, sign = self.metric.key, -1 if self.metric.higher else 1
        value = sign * (one.values()[key] - other.values()[key])
        low, high = sorted(sign * end for end in unpaired_intervals(one, other)[key])
        return value, (low, high)
