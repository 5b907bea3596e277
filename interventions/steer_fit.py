"""Steering vectors from data: the difference of two groups' means, PCA of pairs, or the direction of a probe.

A fitter gathers the activations of two groups in one pass, in memory that does not grow with the corpus:

    fitter = MeanDifference()
    for batch, lengths in american:
        with capture(model, sites, fitter.of(0), lengths):
            model(batch)
    ...                                                     # scottish: fitter.of(1)
    with intervene(model, fitter.fit().steer(site, 2.0)):   # from American to Scottish
        model(batch)

It takes rows `(number, units)`, which is what `capture` gives where it knows the lengths: padding is none of them.
A vector that is learned by gradient instead is in `interventions/steer_learn.py`.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from interventions.moments import Moments
from interventions.reduce import Sample
from interventions.sites import Site
from interventions.steer import Steer

Counts = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class SteeringVectors:
    """A vector `(units,)` at each of some sites, that leads from what group 0 is to what group 1 is.

    `method` says how they were found, `counts` from how many rows of each group.
    """

    sites: tuple[Site, ...]
    vectors: Mapping[str, Tensor]
    method: str
    counts: Counts

    def __getitem__(self, site: Site | str) -> Tensor:
        """The vector of a site, or of the site with that name. Raises KeyError where there is none."""
        name = site if isinstance(site, str) else site.name
        if name not in self.vectors:
            raise KeyError(f"No vector was fitted at '{name}'; there are vectors at {', '.join(self.vectors)}.")
        return self.vectors[name]

    def steer(self, site: Site | str, coefficient: float | tuple[float, ...] = 1.0, **how: object) -> Steer:
        """The intervention that adds the vector of a site, `coefficient` times; `how` are `scope` and `strength`."""
        vector = self[site]
        name = site if isinstance(site, str) else site.name
        return Steer(next(known for known in self.sites if known.name == name), vector, coefficient, **how)

    def __neg__(self) -> "SteeringVectors":
        """The way back, from group 1 to group 0."""
        return replace(self, vectors={name: -vector for name, vector in self.vectors.items()})

    def unit(self) -> "SteeringVectors":
        """The same directions, each of length 1, so that coefficients are lengths."""
        return replace(self, vectors={name: vector / vector.norm() for name, vector in self.vectors.items()})

    def random(self, seed: int) -> "SteeringVectors":
        """The control: at each site a random direction, as long as the vector there."""
        drawn = {}
        for name, vector in self.vectors.items():
            # The name is part of the draw, so that a site's control does not depend on which others were fitted.
            generator = torch.Generator().manual_seed(random.Random(f"{seed} {name}").getrandbits(62))
            direction = torch.randn(len(vector), generator=generator, dtype=torch.float64)
            drawn[name] = (direction / direction.norm() * float(vector.double().norm())).to(vector)
        return replace(self, vectors=drawn, method=f"random direction (seed {seed}), as long as: {self.method}")


class MeanDifference:
    """The mean of group 1 less the mean of group 0 (Turner et al. 2023; Rimsky et al. 2024).

    Memory is two vectors a site.
    """

    def __init__(self) -> None:
        self._sites: dict[str, Site] = {}
        self._sums: dict[str, list[Tensor]] = {}
        self._counts: dict[str, list[int]] = {}

    def of(self, group: int) -> Callable[[Site, Tensor], None]:
        """What `capture` is to do with activations of a group, 0 or 1."""
        return lambda site, rows: self.update(site, rows, group)

    @torch.no_grad()
    def update(self, site: Site, rows: Tensor, group: int) -> None:
        """Take in rows `(number, units)` of a site, all of one group, 0 or 1, and none of them padding.

        Raises:
            ValueError: there is no such group, or the rows are of another shape, or not finite.
        """
        rows = _checked(site, rows, group).double()
        if site.name not in self._sites:
            zeros = torch.zeros(site.units, dtype=torch.float64, device=rows.device)
            self._sites[site.name], self._counts[site.name] = site, [0, 0]
            self._sums[site.name] = [zeros, zeros.clone()]
        self._sums[site.name][group] += rows.sum(0)
        self._counts[site.name][group] += len(rows)

    def merge(self, other: "MeanDifference") -> None:
        """Take in what another, in another process or on another part of the corpus, has gathered."""
        for name, site in other._sites.items():
            for group in (0, 1):
                self.update(site, other._sums[name][group][None], group)
                self._counts[name][group] += other._counts[name][group] - 1

    def fit(self) -> SteeringVectors:
        """Raises ValueError where a group has no rows at a site."""
        counts = _total(self._counts)
        vectors = {}
        for name, (sum_0, sum_1) in self._sums.items():
            count_0, count_1 = self._counts[name]
            vectors[name] = (sum_1 / count_1 - sum_0 / count_0).float()
        return SteeringVectors(tuple(self._sites.values()), vectors, "mean difference", counts)


class PairPCA:
    """The first principal component of the differences within pairs (Zou et al. 2023, section 3.1).

    A pair is two rows that differ in what the vector shall mean and in as little else as can be, such as the mean
    activations of one sentence in two accents. Each difference counts with both signs, as the paper has it by drawing
    which comes first, so that no mean is taken off: where all pairs differ by one vector, it is that. It points to
    where group 1 is on average, and is as long as pairs differ along it (root mean square).

    Memory is a matrix of `units` by `units` a site.
    """

    def __init__(self) -> None:
        self._sites: dict[str, Site] = {}
        self._moments: dict[str, Moments] = {}

    def update(self, site: Site, rows_0: Tensor, rows_1: Tensor) -> None:
        """Take in pairs at a site: row `n` of `rows_0` `(number, units)` and row `n` of `rows_1` are one.

        Raises:
            ValueError: the rows do not pair, or are of another shape than the site's, or not finite.
        """
        rows_0, rows_1 = _checked(site, rows_0, 0).double(), _checked(site, rows_1, 1).double()
        if len(rows_0) != len(rows_1):
            raise ValueError(f"At '{site.name}' {len(rows_0)} rows of group 0 do not pair with {len(rows_1)} of 1.")
        self._sites[site.name] = site
        self._moments.setdefault(site.name, Moments(site.units, rows_0.device)).update(rows_1 - rows_0)

    def merge(self, other: "PairPCA") -> None:
        """Take in what another has gathered."""
        for name, moments in other._moments.items():
            self._sites[name] = other._sites[name]
            self._moments.setdefault(name, Moments(len(moments.mean), moments.mean.device)).merge(moments)

    @torch.no_grad()
    def fit(self) -> SteeringVectors:
        """Raises ValueError where there are no pairs at a site, or the two of each are the same."""
        counts = _total({name: [moments.count] * 2 for name, moments in self._moments.items()})
        vectors = {}
        for name, moments in self._moments.items():
            powers, axes = torch.linalg.eigh(moments.scatter / moments.count + torch.outer(moments.mean, moments.mean))
            if not powers[-1] > 0:
                raise ValueError(
                    f"At '{name}' the two of each pair are the same: there is no way from one to the other."
                )
            sign = -1 if axes[:, -1] @ moments.mean < 0 else 1
            vectors[name] = (sign * powers[-1].sqrt() * axes[:, -1]).float()
        return SteeringVectors(tuple(self._sites.values()), vectors, "PCA of pairs", counts)


class ProbeDirection:
    """The direction that best tells the groups apart: the weights of a logistic regression, of length 1.

    Units are standardised for the fit, so that the penalty treats them alike; the direction is in the units' own scale,
    at right angles to the probe's boundary. Both groups weigh the same, whatever their sizes. The regression goes over
    its data many times, so that `keep` rows of each group and site are kept, drawn evenly from all that come by: all of
    them, where there are no more.

    Args:
        keep: memory is `2 * keep * units` numbers a site.
        penalty: what half the squared length of the standardised weights costs, beside the mean loss of a row.
        seed: of the draw.

    Raises:
        ValueError: `keep` or `penalty` is not positive. Without a penalty, weights would grow for ever where groups can
            be told apart without fail.
    """

    def __init__(self, keep: int = 10_000, penalty: float = 1e-3, seed: int = 0) -> None:
        if keep < 1 or penalty <= 0:
            raise ValueError(f"keep and penalty must be positive, got {keep} and {penalty}.")
        self._penalty = penalty
        self._samples = (Sample(keep, seed), Sample(keep, seed))
        self._sites: dict[str, Site] = {}
        self._counts: dict[str, list[int]] = {}

    def of(self, group: int) -> Callable[[Site, Tensor], None]:
        """What `capture` is to do with activations of a group, 0 or 1."""
        return lambda site, rows: self.update(site, rows, group)

    @torch.no_grad()
    def update(self, site: Site, rows: Tensor, group: int) -> None:
        """Take in rows, as `MeanDifference.update` does."""
        rows = _checked(site, rows, group)
        self._samples[group](site, rows)
        self._sites[site.name] = site
        self._counts.setdefault(site.name, [0, 0])[group] += len(rows)

    def fit(self, steps: int = 200) -> SteeringVectors:
        """Args: steps: of L-BFGS, at most; it stops by itself where it gets no further.

        Raises:
            ValueError: a group has no rows at a site, or both have the same mean there.
        """
        counts = _total(self._counts)
        rows_0, rows_1 = (sample.result() for sample in self._samples)
        vectors = {name: self._direction(name, rows_0[name], rows_1[name], steps) for name in self._sites}
        return SteeringVectors(tuple(self._sites.values()), vectors, "probe", counts)

    @torch.enable_grad()
    def _direction(self, name: str, rows_0: Tensor, rows_1: Tensor, steps: int) -> Tensor:
        rows = torch.cat([rows_0, rows_1]).double()
        side = torch.cat([rows.new_full((len(rows_0),), -1), rows.new_full((len(rows_1),), 1)])
        share = torch.where(side < 0, 0.5 / len(rows_0), 0.5 / len(rows_1))
        mean = rows.mean(0)
        spread = (rows - mean).square().mean(0).sqrt()
        spread = torch.where(spread > 1e-10 * mean.abs(), spread, torch.inf)  # a dead unit tells nothing apart
        rows = (rows - mean) / spread
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
        direction = weights.detach() / spread
        if not direction.norm() > 0:
            raise ValueError(f"At '{name}' no direction tells the groups apart: their means are the same.")
        return (direction / direction.norm()).float()


def _checked(site: Site, rows: Tensor, group: int) -> Tensor:
    # Before anything is added, so that an error leaves the statistics as they were.
    if group not in (0, 1):
        raise ValueError(f"A group is 0, where a vector leads away from, or 1, where it leads to; got {group!r}.")
    if rows.dim() != 2 or rows.shape[1] != site.units:
        raise ValueError(
            f"At '{site.name}' expected rows (number, {site.units}), none of them padding, got {tuple(rows.shape)}. "
            "capture(..., lengths=...) gives them; where there is no padding, flatten(0, 1) does."
        )
    if not rows.isfinite().all():
        raise ValueError(f"At '{site.name}' a row is not finite. Leave such examples out.")
    return rows.detach()


def _total(counts: Mapping[str, list[int]]) -> Counts:
    if not counts:
        raise ValueError("Nothing was gathered: call update() first, for both groups.")
    for name, (count_0, count_1) in counts.items():
        if not count_0 or not count_1:
            raise ValueError(
                f"At '{name}' there are {count_0} rows of group 0 and {count_1} of group 1; both need some."
            )
    return max((count_0, count_1) for count_0, count_1 in counts.values())
