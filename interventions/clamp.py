"""Clamping: keep neurons within bounds (`Clamp`), at a value (`Set`), or louder or softer than they are (`Scale`)."""

from dataclasses import dataclass

from interventions.affine import Affine
from interventions.intervention import Edit, Intervention, MaskedReplace
from interventions.neurons import Neurons
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class Clamp(Intervention):
    """Raise neurons' activations to at least `low`, and lower them to at most `high`; None: no bound.

    Raises:
        ValueError: there is no bound, or `low` lies above `high`.
    """

    neurons: Neurons
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if (self.low is None and self.high is None) or None not in (self.low, self.high) and self.low > self.high:
            raise ValueError(f"Give low, high or both, low at most high; got low={self.low}, high={self.high}.")

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.neurons.used

    def at(self, site: Site) -> Edit:
        among = MaskedReplace(self.neurons.mask(site))
        return lambda x, now: among(x.clamp(self.low, self.high), x)


@dataclass(frozen=True, eq=False)
class Set(Intervention):
    """Set neurons' activations to `value`."""

    neurons: Neurons
    value: float

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.neurons.used

    def at(self, site: Site) -> Edit:
        among = MaskedReplace(self.neurons.mask(site))
        return lambda x, now: among(float(self.value), x)

    def affine(self, site: Site) -> Affine:
        mask = self.neurons.mask(site).double()
        return Affine(scale=1 - mask, shift=mask * self.value)


@dataclass(frozen=True, eq=False)
class Scale(Intervention):
    """Multiply neurons' activations by `factor`; 1 changes nothing, bit for bit."""

    neurons: Neurons
    factor: float

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.neurons.used

    def at(self, site: Site) -> Edit:
        among = MaskedReplace(self.neurons.mask(site))
        return lambda x, now: among(x * self.factor, x) if self.factor != 1 else x

    def affine(self, site: Site) -> Affine:
        mask = self.neurons.mask(site).double()
        return Affine(scale=1 + mask * (self.factor - 1))
