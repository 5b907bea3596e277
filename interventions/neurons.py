"""Which: sets of units across sites (`Neurons`), and a number for each unit to choose them by (`Scores`)."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from interventions.files import FileError, read_tensors, site_from_json, site_to_json, write_tensors
from interventions.sites import Site


@dataclass(frozen=True, init=False, eq=False)
class Neurons:
    """A set of units at some sites, as a value: equal where sites and units are, in whatever order.

        neurons = Neurons({site: [3, 8]})
        neurons | other, neurons & other, neurons - other, ~neurons
        ("encoder.conv1", 3) in neurons, len(neurons), list(neurons)

    It remembers its sites, also those where it has no unit: `~` is all other units of these. What `|`, `&` and `-` give
    has the sites of both. Sites keep the order they came in, and units ascend.

    Raises:
        ValueError: a unit is not one of its site's, or two sites of one name differ.
    """

    sites: tuple[Site, ...]
    units: tuple[tuple[int, ...], ...]

    def __init__(self, units: Mapping[Site, Iterable[int]]) -> None:
        _check_names(units)
        chosen = []
        for site, numbers in units.items():
            own = sorted({index(number) for number in numbers})
            if own and not 0 <= own[0] <= own[-1] < site.units:
                raise ValueError(f"'{site.name}' has units 0 to {site.units - 1}, not {own[0]} to {own[-1]}.")
            chosen.append(tuple(own))
        object.__setattr__(self, "sites", tuple(units))
        object.__setattr__(self, "units", tuple(chosen))
        object.__setattr__(self, "_masks", {})  # made when they are asked for, which is for every block of edits

    @classmethod
    def every(cls, sites: Site | Iterable[Site]) -> "Neurons":
        """All units of the sites."""
        return cls({site: range(site.units) for site in ([sites] if isinstance(sites, Site) else sites)})

    @classmethod
    def none(cls, sites: Site | Iterable[Site]) -> "Neurons":
        """No unit of the sites; its complement is every unit of them."""
        return ~cls.every(sites)

    @property
    def used(self) -> tuple[Site, ...]:
        """The sites at which there is a unit in the set."""
        return tuple(site for site, units in zip(self.sites, self.units, strict=True) if units)

    def __getitem__(self, site: Site | str) -> tuple[int, ...]:
        """The units at a site, ascending. Raises KeyError where it is not among the sites."""
        name = _name(site)
        for known, units in zip(self.sites, self.units, strict=True):
            if known.name == name:
                return units
        raise KeyError(f"'{name}' is none of the sites: {', '.join(known.name for known in self.sites) or 'none'}.")

    def mask(self, site: Site | str) -> Tensor:
        """A bool tensor `(units,)`, True at the units in the set; the same one each time, to be read only.

        Raises KeyError as `[]` does.
        """
        name = _name(site)
        if name not in self._masks:
            units = set(self[name])
            count = next(known.units for known in self.sites if known.name == name)
            with torch.inference_mode(False):
                self._masks[name] = torch.tensor([unit in units for unit in range(count)], dtype=torch.bool)
        return self._masks[name]

    def __contains__(self, neuron: object) -> bool:
        if not (isinstance(neuron, tuple) and len(neuron) == 2 and isinstance(neuron[0], (str, Site))):
            return False
        name = _name(neuron[0])
        return any(known.name == name and neuron[1] in own for known, own in zip(self.sites, self.units, strict=True))

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Each unit as (site's name, number)."""
        for site, units in zip(self.sites, self.units, strict=True):
            for unit in units:
                yield site.name, unit

    def __len__(self) -> int:
        return sum(map(len, self.units))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Neurons) and self._of_site() == other._of_site()

    def __hash__(self) -> int:
        return hash(frozenset(self._of_site().items()))

    def __or__(self, other: "Neurons") -> "Neurons":
        return self._with(other, set.union)

    def __and__(self, other: "Neurons") -> "Neurons":
        return self._with(other, set.intersection)

    def __sub__(self, other: "Neurons") -> "Neurons":
        return self._with(other, set.difference)

    def __invert__(self) -> "Neurons":
        return Neurons({site: set(range(site.units)) - set(units) for site, units in self._of_site().items()})

    def __repr__(self) -> str:
        said = (f"{site.name}: {len(units)} of {site.units}" for site, units in self._of_site().items())
        return f"Neurons({', '.join(said)})"

    def random(self, seed: int, apart: bool = False) -> "Neurons":
        """A control: as many units at each site, drawn evenly from all of the site's, or `apart` from this set's own.

        Raises:
            ValueError: apart from its own units, a site has too few.
        """
        draw = torch.Generator().manual_seed(seed)
        chosen = {}
        for site, units in zip(self.sites, self.units, strict=True):
            pool = torch.tensor([unit for unit in range(site.units) if not (apart and unit in set(units))])
            if len(pool) < len(units):
                raise ValueError(
                    f"'{site.name}' has {len(pool)} other units, and {len(units)} are to be drawn. Leave out apart."
                )
            chosen[site] = pool[torch.randperm(len(pool), generator=draw)[: len(units)]].tolist()
        return Neurons(chosen)

    def save(self, path: Path | str, **provenance: Any) -> None:
        """Write them to one safetensors file; `provenance` is what else its header says, as JSON."""
        tensors = {f"{n}": torch.tensor(units, dtype=torch.int64) for n, units in enumerate(self.units)}
        write_tensors(path, "neurons", {"sites": [site_to_json(site) for site in self.sites], **provenance}, tensors)

    @classmethod
    def load(cls, path: Path | str) -> "Neurons":
        """Read what `save` wrote. Raises FileError where the file is another or damaged."""
        return cls({site: units.tolist() for site, units in _held(path, "neurons")})

    def _with(self, other: "Neurons", join: Any) -> "Neurons":
        if not isinstance(other, Neurons):
            return NotImplemented
        mine, theirs = self._of_site(), other._of_site()
        return Neurons({site: join(set(mine.get(site, ())), theirs.get(site, ())) for site in {**mine, **theirs}})

    def _of_site(self) -> dict[Site, tuple[int, ...]]:
        return dict(zip(self.sites, self.units, strict=True))


class Scores:
    """A number for each unit of some sites: `(units,)` for each. What is higher is chosen first.

        scores.top(0.05)                   # the highest twentieth of all units
        scores.top(10, per="site")         # the ten highest of each site
        scores.top(0.05).random(seed=1)    # a control: as many of each site, at random

    Among equal scores, the unit of the earlier site comes first, then the one of the lower number.

    Raises:
        ValueError: a score is missing or NaN, or two sites of one name differ.
    """

    def __init__(self, scores: Mapping[Site, Tensor]) -> None:
        _check_names(scores)
        self._scores: dict[Site, Tensor] = {}
        for site, given in scores.items():
            values = torch.as_tensor(given).detach().cpu()
            values = values if values.dtype == torch.float64 else values.float()
            if values.shape != (site.units,) or values.isnan().any():
                nan = f", {int(values.isnan().sum())} of them NaN" if values.isnan().any() else ""
                raise ValueError(
                    f"'{site.name}' has {site.units} units and needs a number for each; got scores of shape "
                    f"{tuple(values.shape)}{nan}."
                )
            self._scores[site] = values.clone()

    @property
    def sites(self) -> tuple[Site, ...]:
        return tuple(self._scores)

    def __getitem__(self, site: Site | str) -> Tensor:
        """The scores at a site, `(units,)`. Raises KeyError where it is not among the sites."""
        for known, values in self._scores.items():
            if known.name == _name(site):
                return values
        raise KeyError(f"'{_name(site)}' is none of the sites: {', '.join(site.name for site in self.sites)}.")

    def __len__(self) -> int:
        return sum(site.units for site in self._scores)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scores) or self.sites != other.sites:
            return NotImplemented if not isinstance(other, Scores) else False
        return all(torch.equal(self[site], other[site]) for site in self.sites)

    __hash__ = None

    def __neg__(self) -> "Scores":
        return Scores({site: -values for site, values in self._scores.items()})

    def top(self, amount: int | float, per: Literal["site"] | None = None) -> Neurons:
        """The units with the highest scores: a share (a float from 0 to 1; rounded, at least one unit if it is above
        0) or a count (an int), of all units or of each site's.

        Raises:
            ValueError: the amount is neither, or more than there are.
        """
        if per not in (None, "site"):
            raise ValueError(f"per must be 'site', or None for all sites together; got {per!r}.")
        sites = self.sites
        groups: Sequence[Sequence[Site]] = [[site] for site in sites] if per else [sites]
        chosen: dict[Site, list[int]] = {site: [] for site in sites}
        for group in groups:
            places = [(site, unit) for site in group for unit in range(site.units)]
            scores = torch.cat([self._scores[site].double() for site in group]) if places else torch.empty(0)
            best = scores.sort(descending=True, stable=True).indices[: _count(amount, len(places))]
            for place in best.tolist():
                site, unit = places[place]
                chosen[site].append(unit)
        return Neurons(chosen)

    def bottom(self, amount: int | float, per: Literal["site"] | None = None) -> Neurons:
        """The units with the lowest scores; as `top`, equal ones in the same order. Raises ValueError as `top` does."""
        return (-self).top(amount, per)

    def random(self, amount: int | float, seed: int, per: Literal["site"] | None = None) -> Neurons:
        """As many units as `top` gives, drawn evenly from all. Raises ValueError as `top` does."""
        draw = torch.Generator().manual_seed(seed)
        return Scores({site: torch.rand(site.units, generator=draw) for site in self.sites}).top(amount, per)

    def save(self, path: Path | str, **provenance: Any) -> None:
        """Write them to one safetensors file; `provenance` is what else its header says, as JSON."""
        sites = [site_to_json(site) for site in self.sites]
        tensors = {f"{n}": values for n, values in enumerate(self._scores.values())}
        write_tensors(path, "scores", {"sites": sites, **provenance}, tensors)

    @classmethod
    def load(cls, path: Path | str) -> "Scores":
        """Read what `save` wrote. Raises FileError where the file is another or damaged."""
        return cls(dict(_held(path, "scores")))


def _held(path: Path | str, kind: str) -> list[tuple[Site, Tensor]]:
    header, tensors = read_tensors(path, kind)
    try:
        return [(site_from_json(site), tensors[f"{n}"]) for n, site in enumerate(header["sites"])]
    except (KeyError, TypeError) as error:
        raise FileError(
            f"'{path}' does not hold {kind} for each site that it names ({error}). Make it again."
        ) from None


def _name(site: Site | str) -> str:
    return site if isinstance(site, str) else site.name


def _check_names(sites: Iterable[Site]) -> None:
    seen: dict[str, Site] = {}
    for site in sites:
        if seen.setdefault(site.name, site) != site:
            raise ValueError(f"Two sites are called '{site.name}', and differ: {seen[site.name]} and {site}.")


def _count(amount: int | float, total: int) -> int:
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise ValueError(f"Expected a share (a float from 0 to 1) or a count (an int), got {amount!r}.")
    most = total if isinstance(amount, int) else 1.0
    if not 0 <= amount <= most:
        raise ValueError(
            f"Expected a share (a float) from 0 to 1, or a count (an int) of at most {total} units, got {amount!r}."
        )
    if isinstance(amount, int):
        return amount
    return min(total, max(math.floor(amount * total + 0.5), 1 if amount > 0 else 0))
