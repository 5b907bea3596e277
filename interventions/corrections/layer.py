"""What corrections are keyed by: the inputs of one affine layer, of which its output at each step is an affine map.

Nothing before the layer changes when its outputs do, so that the keys of a correction stay what they were whatever is
corrected later. Everything else about corrections rests on that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interventions.hooks import module_at
from interventions.sites import Site


@dataclass(frozen=True)
class AffineLayer:
    """A linear map, or a convolution over time, whose output is `site`.

    Its inputs are `(batch, time, inputs)` before a linear map and `(batch, inputs, time)` before a convolution, as the
    module gets them. The key of an output step is what that step is made of: the inputs of a linear map, or of a
    convolution's window, `(width,)`.
    """

    site: Site
    inputs: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    convolution: bool = False

    @classmethod
    def of(cls, model: nn.Module, site: Site) -> "AffineLayer":
        """The layer at a site. Raises ValueError where what is there is none that can be corrected."""
        module = module_at(model, site)
        if type(module).forward is nn.Linear.forward and isinstance(module, nn.Linear):
            return cls(site, module.in_features)
        plain = isinstance(module, nn.Conv1d) and type(module).forward is nn.Conv1d.forward
        if plain and module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str):
            window = (module.kernel_size, module.stride, module.padding, module.dilation)
            return cls(site, module.in_channels, *(size for (size,) in window), True)
        raise ValueError(
            f"'{site.name}' cannot hold corrections: expected a Linear, or a Conv1d of one group that pads by a number "
            f"of zeros, and it is {module}."
        )

    @property
    def width(self) -> int:
        """The length of a key."""
        return self.inputs * self.kernel

    def steps_last(self, inputs: Tensor) -> Tensor:
        """Inputs as `(batch, time, inputs)`, a view, of what the module gets; a linear map's may lack the time axis."""
        if inputs.dim() == 2:
            return inputs.unsqueeze(1)
        return inputs.mT if self.convolution else inputs

    def map(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Another affine map of the same keys: `weight` `(rows, width)`, of what the module gets; steps last but one.

        Returns `(batch, time, rows)`, or `(batch, rows)` where there is no time axis.
        """
        if not self.convolution:
            return nn.functional.linear(inputs, weight, bias)
        kernels = weight.view(len(weight), self.inputs, self.kernel)
        return nn.functional.conv1d(inputs, kernels, bias, self.stride, self.padding, self.dilation).mT

    def keys(self, inputs: Tensor) -> Tensor:
        """The key of each step, `(steps, width)`, of the inputs `(time, inputs)` of one example."""
        if not self.convolution:
            return inputs
        rows = nn.functional.unfold(
            inputs.T[None, :, None], (1, self.kernel), (1, self.dilation), (0, self.padding), (1, self.stride)
        )
        return rows[0].T

    def needed(self, steps: int) -> int:
        """How many of an example's inputs its first `steps` output steps are made of."""
        return (steps - 1) * self.stride + self.dilation * (self.kernel - 1) + 1 - self.padding


@contextmanager
def layer_inputs(model: nn.Module, layer: AffineLayer) -> Iterator[list[Tensor]]:
    """Collect what the layer's module is called with, `(batch, time, inputs)` for each call, while the model runs."""
    found: list[Tensor] = []

    def hook(module: nn.Module, inputs: Any) -> None:
        # A copy: what stands before the layer may write into its output again.
        found.append(layer.steps_last(inputs[0].detach()).clone())

    handle = module_at(model, layer.site).register_forward_pre_hook(hook)
    try:
        yield found
    finally:
        handle.remove()


def rms(rows: Tensor) -> Tensor:
    """The root mean square of all elements."""
    return rows.double().square().mean().sqrt()


def power_of_two(size: Tensor) -> Tensor:
    """The least powers of two that are not below `size`; 1 where that is zero."""
    return torch.where(size > 0, torch.exp2(size.clamp_min(1e-30).log2().ceil()), 1.0)
