"""Centred kernel alignment of all pairs of layers, in one pass and bounded memory."""

from collections.abc import Sequence

import torch
from torch import Tensor


class CKA:
    """Linear CKA (Kornblith et al. 2019, section 3), debiased and in minibatches (Nguyen et al. 2021, section 3.1).

    Rows are processed in blocks. The Gram matrix of each layer's block is centred such that its products with those of
    other layers are unbiased estimates of HSIC (Song et al. 2012, equation 5). The estimates are averaged over the
    blocks before they are normalised. So CKA needs only 4 rows, however many units there are, and it is never NaN.
    Unrelated rows have a CKA of 0 on average, and may be slightly below 0.

    Memory is one block of rows per layer. The sizes of the batches do not affect the result.
    """

    def __init__(self, block: int = 64) -> None:
        if block < 4:
            raise ValueError(f"block must be at least 4 rows; got {block}.")
        self.block, self.count = block, 0
        self._waiting: list[Tensor] = []  # (block, units) of each layer, of which the first `_held` rows are filled
        self._held = 0
        self._sum: Tensor | None = None

    @torch.no_grad()
    def update(self, rows: Sequence[Tensor]) -> None:
        """Add rows of all layers, `(rows, units)` each.

        Raises:
            ValueError: The layers have different numbers of rows, or the number of layers has changed.
        """
        lengths = {len(own) for own in rows}
        if len(lengths) != 1 or (self._waiting and len(self._waiting) != len(rows)):
            raise ValueError(
                f"Expected the same number of rows for each layer, and {len(self._waiting) or len(rows)} layers; got "
                f"{sorted(lengths)} rows and {len(rows)} layers."
            )
        # Copied, because small tensors that are kept between the large ones of a network fragment the memory.
        self._waiting = self._waiting or [own.new_empty(self.block, own.shape[1]) for own in rows]
        length, done = lengths.pop(), 0
        while done < length:
            count = min(self.block - self._held, length - done)
            for held, own in zip(self._waiting, rows, strict=True):
                held[self._held : self._held + count] = own[done : done + count]
            done, self._held = done + count, self._held + count
            if self._held == self.block:
                self._take()

    @torch.no_grad()
    def result(self) -> Tensor:
        """Return the CKA of all pairs of layers, `(layers, layers)` in float64; 0 for a layer without variance.

        A last block of fewer than 4 rows is ignored.

        Raises:
            ValueError: There were fewer than 4 rows.
        """
        if self._held >= 4:
            self._take()
        if self._sum is None:
            raise ValueError(f"CKA needs at least 4 rows; got {self._held}. Give more examples, or more steps of each.")
        own = self._sum.diagonal().clamp(min=0).sqrt()
        both = torch.outer(own, own)
        return torch.where(both > 0, self._sum / both, 0.0)

    def _take(self) -> None:
        number, self._held = self._held, 0
        self.count += number
        grams = centred_grams([held[:number] for held in self._waiting]).flatten(1)
        # The factor of a block of n rows is 1 / (n (n - 3)), weighted by n because the last block may be smaller.
        hsic = grams @ grams.T / (number - 3)
        self._sum = hsic if self._sum is None else self._sum + hsic


def centred_grams(rows: Sequence[Tensor]) -> Tensor:
    """Return the U-centred Gram matrices of the layers (Székely & Rizzo 2014, section 3.1).

    Args:
        rows: The rows of each layer, `(n, units)`.

    Returns:
        The Gram matrices `(layers, n, n)` in float64 with a zero diagonal; all 0 for a layer without variance.
    """
    n, products, sizes = len(rows[0]), [], []
    for own in rows:
        mean = own.float().mean(0)
        centred = own - mean
        products.append(centred @ centred.T)
        sizes.append(torch.linalg.vector_norm(mean, dtype=torch.float64))
    # All layers at once, because many small operations would take longer.
    grams = torch.stack(products).double()
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
