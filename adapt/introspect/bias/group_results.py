"""The results of compared groups as plain data: error rates, and rows for layers and neurons."""

from dataclasses import dataclass

from adapt.introspect.bias.rows import Interval, LayerDivergence, NeuronDivergence
from adapt.introspect.bias.shift import ShiftEffect
from interventions.neurons import Neurons, Scores


@dataclass(frozen=True)
class GroupRate:
    """The error rate of a group.

    Args:
        group: The name of the group.
        examples: The number of its examples.
        units: The number of units that the interval resamples: its examples, or its speakers.
        rate: The error rate.
        interval: The 95 % confidence interval of the error rate.
        reference: The reference that the group is compared with. This and all attributes below are None for a group
            without a reference.
        reference_rate: The error rate of the reference.
        difference: How much worse the group is than the reference; positive is worse.
        difference_interval: The 95 % confidence interval of the difference.
    """

    group: str
    examples: int
    units: int
    rate: float
    interval: Interval
    reference: str | None = None
    reference_rate: float | None = None
    difference: float | None = None
    difference_interval: Interval | None = None

    @property
    def worse(self) -> bool:
        """Whether the group is significantly worse than its reference."""
        return self.difference_interval is not None and self.difference_interval[0] > 0


@dataclass(frozen=True)
class GroupComparison:
    """A group compared with its reference.

    Args:
        group: The name of the group.
        reference: The name of the reference.
        layers: A row for each site; empty if group and reference have no content in common at any site.
        neurons: A row for each diverging neuron: those linked to errors first, then by decreasing distance.
        scores: The distance of the groups at each neuron, in standard deviations; None without layers.
        top_site: The name of the site with the largest divergence; None without layers.
        shifts: The effects of shifting the diverging neurons, if they were measured.
    """

    group: str
    reference: str
    layers: tuple[LayerDivergence, ...] = ()
    neurons: tuple[NeuronDivergence, ...] = ()
    scores: Scores | None = None
    top_site: str | None = None
    shifts: tuple[ShiftEffect, ...] = ()

    @property
    def diverging(self) -> Neurons:
        """The neurons that diverge between the group and its reference."""
        return self._neurons(self.neurons)

    @property
    def error_linked(self) -> Neurons:
        """The diverging neurons that are linked to errors."""
        return self._neurons(tuple(row for row in self.neurons if row.error_linked))

    def neuron(self, site: str, unit: int) -> NeuronDivergence:
        """Return the row of a diverging neuron. Raises KeyError if it does not diverge."""
        for row in self.neurons:
            if (row.site, row.unit) == (site, unit):
                return row
        raise KeyError(f"Neuron {unit} of '{site}' does not diverge.")

    def _neurons(self, rows: tuple[NeuronDivergence, ...]) -> Neurons:
        sites = () if self.scores is None else self.scores.sites
        return Neurons({site: sorted(row.unit for row in rows if row.site == site.name) for site in sites})
