"""The affine layer that holds corrections. Corrections are looked up by the layer's inputs, and change its outputs.

Editing the outputs of a layer leaves its inputs unchanged, so later corrections never change the keys of earlier ones.
Everything else about corrections relies on this.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from interventions.blocks import temporary
from interventions.hooks import module_at
from interventions.sites import Site


@dataclass(frozen=True)
class AffineLayer:
    """A linear map, or a convolution over time, whose output is `site`.

    The inputs of its module are `(batch, time, inputs)` for a linear map and `(batch, inputs, time)` for a convolution.
    The key of an output step, `(width,)`, consists of the inputs that the step is computed from: all inputs of a linear
    map, or those within the window of a convolution.

    Args:
        site: the output of the layer.
        inputs: number of inputs per time step.
        kernel: width of the convolution's window, in time steps.
        stride: stride of the convolution.
        padding: zeros before and after the inputs of the convolution.
        dilation: dilation of the convolution.
        convolution: whether it is a convolution.
    """

    site: Site
    inputs: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    convolution: bool = False

    @classmethod
    def at_site(cls, model: nn.Module, site: Site) -> "AffineLayer":
        """Return the layer of a site. Raises ValueError if its module cannot hold corrections."""
        module = module_at(model, site)
        if isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward:
            return cls(site, module.in_features)
        if (
            isinstance(module, nn.Conv1d)
            and type(module).forward is nn.Conv1d.forward
            and module.groups == 1
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        ):
            return cls(
                site,
                module.in_channels,
                kernel=module.kernel_size[0],
                stride=module.stride[0],
                padding=module.padding[0],
                dilation=module.dilation[0],
                convolution=True,
            )
        raise ValueError(
            f"'{site.name}' cannot hold corrections: expected a Linear, or a Conv1d with one group and numeric zero "
            f"padding, got {module}."
        )

    @property
    def width(self) -> int:
        """The length of a key."""
        return self.inputs * self.kernel

    def inputs_last(self, inputs: Tensor) -> Tensor:
        """Return the module's inputs with `inputs` last, as a view. Those of a linear map may lack the time axis."""
        if inputs.dim() == 2:
            return inputs.unsqueeze(1)
        return inputs.mT if self.convolution else inputs

    def map(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Apply another affine map to the same keys.

        Args:
            inputs: the module's inputs.
            weight: `(rows, width)`.
            bias: `(rows,)`.

        Returns:
            `(batch, time, rows)`, or `(batch, rows)` if the inputs have no time axis.
        """
        if not self.convolution:
            return nn.functional.linear(inputs, weight, bias)
        kernels = weight.view(len(weight), self.inputs, self.kernel)
        return nn.functional.conv1d(inputs, kernels, bias, self.stride, self.padding, self.dilation).mT

    def keys(self, inputs: Tensor) -> Tensor:
        """Return the key of each output step, `(steps, width)`, for one example's inputs `(time, inputs)`."""
        if not self.convolution:
            return inputs
        rows = nn.functional.unfold(
            inputs.T[None, :, None], (1, self.kernel), (1, self.dilation), (0, self.padding), (1, self.stride)
        )
        return rows[0].T

    def needed(self, steps: int) -> int:
        """Return how many input steps the first `steps` output steps depend on."""
        return (steps - 1) * self.stride + self.dilation * (self.kernel - 1) + 1 - self.padding


@contextmanager
def layer_inputs(model: nn.Module, layer: AffineLayer) -> Generator[list[Tensor], None, None]:
    """Collect the inputs of the layer's module, `(batch, time, inputs)` for each call, while the model runs."""
    collected: list[Tensor] = []

    def hook(module: nn.Module, inputs: Any) -> None:
        # A copy, because in-place operations may overwrite the inputs.
        collected.append(layer.inputs_last(inputs[0].detach()).clone())

    module = module_at(model, layer.site)
    handle = module.register_forward_pre_hook(temporary(module, hook))
    try:
        yield collected
    finally:
        handle.remove()


def rms(rows: Tensor) -> Tensor:
    """Return the root mean square of all elements."""
    return rows.double().square().mean().sqrt()


def power_of_two(size: Tensor) -> Tensor:
    """Round up to powers of two; 0 becomes 1."""
    return torch.where(size > 0, torch.exp2(size.clamp_min(1e-30).log2().ceil()), 1.0)
