"""A group held against others: which of its neurons part and which go with its errors, false discoveries bounded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from adapt.introspect.bias.divergence import Parting, distance_interval
from adapt.introspect.bias.error_link import Link
from adapt.introspect.bias.shift import Moved
from adapt.introspect.profiles.jackknife import student_quantile
from interventions.neurons import Neurons, Scores
from interventions.sites import Site

_TOP_CONTENTS = 3  # of a neuron, that are named


@dataclass
class Compared:
    """One group held against others: how its neurons part at each site, with the q-value of each, and which of those
    that part go with its errors. What `confirm` did lies in `moved`.
    """

    group: str
    against: str
    number: int
    others: tuple[int, ...]
    partings: dict[Site, Parting]
    q: dict[Site, Tensor] = field(default_factory=dict)
    links: dict[Site, Link] = field(default_factory=dict)
    link_q: dict[Site, Tensor] = field(default_factory=dict)
    neurons: Neurons = field(default_factory=lambda: Neurons({}))
    with_errors: Neurons = field(default_factory=lambda: Neurons({}))
    moved: list[Moved] = field(default_factory=list)

    @property
    def scores(self) -> Scores:
        """How far apart each neuron's profiles are, in standard deviations."""
        return Scores({site: own.apart for site, own in self.partings.items()})

    @property
    def site(self) -> Site:
        """Where the groups' profiles are farthest apart."""
        return max(self.partings, key=lambda site: self.partings[site].mean[0])

    def ranked(self) -> list[tuple[Site, int]]:
        """The neurons that part: those with errors, then the others, the farthest first."""
        found = [(site, unit) for site in self.neurons.used for unit in self.neurons[site]]
        return sorted(
            found,
            key=lambda at: (
                (at[0].name, at[1]) not in self.with_errors, -float(self.partings[at[0]].squared[at[1]])
            ),
        )  # fmt: skip

    def layers(self) -> list[dict[str, Any]]:
        """By site: how many neurons part, how many go with errors, how far apart profiles are (root mean square)."""
        rows = []
        for site, own in self.partings.items():
            low, high = distance_interval(*own.mean, own.freedom)
            rows.append(
                {
                    "site": site.name, "units": site.units, "parted": len(self.neurons[site]),
                    "with_errors": len(self.with_errors[site]) if site in self.with_errors.sites else 0,
                    "apart": max(0.0, own.mean[0]) ** 0.5, "interval": [low, high],
                    "contents": len(own.contents), "content": own.contents[0].partition(":")[0],
                    "covered": own.covered,
                }
            )  # fmt: skip
        return rows

    def neuron(self, site: Site, unit: int) -> dict[str, Any]:
        """All that is told of a neuron that parts; distances in standard deviations of a step."""
        own = self.partings[site]
        most = (own.weights.sqrt() * own.difference[:, unit].abs()).topk(min(_TOP_CONTENTS, len(own.contents))).indices
        told: dict[str, Any] = {
            "site": site.name, "unit": unit, "apart": float(own.apart[unit]), "interval": list(own.interval(unit)),
            "q": float(self.q[site][unit]), "shift": float(own.shift[unit]),
            "shift_interval": list(own.shift_interval(unit)),
            "most_in": [
                {"content": own.contents[c].partition(":")[2] or own.contents[c],
                 "difference": float(own.difference[c, unit])} for c in most.tolist()
            ],
        }  # fmt: skip
        if site in self.links:
            link = self.links[site]
            told |= {
                "error_correlation": float(link.correlation[unit]), "error_interval": list(link.interval(unit)),
                "error_q": float(self.link_q[site][unit]), "with_errors": (site.name, unit) in self.with_errors,
            }  # fmt: skip
            further, error = float(link.further[unit]), float(link.further_error[unit])
            if isfinite(further) and isfinite(error):
                far = student_quantile(0.975, own.freedom) * error
                told |= {"further_where_wrong": further, "further_interval": [further - far, further + far]}
        return told


def discover(compared: Sequence[Compared], level: float) -> None:
    """Which neurons part, so that of all that are named at most `level` are expected to be chance's (Benjamini and
    Hochberg 1995), over all sites and groups together.
    """
    q = iter(q_values([parting.p for own in compared for parting in own.partings.values()]))
    for own in compared:
        own.q = {site: next(q) for site in own.partings}
        own.neurons = Neurons({site: (q <= level).nonzero().flatten().tolist() for site, q in own.q.items()})


def discover_links(compared: Sequence[Compared], links: Mapping[int, Mapping[Site, Link]], level: float) -> None:
    """Likewise, of the neurons that part, those that go with the group's errors."""
    places = [(own, site) for own in compared for site in links.get(own.number, {})]
    chosen = [list(own.neurons[site]) for own, site in places]
    found = q_values([links[own.number][site].p[units] for (own, site), units in zip(places, chosen, strict=True)])
    for (own, site), units, q in zip(places, chosen, found, strict=True):
        own.links[site] = links[own.number][site]
        own.link_q[site] = torch.ones(site.units, dtype=torch.float64).index_copy(0, torch.tensor(units), q)
    for own in compared:
        own.with_errors = Neurons(
            {site: [unit for unit in own.neurons[site] if own.link_q[site][unit] <= level] for site in own.links}
        )


def q_values(p: Sequence[Tensor]) -> list[Tensor]:
    """Of all p together, the level at which each would still be named."""
    from scipy.stats import false_discovery_control

    if not p:
        return []
    flat = torch.from_numpy(false_discovery_control(torch.cat(list(p)).clamp(0, 1).numpy()))
    return list(flat.split([len(own) for own in p]))
