"""Mean and covariance of vectors that stream by: what fitting an edit needs to know of a corpus that fits no memory."""

import torch
from torch import Tensor


class Moments:
    """Count, mean and covariance of all vectors `(size,)` given so far, in float64.

    Batches are merged by the update of Chan, Golub and LeVeque (1983), which loses no digits where the mean is large
    beside the spread, as sums of squares would. Memory is `size ** 2` numbers, however many vectors there are. Two of
    them, from two processes or two halves of a corpus, are merged into what one would have gathered.
    """

    def __init__(self, size: int, device: torch.device | str | None = None) -> None:
        self.count = 0
        self.mean = torch.zeros(size, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(size, size, dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, vectors: Tensor) -> None:
        """Args: vectors `(number, size)`, of any float type.

        Raises:
            ValueError: they are of another size, or one of them is not finite (it would spoil all that is gathered).
        """
        if vectors.dim() != 2 or vectors.shape[1] != len(self.mean):
            raise ValueError(f"Expected vectors (number, {len(self.mean)}), got {tuple(vectors.shape)}.")
        if not len(vectors):
            return
        if not vectors.isfinite().all():
            raise ValueError("A vector is not finite; nothing was added. Leave such examples out.")
        # Let go of the gradient's graph, and come to where the sums are.
        vectors = vectors.detach().to(self.mean.device, torch.float64)
        mean = vectors.mean(0)
        centred = vectors - mean
        self._merge(len(vectors), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> None:
        """Take in what another has gathered, which stays as it is."""
        if other.count:
            self._merge(other.count, other.mean.to(self.mean.device), other.scatter.to(self.mean.device))

    def _merge(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        moved = mean - self.mean
        self.scatter += scatter + torch.outer(moved, moved) * (self.count * count / total)
        self.mean += moved * (count / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """`(size, size)`, divided by the count (the factor is the same on both sides wherever it is used here).

        Raises:
            ValueError: fewer than two vectors were given.
        """
        if self.count < 2:
            raise ValueError(f"A covariance needs two vectors or more, got {self.count}.")
        return self.scatter / self.count
