"""An n-gram of a model's output units, built from a user's own text: characters for CTC, tokens for decoders.

It is smoothed as by Witten and Bell (1991): with c(h, u) the count of unit u after the units h, and T(h) the number of
different units after h,

    p(u | h) = (c(h, u) + T(h) p(u | shorter h)) / (c(h) + T(h)),    p(u | nothing) backs off to 1 / units

Shallow fusion adds `weight * log(p * units)` to the score of each unit: what the text does not tell changes nothing.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np

from adapt.checks import check_count

_CACHED = 512  # contexts whose scores are kept
BEGIN = -1  # the unit before a text


class NGram:
    """A back-off n-gram.

    Args:
        texts: The output units of each text, each with the unit that ends it, if there is one.
        units: The number of output units.
        order: The largest number of units of an n-gram.
    """

    def __init__(self, texts: Iterable[Sequence[int]], units: int, order: int) -> None:
        check_count("order", order, 1)
        check_count("units", units, 1)
        self.units, self.order = units, order
        self._counts: dict[tuple[int, ...], Counter[int]] = {}
        for text in texts:
            line = [BEGIN, *text]
            for place in range(1, len(line)):
                for length in range(min(order, place + 1)):
                    self._counts.setdefault(tuple(line[place - length : place]), Counter())[line[place]] += 1
        self._scores: OrderedDict[tuple[int, ...], np.ndarray] = OrderedDict()

    def scores(self, before: Sequence[int]) -> np.ndarray:
        """Return `log(p * units)` of each unit after the units `before`, which start with `BEGIN`. `(units,)`."""
        context = tuple(before[-(self.order - 1) :]) if self.order > 1 else ()
        while context and context not in self._counts:  # unknown: it backs off without a loss
            context = context[1:]
        if context not in self._scores:
            self._scores[context] = np.log(self._shares(context) * self.units).astype(np.float32)
            if len(self._scores) > _CACHED:
                self._scores.popitem(last=False)
        return self._scores[context]

    def _shares(self, context: tuple[int, ...]) -> np.ndarray:
        shares = self._shares(context[1:]) if context else np.full(self.units, 1 / self.units)
        counts = self._counts.get(context)
        if counts is None:
            return shares
        different, total = len(counts), sum(counts.values())
        shares = shares * (different / (total + different))
        known = np.fromiter(counts, dtype=np.int64)
        shares[known] += np.fromiter(counts.values(), dtype=np.float64) / (total + different)
        return shares
