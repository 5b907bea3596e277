"""Gradual unfreezing: train the top layer first, then also the one below it, and so on (Howard and Ruder 2018)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from adapt.checks import check_count
from adapt.models.model import Model
from adapt.tuning.rates import layer_numbers


@dataclass(frozen=True)
class Unfreeze:
    """A schedule: the parameters of `groups[0]` train from the first epoch, the next ones `every` epochs later.

    What trains in an epoch depends only on its number, so a resumed run needs no further state.
    """

    groups: tuple[tuple[str, ...], ...]
    every: int

    def __call__(self, model: nn.Module, epoch: int) -> None:
        """Unfreeze the groups that train in `epoch` (counted from 0), and freeze the others."""
        parameters = dict(model.named_parameters())
        for number, names in enumerate(self.groups):
            for name in names:
                parameters[name].requires_grad_(number * self.every <= epoch)
                parameters[name].grad = None  # an optimizer would still apply it

    @property
    def epochs(self) -> int:
        """The first epoch, counted from 1, in which all groups train."""
        return (len(self.groups) - 1) * self.every + 1


def gradual(model: Model, trained: Sequence[str], every: int) -> Unfreeze:
    """Unfreeze the layers of the `trained` parameters from the top down, one more after every `every` epochs.

    Raises:
        InputError: `every` is not a whole number of at least 1.
    """
    check_count("unfreeze", every, 1)
    layers: dict[int, list[str]] = {}
    for name, number in layer_numbers(model, trained).items():
        layers.setdefault(number, []).append(name)
    return Unfreeze(tuple(tuple(layers[number]) for number in sorted(layers, reverse=True)), every)
