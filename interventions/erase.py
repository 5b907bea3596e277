"""Concept erasure by LEACE (Belrose et al. 2023): the smallest change that makes a concept linearly undetectable."""

# torch.linalg has no type annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from dataclasses import dataclass

import torch
from torch import Tensor

from interventions.affine import Affine
from interventions.intervention import CastLike, Edit, Intervention
from interventions.moments import Moments
from interventions.scope import StepContext
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class Erase(Intervention):
    """Replace the activation `x` of a site by `x - left @ right @ (x - mean)`. Use `EraseFitter` to fit it.

    `left @ right` is a projection. It is oblique unless activations are white.

    Args:
        site: where to erase.
        left: `(units, rank)`, the directions along which activations are moved.
        right: `(rank, units)`, the directions along which activations are read.
        mean: `(units,)`, the mean activation, which is left unchanged.

    Raises:
        ValueError: If the shapes do not fit the site or each other.
    """

    site: Site
    left: Tensor
    right: Tensor
    mean: Tensor

    def __post_init__(self) -> None:
        units, rank = self.site.units, self.left.shape[-1]
        shapes = tuple(tuple(tensor.shape) for tensor in (self.left, self.right, self.mean))
        if shapes != ((units, rank), (rank, units), (units,)):
            raise ValueError(
                f"'{self.site.name}' has {units} units: expected left ({units}, rank), right (rank, {units}) and mean "
                f"({units},), got {', '.join(map(str, shapes))}."
            )

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def rank(self) -> int:
        """The number of directions that are removed, at most the number of classes minus one."""
        return self.left.shape[1]

    def at(self, site: Site) -> Edit:
        left, right, mean = CastLike(self.left.T), CastLike(self.right.T), CastLike(self.mean)

        def erase(x: Tensor, context: StepContext) -> Tensor:
            # An oblique projection can be long, and would amplify the rounding of half precision.
            exact = x.to(torch.promote_types(x.dtype, torch.float32))
            with torch.autocast(x.device.type, enabled=False):
                return (exact - (exact - mean(exact)) @ right(exact) @ left(exact)).to(x.dtype)

        return erase

    def affine(self, site: Site) -> Affine:
        left, right = self.left.double(), self.right.double()
        return Affine(shift=left @ (right @ self.mean.double()), left=-left, right=right)


class EraseFitter:
    """Accumulate the statistics from which `fit` computes an `Erase`. Memory is `(units + classes) ** 2` numbers.

    Args:
        site: where to erase the concept.
        classes: the number of values that the concept takes (accents, speakers, phonemes); for a continuous concept
            (pitch, speaking rate), the number of variables that measure it.
        device: where the statistics are kept; None: the default device.
    """

    def __init__(self, site: Site, classes: int, device: torch.device | str | None = None) -> None:
        if classes < 1:
            raise ValueError(f"Expected at least one class, got {classes}.")
        self.site, self.classes = site, classes
        self._moments = Moments(site.units + classes, device)

    @property
    def count(self) -> int:
        """The number of activations seen so far."""
        return self._moments.count

    @torch.no_grad()
    def update(self, rows: Tensor, concept: Tensor) -> None:
        """Add activations and the value of the concept for each of them.

        Args:
            rows: activations `(number, units)`, without padding.
            concept: the classes, integers `(number,)` from 0 to `classes` - 1, or measurements, floats
                `(number, classes)`.

        Raises:
            ValueError: If shapes do not fit, a class is out of range, or a value is not finite.
        """
        if rows.dim() != 2 or rows.shape[1] != self.site.units:
            raise ValueError(
                f"At '{self.site.name}' expected rows (number, {self.site.units}), got {tuple(rows.shape)}."
            )
        expected = (len(rows), self.classes) if concept.is_floating_point() else (len(rows),)
        if tuple(concept.shape) != expected:
            raise ValueError(
                f"Expected a concept of shape {expected}, with a value for each row, got {tuple(concept.shape)}."
            )
        if not concept.is_floating_point():
            if len(rows) and not 0 <= int(concept.min()) <= int(concept.max()) < self.classes:
                raise ValueError(
                    f"Classes are numbers from 0 to {self.classes - 1}, got {int(concept.min())} to "
                    f"{int(concept.max())}."
                )
            concept = torch.nn.functional.one_hot(concept.long(), self.classes)
        self._moments.update(torch.cat([rows.double(), concept.to(rows.device, torch.float64)], dim=1))

    def merge(self, other: "EraseFitter") -> None:
        """Add the statistics of another fitter, such as one from another process.

        Raises:
            ValueError: If the other fitter is for a different site or number of classes.
        """
        if (self.site.name, self.site.units, self.classes) != (other.site.name, other.site.units, other.classes):
            raise ValueError(
                f"Cannot merge statistics of '{self.site.name}' ({self.site.units} units, {self.classes} classes) and "
                f"'{other.site.name}' ({other.site.units} units, {other.classes} classes)."
            )
        self._moments.merge(other._moments)

    @torch.no_grad()
    def fit(self) -> Erase:
        """Compute the edit `x - W+ P W (x - mean)` of theorem 4.3 in the paper, in float64.

        W whitens activations, and P projects onto the span of their whitened cross-covariance with the concept.
        Directions without variance (dead units, fewer activations than units) are left unchanged, and so are those
        whose cross-covariance is rounding noise (below a millionth of the largest).

        Raises:
            ValueError: If there are too few activations, or all are of one class.
        """
        units, covariance = self.site.units, self._moments.covariance
        mean, auto, cross = self._moments.mean[:units], covariance[:units, :units], covariance[:units, units:]
        if not (covariance.diagonal()[units:] > 0).any():
            raise ValueError(f"All {self.count} activations are of one class, so there is no concept to erase.")
        # Standardise the units: the result of LEACE does not depend on their scale, but its rounding errors do.
        deviations = auto.diagonal().sqrt()
        alive = deviations > 1e-10 * mean.abs()
        scale = torch.where(alive, deviations, 1.0)
        variances, axes = torch.linalg.eigh(torch.where(alive[:, None] & alive, auto / torch.outer(scale, scale), 0.0))
        varies = variances > 1e-12 * variances[-1]
        deviations, axes = variances[varies].sqrt(), axes[:, varies]
        whitened = (axes / deviations).T @ (cross / scale[:, None])
        directions, strengths, _ = torch.linalg.svd(whitened, full_matrices=False)
        # One-hot classes sum to one, so one singular value is zero up to rounding.
        directions = directions[:, strengths > 1e-6 * strengths[:1]]
        left = scale[:, None] * ((axes * deviations) @ directions)
        right = ((axes / deviations) @ directions).T / scale
        # Rows of unit length keep both factors within the range of half precision.
        length = right.norm(dim=1)
        return Erase(self.site, left * length, right / length[:, None], mean)
