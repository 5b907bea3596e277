"""Sets of units across sites (`Neurons`), and scores by which units are chosen (`Scores`)."""

# Tensor.tolist has no element type.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from interventions.files import FileError, read_tensors, site_from_json, site_to_json, write_tensors
from interventions.sites import Site

_Made = TypeVar("_Made")


@dataclass(frozen=True, init=False, eq=False)
class Neurons:
    """A set of units at some sites. Sets are equal if their sites and units are, in any order.

        neurons = Neurons({site: [3, 8]})
        neurons | other, neurons & other, neurons - other, ~neurons
        ("encoder.conv1", 3) in neurons, len(neurons), list(neurons)

    A set also remembers sites at which it has no units: `~neurons` contains all other units of its sites. The results
    of `|`, `&` and `-` have the sites of both sets. Sites keep their order, and units are ascending.

    Raises:
        ValueError: If a unit's number is not valid at its site, or two different sites have the same name.
    """

    sites: tuple[Site, ...]
    units: tuple[tuple[int, ...], ...]
    _masks: dict[str, Tensor] = field(init=False, repr=False)  # a cache

    def __init__(self, units: Mapping[Site, Iterable[int]]) -> None:
        _check_names(units)
        chosen: list[tuple[int, ...]] = []
        for site, numbers in units.items():
            ascending = sorted({index(number) for number in numbers})
            if ascending and not 0 <= ascending[0] <= ascending[-1] < site.units:
                raise ValueError(
                    f"'{site.name}' has units 0 to {site.units - 1}, not {ascending[0]} to {ascending[-1]}."
                )
            chosen.append(tuple(ascending))
        object.__setattr__(self, "sites", tuple(units))
        object.__setattr__(self, "units", tuple(chosen))
        object.__setattr__(self, "_masks", {})

    @classmethod
    def every(cls, sites: Site | Iterable[Site]) -> "Neurons":
        """Return all units of the sites."""
        return cls({site: range(site.units) for site in ([sites] if isinstance(sites, Site) else sites)})

    @classmethod
    def none(cls, sites: Site | Iterable[Site]) -> "Neurons":
        """Return the empty set at the sites. Its complement is `every(sites)`."""
        return ~cls.every(sites)

    @property
    def used(self) -> tuple[Site, ...]:
        """The sites at which the set has a unit."""
        return tuple(site for site, units in zip(self.sites, self.units, strict=True) if units)

    def __getitem__(self, site: Site | str) -> tuple[int, ...]:
        """Return the units at a site, ascending. Raises KeyError if the site is not one of `sites`."""
        name = _name(site)
        for known, units in zip(self.sites, self.units, strict=True):
            if known.name == name:
                return units
        raise KeyError(f"'{name}' is not one of the sites: {', '.join(known.name for known in self.sites) or 'none'}.")

    def mask(self, site: Site | str) -> Tensor:
        """Return a bool tensor `(units,)`, True at the units in the set. It is cached: do not write to it.

        Raises:
            KeyError: If the site is not one of `sites`.
        """
        name = _name(site)
        if name not in self._masks:
            units = set(self[name])
            count = next(known.units for known in self.sites if known.name == name)
            with torch.inference_mode(False):
                self._masks[name] = torch.tensor([unit in units for unit in range(count)], dtype=torch.bool)
        return self._masks[name]

    def __contains__(self, neuron: object) -> bool:
        match neuron:
            case (str() | Site() as site, unit):
                pairs = zip(self.sites, self.units, strict=True)
                return any(known.name == _name(site) and unit in units for known, units in pairs)
            case _:
                return False

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Iterate over the units as (site name, number)."""
        for site, units in zip(self.sites, self.units, strict=True):
            for unit in units:
                yield site.name, unit

    def __len__(self) -> int:
        return sum(map(len, self.units))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Neurons) and self._by_site() == other._by_site()

    def __hash__(self) -> int:
        return hash(frozenset(self._by_site().items()))

    def __or__(self, other: "Neurons") -> "Neurons":
        return self._combine(other, lambda mine, theirs: mine | theirs)

    def __and__(self, other: "Neurons") -> "Neurons":
        return self._combine(other, lambda mine, theirs: mine & theirs)

    def __sub__(self, other: "Neurons") -> "Neurons":
        return self._combine(other, lambda mine, theirs: mine - theirs)

    def __invert__(self) -> "Neurons":
        return Neurons({site: set(range(site.units)) - set(units) for site, units in self._by_site().items()})

    def __repr__(self) -> str:
        counts = (f"{site.name}: {len(units)} of {site.units}" for site, units in self._by_site().items())
        return f"Neurons({', '.join(counts)})"

    def random(self, seed: int, disjoint: bool = False) -> "Neurons":
        """Draw a control: at each site, as many units as this set has there, at random.

        Args:
            seed: seed of the draw.
            disjoint: draw only from the units that are not in this set.

        Raises:
            ValueError: If `disjoint` is given and a site has too few other units.
        """
        generator = torch.Generator().manual_seed(seed)
        chosen: dict[Site, list[int]] = {}
        for site, units in zip(self.sites, self.units, strict=True):
            excluded = set(units) if disjoint else set[int]()
            pool = torch.tensor([unit for unit in range(site.units) if unit not in excluded])
            if len(pool) < len(units):
                raise ValueError(
                    f"'{site.name}' has {len(pool)} other units, but {len(units)} are needed. Use disjoint=False."
                )
            chosen[site] = pool[torch.randperm(len(pool), generator=generator)[: len(units)]].tolist()
        return Neurons(chosen)

    def save(self, path: Path | str, **provenance: Any) -> None:
        """Write the set to a safetensors file. `provenance` is added to its header and must be JSON data."""
        tensors = {f"{n}": torch.tensor(units, dtype=torch.int64) for n, units in enumerate(self.units)}
        write_tensors(path, "neurons", {"sites": [site_to_json(site) for site in self.sites], **provenance}, tensors)

    @classmethod
    def load(cls, path: Path | str) -> "Neurons":
        """Read a file that `save` wrote. Raises FileError if it is damaged or of another kind."""
        return _made(path, lambda: cls({site: _unit_numbers(site, units) for site, units in _read(path, "neurons")}))

    def _combine(self, other: "Neurons", combine: Callable[[set[int], set[int]], set[int]]) -> "Neurons":
        if not isinstance(other, Neurons):  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        mine, theirs = self._by_site(), other._by_site()
        return Neurons(
            {site: combine(set(mine.get(site, ())), set(theirs.get(site, ()))) for site in {**mine, **theirs}}
        )

    def _by_site(self) -> dict[Site, tuple[int, ...]]:
        return dict(zip(self.sites, self.units, strict=True))


class Scores:
    """A score for each unit of some sites, a tensor `(units,)` each. Units with higher scores are chosen first.

        scores.top(0.05)                   # the highest 5 % of all units
        scores.top(10, per_site=True)      # the ten highest of each site
        scores.top(0.05).random(seed=1)    # a control: as many of each site, at random

    Ties are broken by the order of the sites, then by the unit's number.

    Raises:
        ValueError: If a score is missing or NaN, or two different sites have the same name.
    """

    def __init__(self, scores: Mapping[Site, Tensor]) -> None:
        _check_names(scores)
        self._scores: dict[Site, Tensor] = {}
        for site, given in scores.items():
            values = torch.as_tensor(given).detach().cpu()
            if values.is_complex():
                raise ValueError(f"The scores at '{site.name}' must be real numbers; got {values.dtype}.")
            values = values if values.dtype == torch.float64 else values.float()
            if values.shape != (site.units,) or values.isnan().any():
                nan = f", {int(values.isnan().sum())} of them NaN" if values.isnan().any() else ""
                raise ValueError(
                    f"'{site.name}' has {site.units} units and needs a score for each; got scores of shape "
                    f"{tuple(values.shape)}{nan}."
                )
            self._scores[site] = values.clone()

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(self._scores)

    def __getitem__(self, site: Site | str) -> Tensor:
        """Return the scores at a site, `(units,)`. Raises KeyError if the site is not one of `sites`."""
        for known, values in self._scores.items():
            if known.name == _name(site):
                return values
        raise KeyError(f"'{_name(site)}' is not one of the sites: {', '.join(site.name for site in self.sites)}.")

    def __len__(self) -> int:
        return sum(site.units for site in self._scores)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scores):
            return NotImplemented
        return self.sites == other.sites and all(torch.equal(self[site], other[site]) for site in self.sites)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __neg__(self) -> "Scores":
        return Scores({site: -values for site, values in self._scores.items()})

    def top(self, amount: int | float, per_site: bool = False) -> Neurons:
        """Return the units with the highest scores.

        Args:
            amount: a share (float from 0 to 1, rounded to at least one unit unless it is 0) or a count (int).
            per_site: take `amount` of each site, not of all units together.

        Raises:
            ValueError: If the amount is invalid, or exceeds the number of units.
        """
        sites = self.sites
        groups: Sequence[Sequence[Site]] = [[site] for site in sites] if per_site else [sites]
        chosen: dict[Site, list[int]] = {site: [] for site in sites}
        for group in groups:
            units = [(site, unit) for site in group for unit in range(site.units)]
            scores = torch.cat([self._scores[site].double() for site in group]) if units else torch.empty(0)
            best = scores.sort(descending=True, stable=True).indices[: _count(amount, len(units))]
            for place in best.tolist():
                site, unit = units[place]
                chosen[site].append(unit)
        return Neurons(chosen)

    def bottom(self, amount: int | float, per_site: bool = False) -> Neurons:
        """Return the units with the lowest scores. Ties are broken, and errors raised, as in `top`."""
        return (-self).top(amount, per_site)

    def random(self, amount: int | float, seed: int, per_site: bool = False) -> Neurons:
        """Return as many units as `top` does, drawn at random. Raises ValueError as `top` does."""
        generator = torch.Generator().manual_seed(seed)
        return Scores({site: torch.rand(site.units, generator=generator) for site in self.sites}).top(amount, per_site)

    def save(self, path: Path | str, **provenance: Any) -> None:
        """Write the scores to a safetensors file. `provenance` is added to its header and must be JSON data."""
        sites = [site_to_json(site) for site in self.sites]
        tensors = {f"{n}": values for n, values in enumerate(self._scores.values())}
        write_tensors(path, "scores", {"sites": sites, **provenance}, tensors)

    @classmethod
    def load(cls, path: Path | str) -> "Scores":
        """Read a file that `save` wrote. Raises FileError if it is damaged or of another kind."""
        return _made(path, lambda: cls(dict(_read(path, "scores"))))


def _read(path: Path | str, kind: str) -> list[tuple[Site, Tensor]]:
    header, tensors = read_tensors(path, kind)
    try:
        read = [(site_from_json(site), tensors[f"{n}"]) for n, site in enumerate(header["sites"])]
    except (KeyError, TypeError) as error:
        raise FileError(f"'{path}' has no {kind} for one of its sites ({error}). Create it again.") from None
    if len({site for site, _ in read}) < len(read) or len(tensors) > len(read):
        raise FileError(f"'{path}' has a site twice, or {kind} without a site. Create it again.")
    return read


def _unit_numbers(site: Site, units: Tensor) -> list[int]:
    """Return the unit numbers of a file for a site. Raises ValueError unless they are as `Neurons.save` writes them."""
    if units.dtype != torch.int64 or units.dim() != 1 or (units.diff() <= 0).any():
        kind = f"{units.dtype} of shape {tuple(units.shape)}"
        raise ValueError(f"The units at '{site.name}' must be different ascending whole numbers; got {kind}.")
    return units.tolist()


def _made(path: Path | str, make: Callable[[], _Made]) -> _Made:
    try:
        return make()
    except FileError:
        raise
    except ValueError as error:
        raise FileError(f"'{path}' is damaged: {error} Create it again.") from None


def _name(site: Site | str) -> str:
    return site if isinstance(site, str) else site.name


def _check_names(sites: Iterable[Site]) -> None:
    seen: dict[str, Site] = {}
    for site in sites:
        if seen.setdefault(site.name, site) != site:
            raise ValueError(f"Two different sites are called '{site.name}': {seen[site.name]} and {site}.")


def _count(amount: int | float, total: int) -> int:
    valid = isinstance(amount, (int, float)) and not isinstance(amount, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not valid or not 0 <= amount <= (total if isinstance(amount, int) else 1.0):
        raise ValueError(
            f"Expected a share (a float) from 0 to 1, or a count (an int) of at most {total} units, got {amount!r}."
        )
    if isinstance(amount, int):
        return amount
    return min(total, max(math.floor(amount * total + 0.5), 1 if amount > 0 else 0))
