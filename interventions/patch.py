"""Patching: put activations of another input, or of another model, in the place of a model's own."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from interventions.intervention import CastLike, Edit, Intervention, MaskedReplace
from interventions.neurons import Neurons
from interventions.scope import StepContext
from interventions.sites import Site, Step

Align = Literal["step", "time", "stretch"]
Resample = Literal["nearest", "linear"]


@dataclass(frozen=True, eq=False)
class Patch(Intervention):
    """Put `activation` in the place of a site's own (activation patching: Vig et al. 2020; Meng et al. 2022).

    `activation` is what `capture` reads at the site, or at one of as many units in another model: `(batch, time,
    units)` or `(batch, units)`, of one example for all of them, or of as many as there are. `neurons` restricts it to
    some units of the site, `scope` to positions, seconds, steps or examples.

    `align` says which step of `activation` goes where:

    - "step": step for step. There must be equally many; where `generate` sees a part of the sequence in each call, as
      many as it goes through.
    - "time": by the time since the start, in seconds or tokens, where a step of `activation` lasts `step` (None: as
      long as the site's own). What lies behind its end stays as it is.
    - "stretch": the whole of it over the whole of the site's own, as for the same words spoken faster.

    Between its steps, the time in the middle of each counting, `resample` takes the "nearest" or goes on a "linear"
    path; before the first middle and behind the last, it is that step's.

    Raises:
        ValueError: the activation does not fit the site, or times are asked for that nobody said.
    """

    site: Site
    activation: Tensor
    neurons: Neurons | None = None
    align: Align = "step"
    resample: Resample = "linear"
    step: Step | None = None

    def __post_init__(self) -> None:
        if self.align not in get_args(Align) or self.resample not in get_args(Resample):
            raise ValueError(
                f"align must be one of {', '.join(get_args(Align))}, resample one of {', '.join(get_args(Resample))}; "
                f"got {self.align!r} and {self.resample!r}."
            )
        if self.activation.dim() < 2 or self.activation.shape[-1] != self.site.units:
            raise ValueError(
                f"'{self.site.name}' has {self.site.units} units: expected an activation (batch, time, "
                f"{self.site.units}), as capture gives it, got {tuple(self.activation.shape)}."
            )
        if self.neurons is not None and [site.name for site in self.neurons.sites] != [self.site.name]:
            raise ValueError(f"neurons must be of '{self.site.name}' alone, got {self.neurons}.")
        if self.align == "time" and self.step is not None:
            if self.site.step is None or self.site.step.unit != self.step.unit:
                raise ValueError(
                    f"A step of the activation lasts {self.step}, and one of '{self.site.name}' {self.site.step}: "
                    "aligning by time needs both, in one unit."
                )
        elif self.step is not None:
            raise ValueError(f"step says how long a step lasts, which align={self.align!r} does not ask.")

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,) if self.neurons is None or len(self.neurons) else ()

    @property
    def timed(self) -> bool:
        return self.scope.timed or self.align != "stretch"

    def at(self, site: Site) -> Edit:
        source = CastLike(self.activation)
        among = None if self.neurons is None else MaskedReplace(self.neurons.mask(site))

        def patch(x: Tensor, now: StepContext) -> Tensor:
            other = source(x)
            if other.dim() != x.dim() or other.shape[0] not in (1, x.shape[0]):
                raise self._unlike(x, "Give one example, or one for each row of the batch")
            if x.dim() == 3:
                other = self._aligned(other, x, now)
                if other.shape[1] < x.shape[1]:  # nothing lies behind the end of the activation
                    other = torch.cat([other.expand(len(x), -1, -1), x[:, other.shape[1] :]], dim=1)
            other = other.expand_as(x)
            # A copy: an in-place ReLU behind the site would write into the activation that is kept here.
            return other.clone() if among is None else among(other, x)

        return patch

    def _aligned(self, other: Tensor, x: Tensor, now: StepContext) -> Tensor:
        """What goes to the steps of `x`, `(batch, time, units)`; fewer steps where there is no more."""
        own, there = x.shape[1], other.shape[1]
        if self.align == "step":
            end = now.position + own
            if there < end or (there != own and not now.cached):
                raise self._unlike(x, "For another length take align='time' or 'stretch'")
            return other[:, now.position : end]
        if self.align == "stretch":
            if now.cached and now.position:
                raise self._unlike(x, "A generation, of which each call sees a part, cannot be stretched over")
            places = (torch.arange(own, dtype=torch.float64) + 0.5) * (there / own) - 0.5
        else:
            ratio = 1.0 if self.step is None else self.site.step.length / self.step.length
            places = (torch.arange(now.position, now.position + own, dtype=torch.float64) + 0.5) * ratio - 0.5
            places = places[places < there - 0.5 + 1e-6]
        return _read(other, places.clamp(0, there - 1), self.resample)

    def _unlike(self, x: Tensor, advice: str) -> ValueError:
        return ValueError(
            f"'{self.site.name}' puts out {tuple(x.shape)}, units last, and {tuple(self.activation.shape)} are to be "
            f"patched in. {advice}."
        )


def _read(other: Tensor, places: Tensor, resample: Resample) -> Tensor:
    """The values of `(batch, time, units)` at fractional places on the time axis, from 0 to the last step."""
    if resample == "nearest":
        return other[:, (places + 0.5).floor().long().clamp(max=other.shape[1] - 1).to(other.device)]
    before, behind = (end.long().to(other.device) for end in (places.floor(), places.ceil()))
    weight = (places - places.floor()).to(other.dtype).to(other.device).unsqueeze(-1)
    between = other[:, before] + weight * (other[:, behind] - other[:, before])
    return torch.where(weight == 0, other[:, before], between)  # a step itself, bit for bit
