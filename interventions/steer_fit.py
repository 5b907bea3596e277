"""Fit steering vectors: the difference of two groups' means, the PCA of pairs, or the direction of a probe.

A fitter gathers the activations of two groups in one pass, in memory that does not grow with the corpus:

    fitter = MeanDifference()
    for batch, lengths in american:
        with capture(model, sites, fitter.for_group(0), lengths):
            model(batch)
    ...                                                     # Scottish: fitter.for_group(1)
    with intervene(model, fitter.fit().steer(site, 2.0)):   # from American to Scottish
        model(batch)

Fitters take rows `(number, units)` without padding, as `capture` passes them on if it is given `lengths`.
`interventions/steer_learn.py` learns a vector by gradient descent instead.
"""

# torch.linalg, Tensor.norm and optimizers have no complete annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from interventions.moments import Moments
from interventions.reduce import Reservoir
from interventions.scope import EVERYWHERE, Scope
from interventions.sites import Site
from interventions.steer import Steer

Counts = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class SteeringVectors:
    """One steering vector per site, pointing from group 0 to group 1.

    Args:
        sites: the sites.
        vectors: a vector `(units,)` for each site name.
        method: how the vectors were computed.
        counts: number of rows of group 0 and of group 1.
    """

    sites: tuple[Site, ...]
    vectors: Mapping[str, Tensor]
    method: str
    counts: Counts

    def __getitem__(self, site: Site | str) -> Tensor:
        """Return the vector of a site or site name. Raises KeyError if there is none."""
        name = site if isinstance(site, str) else site.name
        if name not in self.vectors:
            raise KeyError(f"No vector was fitted at '{name}'. There are vectors at {', '.join(self.vectors)}.")
        return self.vectors[name]

    def steer(
        self,
        site: Site | str,
        coefficient: float | tuple[float, ...] = 1.0,
        scope: Scope = EVERYWHERE,
        strength: float = 1.0,
    ) -> Steer:
        """Return the intervention that adds the vector of a site.

        Args:
            site: the site, or its name.
            coefficient: see `Steer`.
            scope: see `Intervention`.
            strength: see `Intervention`.
        """
        vector = self[site]
        name = site if isinstance(site, str) else site.name
        known = next(known for known in self.sites if known.name == name)
        return Steer(known, vector, coefficient, scope=scope, strength=strength)

    def __neg__(self) -> "SteeringVectors":
        """Return the vectors from group 1 to group 0."""
        return replace(self, vectors={name: -vector for name, vector in self.vectors.items()})

    def unit(self) -> "SteeringVectors":
        """Normalise the vectors to length 1, so that coefficients are lengths."""
        return replace(self, vectors={name: vector / vector.norm() for name, vector in self.vectors.items()})

    def random(self, seed: int) -> "SteeringVectors":
        """Return a control: at each site, a vector of the same length in a random direction."""
        drawn = {}
        for name, vector in self.vectors.items():
            # Seeded by the name, so that a site's control does not depend on the other sites.
            generator = torch.Generator().manual_seed(random.Random(f"{seed} {name}").getrandbits(62))
            direction = torch.randn(len(vector), generator=generator, dtype=torch.float64)
            drawn[name] = (direction / direction.norm() * float(vector.double().norm())).to(vector)
        return replace(self, vectors=drawn, method=f"random direction (seed {seed}), as long as: {self.method}")


class MeanDifference:
    """The mean of group 1 minus the mean of group 0 (Turner et al. 2023; Rimsky et al. 2024).

    Memory is two vectors per site.
    """

    def __init__(self) -> None:
        self._sites: dict[str, Site] = {}
        self._sums: dict[str, list[Tensor]] = {}
        self._counts: dict[str, list[int]] = {}

    def for_group(self, group: int) -> Callable[[Site, Tensor], None]:
        """Return the `reduce` function for `capture` that adds activations of group 0 or 1."""
        return lambda site, rows: self.update(site, rows, group)

    @torch.no_grad()
    def update(self, site: Site, rows: Tensor, group: int) -> None:
        """Add rows `(number, units)` of a site, all of one group (0 or 1), without padding.

        Raises:
            ValueError: If `group` is not 0 or 1, or the rows have the wrong shape or are not finite.
        """
        rows = _checked_rows(site, rows, group).double()
        if site.name not in self._sites:
            zeros = torch.zeros(site.units, dtype=torch.float64, device=rows.device)
            self._sites[site.name], self._counts[site.name] = site, [0, 0]
            self._sums[site.name] = [zeros, zeros.clone()]
        self._sums[site.name][group] += rows.sum(0)
        self._counts[site.name][group] += len(rows)

    def merge(self, other: "MeanDifference") -> None:
        """Add the statistics of another fitter, for instance from another process."""
        for name, site in other._sites.items():
            for group in (0, 1):
                self.update(site, other._sums[name][group][None], group)
                self._counts[name][group] += other._counts[name][group] - 1

    def fit(self) -> SteeringVectors:
        """Return the vectors. Raises ValueError if a group has no rows at a site."""
        counts = _total(self._counts)
        vectors = {}
        for name, (sum_0, sum_1) in self._sums.items():
            count_0, count_1 = self._counts[name]
            vectors[name] = (sum_1 / count_1 - sum_0 / count_0).float()
        return SteeringVectors(tuple(self._sites.values()), vectors, "mean difference", counts)


class PairPCA:
    """The first principal component of the differences within pairs (Zou et al. 2023, section 3.1).

    The two rows of a pair should differ in what the vector is to represent and in as little else as possible, such as
    the mean activations of one sentence in two accents. Each difference counts with both signs (the paper draws the
    order of each pair at random), so the mean is not subtracted: if all pairs differ by the same vector, that vector is
    the result. The vector points towards the mean of group 1, and its length is the root mean square difference along
    it.

    Memory is a matrix `(units, units)` per site.
    """

    def __init__(self) -> None:
        self._sites: dict[str, Site] = {}
        self._moments: dict[str, Moments] = {}

    def update(self, site: Site, rows_0: Tensor, rows_1: Tensor) -> None:
        """Add pairs at a site: rows `n` of `rows_0` and `rows_1`, both `(number, units)`, are a pair.

        Raises:
            ValueError: If the numbers of rows differ, or the rows have the wrong shape or are not finite.
        """
        rows_0, rows_1 = _checked_rows(site, rows_0, 0).double(), _checked_rows(site, rows_1, 1).double()
        if len(rows_0) != len(rows_1):
            raise ValueError(
                f"At '{site.name}' {len(rows_0)} rows of group 0 do not pair with {len(rows_1)} rows of group 1."
            )
        self._sites[site.name] = site
        self._moments.setdefault(site.name, Moments(site.units, rows_0.device)).update(rows_1 - rows_0)

    def merge(self, other: "PairPCA") -> None:
        """Add the pairs of another fitter."""
        for name, moments in other._moments.items():
            self._sites[name] = other._sites[name]
            self._moments.setdefault(name, Moments(len(moments.mean), moments.mean.device)).merge(moments)

    @torch.no_grad()
    def fit(self) -> SteeringVectors:
        """Return the vectors. Raises ValueError if a site has no pairs, or the rows of each pair are equal."""
        counts = _total({name: [moments.count] * 2 for name, moments in self._moments.items()})
        vectors = {}
        for name, moments in self._moments.items():
            powers, axes = torch.linalg.eigh(moments.scatter / moments.count + torch.outer(moments.mean, moments.mean))
            if not powers[-1] > 0:
                raise ValueError(f"At '{name}' the rows of each pair are equal, so there is no direction between them.")
            sign = -1 if axes[:, -1] @ moments.mean < 0 else 1
            vectors[name] = (sign * powers[-1].sqrt() * axes[:, -1]).float()
        return SteeringVectors(tuple(self._sites.values()), vectors, "PCA of pairs", counts)


class ProbeDirection:
    """The direction that separates the groups best: the weights of a logistic regression, normalised to length 1.

    Units are standardised for the fit, so that the penalty is the same for all; the direction is converted back to the
    units' own scale, and is orthogonal to the probe's decision boundary. Both groups have equal weight. The regression
    passes over its data many times, so a random sample of `keep` rows per group and site is stored.

    Args:
        keep: rows per group and site; memory is `2 * keep * units` numbers per site.
        penalty: weight of half the squared norm of the standardised weights, relative to the mean loss per row.
        seed: seed for the random sample.

    Raises:
        ValueError: If `keep` or `penalty` is not positive. Without a penalty, weights diverge if the groups can be
            separated perfectly.
    """

    def __init__(self, keep: int = 10_000, penalty: float = 1e-3, seed: int = 0) -> None:
        if keep < 1 or penalty <= 0:
            raise ValueError(f"keep and penalty must be positive, got {keep} and {penalty}.")
        self._penalty = penalty
        self._reservoirs = (Reservoir(keep, seed), Reservoir(keep, seed))
        self._sites: dict[str, Site] = {}
        self._counts: dict[str, list[int]] = {}

    def for_group(self, group: int) -> Callable[[Site, Tensor], None]:
        """Return the `reduce` function for `capture` that adds activations of group 0 or 1."""
        return lambda site, rows: self.update(site, rows, group)

    @torch.no_grad()
    def update(self, site: Site, rows: Tensor, group: int) -> None:
        """Add rows, as `MeanDifference.update` does."""
        rows = _checked_rows(site, rows, group)
        self._reservoirs[group](site, rows)
        self._sites[site.name] = site
        self._counts.setdefault(site.name, [0, 0])[group] += len(rows)

    def fit(self, steps: int = 200) -> SteeringVectors:
        """Fit the probes, with at most `steps` steps of L-BFGS each, and return the vectors.

        Raises:
            ValueError: If a group has no rows at a site, or both have the same mean there.
        """
        counts = _total(self._counts)
        rows_0, rows_1 = (reservoir.result() for reservoir in self._reservoirs)
        vectors = {name: self._direction(name, rows_0[name], rows_1[name], steps) for name in self._sites}
        return SteeringVectors(tuple(self._sites.values()), vectors, "probe", counts)

    @torch.enable_grad()
    def _direction(self, name: str, rows_0: Tensor, rows_1: Tensor, steps: int) -> Tensor:
        rows = torch.cat([rows_0, rows_1]).double()
        side = torch.cat([rows.new_full((len(rows_0),), -1), rows.new_full((len(rows_1),), 1)])
        share = torch.where(side < 0, 0.5 / len(rows_0), 0.5 / len(rows_1))
        mean = rows.mean(0)
        deviation = (rows - mean).square().mean(0).sqrt()
        deviation = torch.where(deviation > 1e-10 * mean.abs(), deviation, torch.inf)  # ignore dead units
        rows = (rows - mean) / deviation
        weights = rows.new_zeros(rows.shape[1], requires_grad=True)
        bias = rows.new_zeros((), requires_grad=True)
        optimizer = torch.optim.LBFGS([weights, bias], max_iter=steps, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            wrong = torch.nn.functional.softplus(-side * (rows @ weights + bias))
            value = (share * wrong).sum() + self._penalty / 2 * weights @ weights
            value.backward()
            return value

        optimizer.step(loss)
        direction = weights.detach() / deviation
        if not direction.norm() > 0:
            raise ValueError(f"At '{name}' no direction separates the groups: their means are equal.")
        return (direction / direction.norm()).float()


def _checked_rows(site: Site, rows: Tensor, group: int) -> Tensor:
    # Rows are checked before anything is added, so that an error leaves the statistics unchanged.
    if group not in (0, 1):
        raise ValueError(f"A group is 0, where the vectors start, or 1, where they point to; got {group!r}.")
    if rows.dim() != 2 or rows.shape[1] != site.units:
        raise ValueError(
            f"At '{site.name}' expected rows (number, {site.units}) without padding, got {tuple(rows.shape)}. "
            "capture(..., lengths=...) returns such rows; without padding, use flatten(0, 1)."
        )
    if not rows.isfinite().all():
        raise ValueError(f"At '{site.name}' an activation is not finite. Leave such examples out.")
    return rows.detach()


def _total(counts: Mapping[str, list[int]]) -> Counts:
    if not counts:
        raise ValueError("There are no activations. Call update() for both groups first.")
    for name, (count_0, count_1) in counts.items():
        if not count_0 or not count_1:
            raise ValueError(
                f"At '{name}' there are {count_0} rows of group 0 and {count_1} of group 1, but both groups need rows."
            )
    return max((count_0, count_1) for count_0, count_1 in counts.values())
