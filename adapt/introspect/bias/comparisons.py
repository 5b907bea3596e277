"""Comparisons of groups: which neurons diverge and which are linked to errors, at a bounded false discovery rate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from adapt.introspect.bias.divergence import Divergence
from adapt.introspect.bias.error_link import ErrorLink
from interventions.neurons import Neurons, Scores
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class Comparison:
    """A group compared with its reference.

    Args:
        group: The name of the group.
        reference: The name of the reference.
        number: The index of the group.
        reference_numbers: The indices of the groups that make up the reference.
        divergences: The divergence at each site.
        q: The q-values of the divergence at each site, `(units,)`; set by `find_diverging`.
        diverging: The neurons that diverge; set by `find_diverging`.
        links: The links with errors at each site; set by `find_error_linked`.
        link_q: The q-values of the links at each site, `(units,)`; set by `find_error_linked`.
        error_linked: The diverging neurons that are linked to errors; set by `find_error_linked`.
    """

    group: str
    reference: str
    number: int
    reference_numbers: tuple[int, ...]
    divergences: Mapping[Site, Divergence]
    q: Mapping[Site, Tensor] = field(default_factory=dict)
    diverging: Neurons = field(default_factory=lambda: Neurons({}))
    links: Mapping[Site, ErrorLink] = field(default_factory=dict)
    link_q: Mapping[Site, Tensor] = field(default_factory=dict)
    error_linked: Neurons = field(default_factory=lambda: Neurons({}))

    @property
    def scores(self) -> Scores:
        """The distance of the groups at each neuron, in standard deviations."""
        return Scores({site: divergence.distance for site, divergence in self.divergences.items()})

    @property
    def top_site(self) -> Site:
        """The site with the largest divergence."""
        return max(self.divergences, key=lambda site: self.divergences[site].overall[0])


def find_diverging(comparisons: Sequence[Comparison], level: float) -> list[Comparison]:
    """Find the neurons that diverge, at a false discovery rate of `level` over all sites and comparisons together.

    The procedure is that of Benjamini and Hochberg (1995). Returns the comparisons with `q` and `diverging`.
    """
    values = iter(q_values([divergence.p for each in comparisons for divergence in each.divergences.values()]))
    found = []
    for each in comparisons:
        q = {site: next(values) for site in each.divergences}
        diverging = Neurons({site: (own <= level).nonzero().flatten().tolist() for site, own in q.items()})
        found.append(replace(each, q=q, diverging=diverging))
    return found


def find_error_linked(
    comparisons: Sequence[Comparison], links: Mapping[int, Mapping[Site, ErrorLink]], level: float
) -> list[Comparison]:
    """Find the diverging neurons that are linked to errors, at a false discovery rate of `level`.

    Only diverging neurons are tested, those of all sites and comparisons together. The keys of `links` are the indices
    of the groups. Returns the comparisons with `links`, `link_q` and `error_linked`.
    """
    tested = [
        (each.number, site, list(each.diverging[site])) for each in comparisons for site in links.get(each.number, {})
    ]
    values = q_values([links[number][site].p[units] for number, site, units in tested])
    q: dict[int, dict[Site, Tensor]] = {each.number: {} for each in comparisons}
    for (number, site, units), own in zip(tested, values, strict=True):
        q[number][site] = torch.ones(site.units, dtype=torch.float64).index_copy(0, torch.tensor(units), own)
    found = []
    for each in comparisons:
        link_q = q[each.number]
        linked = {site: [unit for unit in each.diverging[site] if own[unit] <= level] for site, own in link_q.items()}
        found.append(replace(each, links=links.get(each.number, {}), link_q=link_q, error_linked=Neurons(linked)))
    return found


def q_values(p: Sequence[Tensor]) -> list[Tensor]:
    """Return the q-values of all p-values together: the lowest false discovery rate at which each is significant."""
    from scipy.stats import false_discovery_control

    if not p:
        return []
    flat = torch.from_numpy(false_discovery_control(torch.cat(list(p)).clamp(0, 1).numpy()))
    return list(flat.split([len(values) for values in p]))
