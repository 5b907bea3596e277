"""Ablation: replace neurons by zero, by their mean, or by activations drawn from a corpus."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from interventions.affine import Affine
from interventions.hooks import uncompiled
from interventions.intervention import CastLike, Edit, Intervention, MaskedReplace
from interventions.neurons import Neurons
from interventions.scope import StepContext
from interventions.sites import Site

To = Literal["zero", "mean", "resample"]


@dataclass(frozen=True, eq=False)
class Ablate(Intervention):
    """Replace the activations of neurons by values that carry no information about the input.

    All other neurons keep their activations, bit for bit. Zero can be far outside the range of a neuron's
    activations; means and resampled activations are not (Chan et al. 2022, causal scrubbing).

    Args:
        neurons: the neurons to ablate.
        to: "zero"; "mean", the mean over a corpus; or "resample", activations drawn from a corpus. For each time step
            of each example, one row is drawn at random and used for all neurons of a site.
        reference: for "mean", a tensor `(units,)` for each site name, as `Mean` computes it; for "resample", a tensor
            `(rows, units)`, as `Reservoir` collects it; None for "zero".
        seed: seed for "resample". The random sequence restarts whenever the intervention is attached to a model.

    Raises:
        ValueError: If `to` is unknown or the reference does not fit.
    """

    neurons: Neurons
    to: To = "zero"
    reference: Mapping[str, Tensor] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.to not in get_args(To):
            raise ValueError(f"to must be one of {', '.join(get_args(To))}, got {self.to!r}.")
        if (self.to == "zero") != (self.reference is None):
            raise ValueError(f"to={self.to!r} takes {'no' if self.to == 'zero' else 'a'} reference.")
        if self.reference is None:
            return
        for site in self.sites:
            reference = self.reference.get(site.name)
            expected = f"({site.units},)" if self.to == "mean" else f"(rows, {site.units})"
            shape = None if reference is None else tuple(reference.shape)
            if shape is None or len(shape) != (1 if self.to == "mean" else 2) or shape[-1] != site.units or 0 in shape:
                raise ValueError(f"to={self.to!r} needs a reference {expected} for '{site.name}', got {shape}.")

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.neurons.used

    def at(self, site: Site) -> Edit:
        replace = MaskedReplace(self.neurons.mask(site))
        if self.reference is None:
            return lambda x, context: replace(0.0, x)
        reference = CastLike(self.reference[site.name])
        if self.to == "mean":
            return lambda x, context: replace(reference(x), x)
        generator = torch.Generator().manual_seed(self.seed)

        def resample(x: Tensor, context: StepContext) -> Tensor:
            rows = reference(x)
            return rows[torch.randint(len(rows), x.shape[:-1], generator=generator).to(x.device)]

        drawn = uncompiled(resample)  # torch.compile cannot trace a private generator
        return lambda x, context: replace(drawn(x, context), x)

    def affine(self, site: Site) -> Affine:
        if self.to == "resample":
            raise ValueError("Ablate(to='resample') cannot be folded: it inserts a different activation each time.")
        mask = self.neurons.mask(site).double()
        shift = None if self.reference is None else mask * self.reference[site.name].cpu().double()
        return Affine(scale=1 - mask, shift=shift)
