"""Centred kernel alignment of all layers with all others, from one pass and in bounded memory."""

from collections.abc import Sequence

import torch
from torch import Tensor


class CKA:
    """Linear CKA (Kornblith et al. 2019, section 3), debiased and by minibatches (Nguyen et al. 2021, section 3.1).

    Rows are taken in blocks. Of each block, every layer's Gram matrix is centred so that its products with the others
    are unbiased estimates of HSIC (Song et al. 2012, equation 5), here all pairs by one matrix product. These are
    averaged over the blocks before they are divided: what is compared may be of any number of rows from 4, needs no
    more of them than units, and gives no not-a-number. Rows that say nothing of each other come out at 0 on average,
    and somewhat below it as often as above.

    Memory is `block` rows of each layer. How rows come (in how large batches) changes nothing.
    """

    def __init__(self, block: int = 64) -> None:
        if block < 4:
            raise ValueError(f"HSIC needs blocks of 4 rows or more, got block={block}.")
        self.block, self.count = block, 0
        self._waiting: list[list[Tensor]] = []
        self._held = 0
        self._sum: Tensor | None = None

    @torch.no_grad()
    def update(self, rows: Sequence[Tensor]) -> None:
        """Take in `(rows, units)` of each layer, the same rows of all.

        Raises:
            ValueError: there are more of one layer than of another, or another number of layers than before.
        """
        lengths = {len(own) for own in rows}
        if len(lengths) != 1 or (self._waiting and len(self._waiting) != len(rows)):
            raise ValueError(f"Expected as many rows of each layer, and the same layers each time; got {lengths} rows.")
        self._waiting = self._waiting or [[] for _ in rows]
        for held, own in zip(self._waiting, rows, strict=True):
            held.append(own)
        self._held += lengths.pop()
        while self._held >= self.block:
            self._take(self.block)

    @torch.no_grad()
    def result(self) -> Tensor:
        """`(layers, layers)`, float64; 0 beside a layer that does not vary. Up to 3 last rows have no part in it.

        Raises:
            ValueError: there were fewer than 4 rows.
        """
        if self._held >= 4:
            self._take(self._held)
        if self._sum is None:
            raise ValueError(f"CKA needs 4 rows or more, got {self._held}. Give more examples, or more steps of each.")
        own = self._sum.diagonal().clamp(min=0).sqrt()
        both = torch.outer(own, own)
        return torch.where(both > 0, self._sum / both, 0.0)

    def _take(self, number: int) -> None:
        block = [torch.cat(held) for held in self._waiting]
        self._waiting = [[own[number:]] for own in block]
        self._held -= number
        self.count += number
        grams = centred_grams([own[:number] for own in block]).flatten(1)
        # Each block's own factor, 1 / (n (n - 3)), times its number of rows, so that a last, smaller one counts less.
        hsic = grams @ grams.T / (number - 3)
        self._sum = hsic if self._sum is None else self._sum + hsic


def centred_grams(rows: Sequence[Tensor]) -> Tensor:
    """The Gram matrices `(layers, n, n)` of each layer's rows `(n, units)`, without their diagonals, rows and columns
    centred as an unbiased estimate needs it (U-centring, Székely & Rizzo 2014, section 3.1). Float64; all zeros where
    no unit varies.
    """
    n, found, sizes = len(rows[0]), [], []
    for own in rows:
        mean = own.float().mean(0)
        centred = own - mean
        found.append(centred @ centred.T)
        sizes.append(torch.linalg.vector_norm(mean, dtype=torch.float64))
    # All layers together from here on: what is left is small, and many small steps would cost more than it.
    grams = torch.stack(found).double()
    diagonal = grams.diagonal(dim1=1, dim2=2)
    rounding = diagonal.sum(1) <= 1e-10 * n * torch.stack(sizes).square()
    diagonal.zero_()
    sums = grams.sum(1) / (n - 2)
    grams -= sums.unsqueeze(1)
    grams -= sums.unsqueeze(2)
    grams += sums.sum(1).view(-1, 1, 1) / (n - 1)
    diagonal.zero_()
    grams[rounding] = 0.0
    return grams
