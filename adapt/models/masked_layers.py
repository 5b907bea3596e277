"""Layers that ignore padding, so that a padded batch gives the same results as each utterance alone."""

from typing import Any

import torch
from torch import Tensor, nn

from interventions.sites import length_mask


def pads(lengths: Tensor, input: Tensor) -> bool:
    """Return whether an input `(batch, units, time)` has padding. An exported graph has to reckon with it."""
    return torch.compiler.is_exporting() or int(lengths.min()) < input.shape[-1]


class MaskedGroupNorm(nn.GroupNorm):
    """A group norm whose mean and variance are computed over the valid frames only.

    It replaces a network's own group norm and uses its parameters.

    Args:
        norm: The norm to replace.
        conv: The convolution before the norm. It reads samples and has no padding.
    """

    def __init__(self, norm: nn.GroupNorm, conv: nn.Conv1d) -> None:
        super().__init__(norm.num_groups, norm.num_channels, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        self.lengths: Tensor | None = None

    def set_lengths(self, samples: Tensor) -> None:
        """Set the lengths of the next batch's utterances, `(batch,)`, in samples."""
        self.lengths = torch.div(samples - self.kernel, self.stride, rounding_mode="floor") + 1

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `(batch, units, time)`."""
        if self.lengths is None or not pads(self.lengths, input):
            return super().forward(input)
        x = input.float().unflatten(1, (self.num_groups, -1))
        valid = length_mask(self.lengths, x.shape[-1])[:, None, None]
        count = (self.lengths * x.shape[2]).view(-1, 1, 1, 1)
        centred = x - (x * valid).sum((2, 3), keepdim=True) / count
        variance = (centred * valid).square().sum((2, 3), keepdim=True) / count
        scale = (variance + self.eps).rsqrt() * self.weight.view(self.num_groups, -1, 1)
        return (centred * scale).flatten(1, 2) + self.bias.unsqueeze(1)


class MaskedConv1d(nn.Conv1d):
    """A convolution that reads zeros after the last valid frame of each utterance.

    It replaces a network's own convolution and uses its parameters. Only convolutions with padding need it: without
    padding, no valid output frame depends on frames after the last valid one.
    """

    def __init__(self, conv: nn.Conv1d) -> None:
        sizes: dict[str, Any] = {
            name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation", "groups")
        }
        super().__init__(conv.in_channels, conv.out_channels, bias=conv.bias is not None, device="meta", **sizes)
        self.weight, self.bias = conv.weight, conv.bias
        self.lengths: Tensor | None = None

    def set_lengths(self, frames: Tensor) -> None:
        """Set the number of valid input frames of the next batch's utterances, `(batch,)`."""
        self.lengths = frames

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(batch, units, time)`."""
        if self.lengths is not None and pads(self.lengths, input):
            input = input.masked_fill(~length_mask(self.lengths, input.shape[-1]).unsqueeze(1), 0)
        return super().forward(input)
