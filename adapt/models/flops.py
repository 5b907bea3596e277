"""How many floating-point operations run: torch's counter, mended for grouped convolutions and for attention."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count


def _conv_backward(
    gradient: list[int], x: list[int], weight: list[int], _bias: Any, _stride: Any, _padding: Any, _dilation: Any,
    transposed: bool, _output_padding: Any, _groups: int, wanted: list[bool], out_shape: Any = None, **_: Any,
) -> int:  # fmt: skip
    # Each product of the forward pass has a part in one term of either gradient. torch's own formula counts that of the
    # weight as if every unit read all channels, and so `groups` times too often.
    return conv_flop_count(x, weight, gradient, transposed) * (bool(wanted[0]) + bool(wanted[1]))


@contextmanager
def counted_flops() -> Iterator[FlopCounterMode]:
    """Count what runs within it: a multiplication and an addition as two, in matrix products, convolutions and
    attention; `get_total_flops()` of what it gives is the sum.
    """
    # The counter knows no fused attention on a CPU and would count none.
    with (
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _conv_backward}) as counter,
    ):
        yield counter
