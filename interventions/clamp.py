"""Clamping: bound the activations of neurons (`Clamp`), set them to a value (`Set`), or scale them (`Scale`)."""

from dataclasses import dataclass

from interventions.affine import Affine
from interventions.intervention import Edit, Intervention, MaskedReplace
from interventions.neurons import Neurons
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class Clamp(Intervention):
    """Clamp the activations of neurons to the range from `low` to `high`; None: unbounded on that side.

    Raises:
        ValueError: If there is no bound, or `low` is above `high`.
    """

    neurons: Neurons
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        unbounded = self.low is None and self.high is None
        if unbounded or (self.low is not None and self.high is not None and self.low > self.high):
            raise ValueError(f"Give low, high or both, with low <= high; got low={self.low}, high={self.high}.")

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.neurons.used

    def at(self, site: Site) -> Edit:
        replace = MaskedReplace(self.neurons.mask(site))
        return lambda x, context: replace(x.clamp(self.low, self.high), x)


@dataclass(frozen=True, eq=False)
class Set(Intervention):
    """Set the activations of neurons to `value`."""

    neurons: Neurons
    value: float

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.neurons.used

    def at(self, site: Site) -> Edit:
        replace = MaskedReplace(self.neurons.mask(site))
        return lambda x, context: replace(float(self.value), x)

    def affine(self, site: Site) -> Affine:
        mask = self.neurons.mask(site).double()
        return Affine(scale=1 - mask, shift=mask * self.value)


@dataclass(frozen=True, eq=False)
class Scale(Intervention):
    """Multiply the activations of neurons by `factor`. A factor of 1 is the identity, bit for bit."""

    neurons: Neurons
    factor: float

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.neurons.used

    def at(self, site: Site) -> Edit:
        replace = MaskedReplace(self.neurons.mask(site))
        return lambda x, context: replace(x * self.factor, x) if self.factor != 1 else x

    def affine(self, site: Site) -> Affine:
        mask = self.neurons.mask(site).double()
        return Affine(scale=1 + mask * (self.factor - 1))
