"""Concept erasure by LEACE (Belrose et al. 2023): the least change after which no linear classifier finds a concept."""

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
    """Replace the activation `x` of a site by `x - left @ right @ (x - mean)`.

    `left` `(units, rank)` are the directions along which activations are moved, `right` `(rank, units)` what of them
    says something about the concept, `mean` `(units,)` where an activation that says nothing lies. `left @ right` is a
    projection, oblique unless activations are white. `EraseFitter` finds them.

    Raises:
        ValueError: the three do not fit the site, or each other.
    """

    site: Site
    left: Tensor
    right: Tensor
    mean: Tensor

    def __post_init__(self) -> None:
        units, rank = self.site.units, self.left.shape[-1]
        given = tuple(tuple(part.shape) for part in (self.left, self.right, self.mean))
        if given != ((units, rank), (rank, units), (units,)):
            raise ValueError(
                f"'{self.site.name}' has {units} units: expected left ({units}, rank), right (rank, {units}) and mean "
                f"({units},), got {', '.join(map(str, given))}."
            )

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def rank(self) -> int:
        """How many directions are taken out: at most the number of classes less one."""
        return self.left.shape[1]

    def at(self, site: Site) -> Edit:
        left, right, mean = CastLike(self.left.T), CastLike(self.right.T), CastLike(self.mean)

        def erase(x: Tensor, now: StepContext) -> Tensor:
            # An oblique projection may be long, and would carry half precision's rounding far.
            exact = x.to(torch.promote_types(x.dtype, torch.float32))
            with torch.autocast(x.device.type, enabled=False):
                return (exact - (exact - mean(exact)) @ right(exact) @ left(exact)).to(x.dtype)

        return erase

    def affine(self, site: Site) -> Affine:
        left, right = self.left.double(), self.right.double()
        return Affine(shift=left @ (right @ self.mean.double()), left=-left, right=right)


class EraseFitter:
    """Gathers what erasing a concept at a site is computed from, in `(units + classes) ** 2` numbers.

    Args:
        site: where it is to be erased.
        classes: how many values the concept takes (accents, speakers, phonemes); or, for a concept that is measured
            (pitch, rate of speech), how many numbers measure it.
    """

    def __init__(self, site: Site, classes: int, device: torch.device | str | None = None) -> None:
        if classes < 1:
            raise ValueError(f"Expected at least one class, got {classes}.")
        self.site, self.classes = site, classes
        self._moments = Moments(site.units + classes, device)

    @property
    def count(self) -> int:
        """How many activations were given."""
        return self._moments.count

    @torch.no_grad()
    def update(self, rows: Tensor, concept: Tensor) -> None:
        """Take in activations `(number, units)`, none of them padding, and what each is of.

        `concept` is the class of each, integers `(number,)` from 0 to `classes` - 1, or what was measured of each,
        floats `(number, classes)`.

        Raises:
            ValueError: shapes do not fit, a class is none, or a number is not finite.
        """
        if rows.dim() != 2 or rows.shape[1] != self.site.units:
            raise ValueError(
                f"At '{self.site.name}' expected rows (number, {self.site.units}), got {tuple(rows.shape)}."
            )
        expected = (len(rows), self.classes) if concept.is_floating_point() else (len(rows),)
        if tuple(concept.shape) != expected:
            raise ValueError(f"Expected a concept {expected}, one for each row, got {tuple(concept.shape)}.")
        if not concept.is_floating_point():
            if len(rows) and not 0 <= int(concept.min()) <= int(concept.max()) < self.classes:
                raise ValueError(
                    f"Classes are numbers from 0 to {self.classes - 1}, got {int(concept.min())} to "
                    f"{int(concept.max())}."
                )
            concept = torch.nn.functional.one_hot(concept.long(), self.classes)
        self._moments.update(torch.cat([rows.double(), concept.to(rows.device, torch.float64)], dim=1))

    def merge(self, other: "EraseFitter") -> None:
        """Take in what another, in another process or on another part of the corpus, has gathered.

        Raises:
            ValueError: it is of another site or number of classes.
        """
        if (self.site.name, self.site.units, self.classes) != (other.site.name, other.site.units, other.classes):
            raise ValueError(
                f"What was gathered at '{self.site.name}' ({self.site.units} units, {self.classes} classes) and at "
                f"'{other.site.name}' ({other.site.units}, {other.classes}) cannot be merged."
            )
        self._moments.merge(other._moments)

    @torch.no_grad()
    def fit(self) -> Erase:
        """Return the edit `x - W+ P W (x - mean)` (theorem 4.3 of the paper), in float64.

        W whitens activations, and P projects onto what their whitened cross-covariance with the concept spans.
        Directions in which activations do not vary at all (dead units, fewer activations than units) are left alone:
        there is nothing to tell classes apart by. So are those in which rounding alone does (a millionth of the rest).

        Raises:
            ValueError: too little was given, or all of it was of one class.
        """
        units, covariance = self.site.units, self._moments.covariance
        mean, auto, cross = self._moments.mean[:units], covariance[:units, :units], covariance[:units, units:]
        if not (covariance.diagonal()[units:] > 0).any():
            raise ValueError(f"All {self.count} activations are of one class: there is no concept to erase.")
        # Units are brought to one scale first: LEACE's result does not depend on it, but the digits that are left in a
        # matrix with outliers do.
        spread = auto.diagonal().sqrt()
        alive = spread > 1e-10 * mean.abs()
        scale = torch.where(alive, spread, 1.0)
        variances, axes = torch.linalg.eigh(torch.where(alive[:, None] & alive, auto / torch.outer(scale, scale), 0.0))
        varies = variances > 1e-12 * variances[-1]
        deviations, axes = variances[varies].sqrt(), axes[:, varies]
        whitened = (axes / deviations).T @ (cross / scale[:, None])
        directions, strengths, _ = torch.linalg.svd(whitened, full_matrices=False)
        # Classes sum to one, so that one strength is zero but for rounding.
        directions = directions[:, strengths > 1e-6 * strengths[:1]]
        left = scale[:, None] * ((axes * deviations) @ directions)
        right = ((axes / deviations) @ directions).T / scale
        # Of length one, so that neither side runs out of half precision's range where units are large or small.
        length = right.norm(dim=1)
        return Erase(self.site, left * length, right / length[:, None], mean)
