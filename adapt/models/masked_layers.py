"""Layers that see an utterance's own frames and no padding, so that a padded batch gives what each utterance gives."""

from typing import Any

import torch
from torch import Tensor, nn

from interventions.sites import length_mask


class MaskedGroupNorm(nn.GroupNorm):
    """Group norm over an utterance's own frames: padding has no part in mean and variance.

    It takes the place of the network's own, with its parameters, behind a convolution of `kernel` and `stride` samples
    without padding.
    """

    def __init__(self, norm: nn.GroupNorm, conv: nn.Conv1d) -> None:
        super().__init__(norm.num_groups, norm.num_channels, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        self.lengths: Tensor | None = None

    def set_lengths(self, samples: Tensor) -> None:
        """Say how long the utterances of the next batch are, `(batch,)`, in samples."""
        self.lengths = torch.div(samples - self.kernel, self.stride, rounding_mode="floor") + 1

    def forward(self, x: Tensor) -> Tensor:
        """From `(batch, units, time)` to the same shape."""
        if self.lengths is None or int(self.lengths.min()) >= x.shape[-1]:
            return super().forward(x)
        x = x.float().unflatten(1, (self.num_groups, -1))
        own = length_mask(self.lengths, x.shape[-1])[:, None, None]
        count = (self.lengths * x.shape[2]).view(-1, 1, 1, 1)
        centred = x - (x * own).sum((2, 3), keepdim=True) / count
        variance = (centred * own).square().sum((2, 3), keepdim=True) / count
        scale = (variance + self.eps).rsqrt() * self.weight.view(self.num_groups, -1, 1)
        return (centred * scale).flatten(1, 2) + self.bias.unsqueeze(1)


class MaskedConv1d(nn.Conv1d):
    """A convolution to which whatever stands behind an utterance's own frames is zero, as if the utterance were alone.

    It takes the place of the network's own, with its parameters. Only a convolution that pads needs it: one without
    padding puts out no frame of an utterance's own that has seen others.
    """

    def __init__(self, conv: nn.Conv1d) -> None:
        sizes: dict[str, Any] = {
            name: getattr(conv, name) for name in ("kernel_size", "stride", "padding", "dilation", "groups")
        }
        super().__init__(conv.in_channels, conv.out_channels, bias=conv.bias is not None, device="meta", **sizes)
        self.weight, self.bias = conv.weight, conv.bias
        self.lengths: Tensor | None = None

    def set_lengths(self, frames: Tensor) -> None:
        """Say how many frames of the next batch's input are each utterance's own, `(batch,)`."""
        self.lengths = frames

    def forward(self, x: Tensor) -> Tensor:
        """From `(batch, units, time)` to `(batch, units, time)`."""
        if self.lengths is not None and int(self.lengths.min()) < x.shape[-1]:
            x = x.masked_fill(~length_mask(self.lengths, x.shape[-1]).unsqueeze(1), 0)
        return super().forward(x)
