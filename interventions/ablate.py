"""Ablation: take neurons out, by putting zero, their mean, or their activation elsewhere in their place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from interventions.affine import Affine
from interventions.hooks import uncompiled
from interventions.intervention import CastLike, Edit, Intervention, MaskedReplace
from interventions.neurons import Neurons
from interventions.sites import Site

To = Literal["zero", "mean", "resample"]


@dataclass(frozen=True, eq=False)
class Ablate(Intervention):
    """Put something that says nothing of the input in the place of neurons' activations.

    `to="zero"`: zero. `to="mean"`: `reference[site's name]`, `(units,)`, which a `Mean` over a corpus gives.
    `to="resample"`: a row of `reference[site's name]`, `(rows, units)`, drawn for each time step of each example, the
    same for all neurons of a site; a `Sample` of a corpus gives them. The draws follow from `seed` and start anew
    whenever the intervention is put on. Neurons that are not ablated stay as they are, bit for bit.

    Zero may lie far from anything that a neuron does; means and resampled activations do not (Chan et al. 2022, causal
    scrubbing).

    Raises:
        ValueError: `to` is unknown, or the reference does not fit.
    """

    neurons: Neurons
    to: To = "zero"
    reference: Mapping[str, Tensor] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.to not in get_args(To):
            raise ValueError(f"to must be {', '.join(get_args(To))}, got {self.to!r}.")
        if (self.to == "zero") != (self.reference is None):
            raise ValueError(f"to={self.to!r} takes {'no' if self.to == 'zero' else 'a'} reference.")
        for site in self.sites if self.reference is not None else ():
            given = self.reference.get(site.name)
            expected = f"({site.units},)" if self.to == "mean" else f"(rows, {site.units})"
            shape = None if given is None else tuple(given.shape)
            if shape is None or len(shape) != (1 if self.to == "mean" else 2) or shape[-1] != site.units or 0 in shape:
                raise ValueError(f"to={self.to!r} needs a reference {expected} for '{site.name}', got {shape}.")

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.neurons.used

    def at(self, site: Site) -> Edit:
        among = MaskedReplace(self.neurons.mask(site))
        if self.to == "resample":
            rows, draw = CastLike(self.reference[site.name]), torch.Generator().manual_seed(self.seed)
            drawn = uncompiled(_drawn)  # a generator of one's own cannot be traced
            return lambda x, now: among(drawn(rows(x), x, draw), x)
        if self.to == "zero":
            return lambda x, now: among(0.0, x)
        instead = CastLike(self.reference[site.name])
        return lambda x, now: among(instead(x), x)

    def affine(self, site: Site) -> Affine:
        if self.to == "resample":
            raise ValueError("Ablate to='resample' cannot be folded: it puts in another activation each time.")
        mask = self.neurons.mask(site).double()
        mean = None if self.to == "zero" else mask * self.reference[site.name].cpu().double()
        return Affine(scale=1 - mask, shift=mean)


def _drawn(rows: Tensor, x: Tensor, draw: torch.Generator) -> Tensor:
    return rows[torch.randint(len(rows), x.shape[:-1], generator=draw).to(x.device)]
