"""Gradual unfreezing: the top layer trains first, then the one below it too, and so on (Howard and Ruder 2018)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from adapt.checks import check_count
from adapt.models.model import Model
from adapt.tuning.rates import layer_of


@dataclass(frozen=True)
class Unfreeze:
    """Which parameters train from when on: those of `groups[0]` from the first epoch, of `groups[1]` `every` later.

    What trains follows from the epoch alone, so that there is nothing that a resumed run would have to know.
    """

    groups: tuple[tuple[str, ...], ...]
    every: int

    def __call__(self, model: nn.Module, epoch: int) -> None:
        """Let train what trains in `epoch` (0 is the first), and freeze what waits; others are left as they are."""
        parameters = dict(model.named_parameters())
        for number, names in enumerate(self.groups):
            for name in names:
                parameters[name].requires_grad_(number * self.every <= epoch)
                parameters[name].grad = None  # an optimizer would still apply it

    @property
    def epochs(self) -> int:
        """The first epoch in which all train, counted from 1."""
        return (len(self.groups) - 1) * self.every + 1


def gradual(model: Model, trained: Sequence[str], every: int) -> Unfreeze:
    """The layers that have any of the `trained` parameters, from the top down, one more after `every` epochs.

    Raises:
        InputError: `every` is no number of epochs.
    """
    check_count("unfreeze", every, 1)
    layers: dict[int, list[str]] = {}
    for name in trained:
        layers.setdefault(layer_of(model, name), []).append(name)
    return Unfreeze(tuple(tuple(layers[number]) for number in sorted(layers, reverse=True)), every)
