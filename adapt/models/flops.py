"""Count floating-point operations with torch's counter, corrected for grouped convolutions and attention."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


def _conv_backward(
    gradient: list[int],
    x: list[int],
    weight: list[int],
    _bias: Any,
    _stride: Any,
    _padding: Any,
    _dilation: Any,
    transposed: bool,
    _output_padding: Any,
    _groups: int,
    wanted: list[bool],
    out_shape: Any = None,
    **_: Any,
) -> int:
    # Each product of the forward pass occurs once in the gradient of the input and once in that of the weight. torch's
    # formula for the weight assumes that every unit reads all channels, and so counts `groups` times too many.
    return conv_flop_count(x, weight, gradient, transposed) * (bool(wanted[0]) + bool(wanted[1]))


@contextmanager
def counted_flops() -> Iterator[FlopCounterMode]:
    """Count the operations of matrix products, convolutions and attention in a block.

    A multiplication and an addition count as two. `get_total_flops()` of the yielded counter returns the sum.
    """
    # By default the counter does not count the CPU's fused attention.
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _conv_backward}) as counter,
    ):
        yield counter
