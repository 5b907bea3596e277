"""Patching: replace activations of a site by those of another input or another model."""

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
    """Replace the activation of a site by `activation` (activation patching: Vig et al. 2020; Meng et al. 2022).

    `align` says how time steps correspond:

    - "step": step by step. Both activations must have the same number of steps; in `generate`, where a call sees only a
      part of the sequence, `activation` must have as many as the whole generation.
    - "time": by the time since the start, in seconds or tokens. Steps after the end of `activation` are left unchanged.
    - "stretch": `activation` is stretched over the whole sequence, as for the same words at another speed.

    Args:
        site: where to patch.
        activation: `(batch, time, units)` or `(batch, units)`, as `capture` returns it, from this site or from one with
            as many units in another model. The batch has either one example, used for all, or as many as the model runs
            on.
        neurons: patch only these units of the site; None: all.
        align: "step", "time" or "stretch".
        resample: how to read `activation` between the middles of its steps: "nearest" or "linear". Before the first
            middle and after the last one, the value is constant.
        step: duration of a step of `activation` for align="time"; None: that of the site.

    Raises:
        ValueError: If the activation does not fit the site, or the duration of a step is needed and unknown.
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
                f"{self.site.units}), as capture returns it, got {tuple(self.activation.shape)}."
            )
        if self.neurons is not None and [site.name for site in self.neurons.sites] != [self.site.name]:
            raise ValueError(f"neurons must belong to '{self.site.name}' only, got {self.neurons}.")
        if self.align == "time" and self.step is not None:
            if self.site.step is None or self.site.step.unit != self.step.unit:
                raise ValueError(
                    f"align='time' needs the durations of a step of the activation, {self.step}, and of "
                    f"'{self.site.name}', {self.site.step}, in the same unit."
                )
        elif self.step is not None:
            raise ValueError(f"step is only used with align='time', got align={self.align!r}.")

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,) if self.neurons is None or len(self.neurons) else ()

    @property
    def timed(self) -> bool:
        return self.scope.timed or self.align != "stretch"

    def at(self, site: Site) -> Edit:
        source = CastLike(self.activation)
        replace = None if self.neurons is None else MaskedReplace(self.neurons.mask(site))

        def patch(x: Tensor, context: StepContext) -> Tensor:
            other = source(x)
            if other.dim() != x.dim() or other.shape[0] not in (1, x.shape[0]):
                raise self._mismatch(x, "Give one example, or one for each row of the batch")
            if x.dim() == 3:
                other = self._aligned(other, x, context)
                if other.shape[1] < x.shape[1]:  # keep the steps after the end of the activation
                    other = torch.cat([other.expand(len(x), -1, -1), x[:, other.shape[1] :]], dim=1)
            other = other.expand_as(x)
            # A copy: an in-place operation after the site must not change the stored activation.
            return other.clone() if replace is None else replace(other, x)

        return patch

    def _aligned(self, other: Tensor, x: Tensor, context: StepContext) -> Tensor:
        """Return the values for the steps of `x`, `(batch, time, units)`, or fewer if `other` ends before `x`."""
        steps, available = x.shape[1], other.shape[1]
        if self.align == "step":
            end = context.position + steps
            if available < end or (available != steps and not context.cached):
                raise self._mismatch(x, "Use align='time' or 'stretch' for another length")
            return other[:, context.position : end]
        if self.align == "stretch":
            if context.cached and context.position:
                raise self._mismatch(x, "align='stretch' needs the whole sequence in one call, unlike generate()")
            places = (torch.arange(steps, dtype=torch.float64) + 0.5) * (available / steps) - 0.5
        else:
            ratio = 1.0
            if self.step is not None and self.site.step is not None:
                ratio = self.site.step.length / self.step.length
            places = (torch.arange(context.position, context.position + steps, dtype=torch.float64) + 0.5) * ratio - 0.5
            places = places[places < available - 0.5 + 1e-6]
        return _interpolate(other, places.clamp(0, available - 1), self.resample)

    def _mismatch(self, x: Tensor, advice: str) -> ValueError:
        return ValueError(
            f"'{self.site.name}' returns {tuple(x.shape)}, units last, and cannot be replaced by "
            f"{tuple(self.activation.shape)}. {advice}."
        )


def _interpolate(other: Tensor, places: Tensor, resample: Resample) -> Tensor:
    """Return the values of `(batch, time, units)` at fractional places on the time axis, from 0 to the last step."""
    if resample == "nearest":
        return other[:, (places + 0.5).floor().long().clamp(max=other.shape[1] - 1).to(other.device)]
    before, after = (end.long().to(other.device) for end in (places.floor(), places.ceil()))
    weight = (places - places.floor()).to(other.dtype).to(other.device).unsqueeze(-1)
    between = other[:, before] + weight * (other[:, after] - other[:, before])
    return torch.where(weight == 0, other[:, before], between)  # exact at the steps themselves
