"""How the weights of one neuron differ between two models."""

from dataclasses import dataclass

import torch

from adapt.errors import InputError
from adapt.introspect.weights.change import incoming_weights
from adapt.models.model import Model
from interventions.bits import changed_bits
from interventions.sites import Site


@dataclass(frozen=True)
class RowChange:
    """The change of a neuron's incoming weights and its bias.

    Attributes:
        distance: The norm of the difference.
        relative: The norm of the difference, relative to the norm before; None if that is 0.
        changed: The number of weights of which a bit differs.
        weights: The number of weights.
    """

    distance: float
    relative: float | None
    changed: int
    weights: int

    @property
    def equal(self) -> bool:
        """Whether all weights are equal bit by bit."""
        return not self.changed


@torch.no_grad()
def row_change(before: Model, after: Model, site: Site, unit: int) -> RowChange:
    """Return how the weights of a neuron differ between two models of one architecture.

    Raises:
        InputError: One of the models does not have the neuron with as many weights.
    """
    try:
        old, new = (
            incoming_weights(model, site, dict(model.named_parameters(remove_duplicate=False)))[unit]
            for model in (before, after)
        )
    except (KeyError, AttributeError, IndexError):
        raise InputError(f"One of the models has no neuron {unit} at '{site.name}'.") from None
    if old.shape != new.shape:
        raise InputError(f"The neurons {unit} at '{site.name}' have {len(old)} and {len(new)} weights.")
    distance, size = float((new - old).norm()), float(old.norm())
    changed = int(changed_bits(old, new).sum())
    return RowChange(distance, distance / size if size else None, changed, len(old))
