"""Running mean and covariance of vectors, in memory that does not grow with their number."""

import torch
from torch import Tensor


class Moments:
    """Accumulate the count, mean and covariance of vectors `(size,)`, in float64.

    Batches are merged by the update of Chan, Golub and LeVeque (1983), which stays accurate if the mean is large
    compared with the standard deviation, unlike sums of squares. Memory is `size ** 2` numbers. Moments from several
    processes can be merged.
    """

    def __init__(self, size: int, device: torch.device | str | None = None) -> None:
        self.count = 0
        self.mean = torch.zeros(size, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(size, size, dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, vectors: Tensor) -> None:
        """Add vectors `(number, size)` of any floating-point type.

        Raises:
            ValueError: If their shape is wrong or a value is not finite; nothing is added then.
        """
        if vectors.dim() != 2 or vectors.shape[1] != len(self.mean):
            raise ValueError(f"Expected vectors (number, {len(self.mean)}), got {tuple(vectors.shape)}.")
        if not len(vectors):
            return
        if not vectors.isfinite().all():
            raise ValueError("A vector is not finite, so nothing was added. Leave such examples out.")
        vectors = vectors.detach().to(self.mean.device, torch.float64)
        mean = vectors.mean(0)
        centred = vectors - mean
        self._merge(len(vectors), mean, centred.T @ centred)

    def merge(self, other: "Moments") -> None:
        """Add the vectors of another instance, which is left unchanged."""
        if other.count:
            self._merge(other.count, other.mean.to(self.mean.device), other.scatter.to(self.mean.device))

    def _merge(self, count: int, mean: Tensor, scatter: Tensor) -> None:
        total = self.count + count
        difference = mean - self.mean
        self.scatter += scatter + torch.outer(difference, difference) * (self.count * count / total)
        self.mean += difference * (count / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """The covariance `(size, size)`, normalised by the count.

        Raises:
            ValueError: If there are fewer than two vectors.
        """
        if self.count < 2:
            raise ValueError(f"A covariance needs at least two vectors, got {self.count}.")
        return self.scatter / self.count
