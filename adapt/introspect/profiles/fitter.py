"""Gather the sums of profiles, batch by batch: `ProfilesFitter` gathers, `fit()` returns the frozen `Profiles`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.distributed import rank_and_size
from adapt.introspect.profiles.profiles import FOLDS, Profiles
from adapt.memory import check_memory
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class Membership:
    """The steps of a batch that are added to each sum.

    Args:
        steps: Indices of steps among all steps of the batch (padding counts), ordered by sum.
        rows: The index of each sum, `(sums,)`.
        counts: The number of steps of each sum, `(sums,)`.
    """

    steps: Tensor
    rows: Tensor
    counts: Tensor

    def sums(self, values: Tensor) -> Tensor:
        """Sum values `(steps of the batch, units)` to `(sums, units)`."""
        # Reads only the steps that are in a group. A matrix product would multiply all steps by all groups.
        return torch.nn.functional.embedding_bag(self.steps, values, self._first, mode="sum")

    @cached_property
    def _first(self) -> Tensor:
        return self.counts.cumsum(0) - self.counts


class ProfilesFitter:
    """Gathers the sums of `Profiles`, which documents their shapes.

    Args:
        sites: The sites to profile.
        groups: The names of the groups, `all` and `key:value`.
        folds: The number of folds of the examples.
        windows: The number of steps of a window at each site, for aligned windows; None for single steps.
    """

    def __init__(
        self, sites: Sequence[Site], groups: Sequence[str], folds: int = FOLDS, windows: Mapping[str, int] | None = None
    ) -> None:
        self.sites, self.groups, self.folds = tuple(sites), tuple(groups), folds
        self.windows = dict(windows or {})
        self.sums: dict[str, dict[str, Tensor]] = {}
        dtype = torch.float32 if self.windows else torch.float64
        check_memory(self._bytes(), f"The profiles of {self._size()}", "Give fewer sites, groups or folds.")
        for site in self.sites:
            count, window = len(self.groups), self.windows.get(site.name, 1)
            # The variance is a difference of large numbers, which needs 64 bits.
            self.sums[site.name] = {
                "steps": torch.zeros(folds, count, dtype=torch.float64),
                "activation": torch.zeros(1, count, window, site.units, dtype=dtype),
                "gradient": torch.zeros(1, count, window, site.units),
                "square": torch.zeros(1, count, site.units, dtype=torch.float64),
                "product": torch.zeros(1, count, site.units),
            }
            if folds > 1:
                self.sums[site.name]["fold_activation"] = torch.zeros(folds, count, window, site.units)

    def _bytes(self) -> int:
        per_step = (4 if self.windows else 8) + 4 + (4 * self.folds if self.folds > 1 else 0)
        per_unit = sum(site.units * (per_step * self.windows.get(site.name, 1) + 12) for site in self.sites)
        return len(self.groups) * per_unit

    def _size(self) -> str:
        units = sum(site.units for site in self.sites)
        return f"{units:,} neurons at {len(self.sites)} sites for {len(self.groups)} groups in {self.folds} folds"

    def to(self, device: torch.device | str) -> "ProfilesFitter":
        """Move the sums to a device, in place. Returns the fitter."""
        for sums in self.sums.values():
            sums.update({name: total.to(device) for name, total in sums.items()})
        return self

    def membership(self, members: Tensor, folds: Tensor) -> Membership:
        """Prepare a batch for `update`.

        `members` `(batch, groups, time)` is true where a step is in a group, and never in padding. `folds` `(batch,)`
        is the fold of each example.
        """
        batch, group, time = members.nonzero(as_tuple=True)
        rows, order = (folds[batch] * len(self.groups) + group).sort(stable=True)
        rows, counts = rows.unique_consecutive(return_counts=True)
        return Membership((batch * members.shape[2] + time)[order], rows, counts)

    @torch.no_grad()
    def update(self, site: Site, members: Membership, x: Tensor, gradient: Tensor) -> None:
        """Add a batch at a site.

        Args:
            site: The site.
            members: The groups of the steps, from `membership`.
            x: The activations, `(batch, time, units)`.
            gradient: The gradients of the score, `(batch, time, units)`.
        """
        sums = self.sums[site.name]
        sums["steps"].view(-1).index_add_(0, members.rows, members.counts.double())
        x, gradient = x.reshape(-1, site.units), gradient.reshape(-1, site.units)

        groups = members.rows % len(self.groups)

        def add(name: str, values: Tensor) -> None:
            values = members.sums(values)
            total = sums[name].view(-1, site.units)
            total.index_add_(0, groups, values.to(total.dtype))
            if name == "activation" and self.folds > 1:
                parts = sums["fold_activation"].view(-1, site.units)
                parts.index_add_(0, members.rows, values.to(parts.dtype))

        # One buffer serves three sums, because in a small network memory traffic takes most of the time.
        values = x * gradient
        add("product", values)
        add("square", torch.mul(x, x, out=values))
        add("gradient", torch.abs(gradient, out=values))
        add("activation", x)

    @torch.no_grad()
    def update_windows(self, site: Site, members: Tensor, folds: Tensor, x: Tensor, gradient: Tensor) -> None:
        """Add aligned windows at a site.

        Args:
            site: The site.
            members: True for a window in a group, `(windows, groups)`.
            folds: The fold of each window, `(windows,)`.
            x: The activations, `(windows, time, units)`.
            gradient: The gradients of the score, `(windows, time, units)`.
        """
        sums = self.sums[site.name]
        window, group = members.nonzero(as_tuple=True)
        rows = folds[window] * len(self.groups) + group
        sums["steps"].view(-1).index_add_(0, rows, torch.ones_like(rows, dtype=torch.float64))
        for name, values in (("activation", x), ("gradient", gradient.abs())):
            sums[name][0].index_add_(0, group, values[window].to(sums[name].dtype))
        for name, values in (("square", x.square().sum(1)), ("product", (x * gradient).sum(1))):
            sums[name][0].index_add_(0, group, values[window].to(sums[name].dtype))
        if self.folds > 1:
            parts = sums["fold_activation"].flatten(0, 1)
            parts.index_add_(0, rows, x[window].to(parts.dtype))

    def all_reduce(self) -> "ProfilesFitter":
        """Add up the sums of all processes of `torch.distributed`, in place. Returns the fitter.

        Raises:
            ValueError: The processes have different groups.
        """
        _, ranks = rank_and_size()
        if ranks == 1:
            return self
        groups: list[Any] = [None] * ranks
        torch.distributed.all_gather_object(groups, self.groups)
        if any(other != self.groups for other in groups):
            raise ValueError("The processes have profiles of different groups. Name the same groups in all of them.")
        for sums in self.sums.values():
            for total in sums.values():
                torch.distributed.all_reduce(total)
        return self

    def fit(self) -> Profiles:
        """Return the profiles of the batches so far, on the CPU."""
        sums = {site: {name: total.cpu() for name, total in sums.items()} for site, sums in self.sums.items()}
        return Profiles(self.sites, self.groups, self.folds, dict(self.windows), sums)


def fold_of(example: Example, folds: int = FOLDS) -> int:
    """Return the fold of an example. It depends on its name and text only, so it never changes between runs."""
    return crc32(f"{Path(example.name).name}|{example.text}".encode("utf-8", "backslashreplace")) % folds
