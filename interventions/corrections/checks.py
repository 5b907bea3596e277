"""Check what a correction store or an export contains, before it edits a model.

Files can be damaged, or made by someone else. Values that no memory writes are refused: other shapes and types, NaN and
infinity, and radii that do not follow from the correction's own inputs.
"""

# Tensor.all and torch.linalg have no complete annotations.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from collections.abc import Sequence
from math import inf
from typing import Any, cast

import torch
from torch import Tensor

from interventions.corrections.collection import Entry
from interventions.corrections.layer import AffineLayer
from interventions.corrections.memory import Memory
from interventions.corrections.protect import Protected

_WIDEST = 1 << 15  # length of a key; the second moments of longer ones take over 4 GB
_LARGEST = 1e12  # of the size of any value: about the range in which sums stay finite
_RADIUS = 0.1  # share by which a stored radius may differ from the computed one, since machines round differently
_NEAR = 8.0  # and its multiple of the keys' rounding error, since nearly equal keys have inexact distances


def check_layer(layer: AffineLayer) -> None:
    """Raise TypeError or ValueError if no module has a layer like this."""
    site = layer.site
    if not isinstance(cast(Any, site.name), str) or not isinstance(cast(Any, layer.convolution), bool):
        raise TypeError("the layer has no name, or it is unknown whether it is a convolution")
    if site.unit_axis not in (-1, 1):
        raise ValueError(f"unit_axis is {site.unit_axis!r}, not 1 or -1")
    for name, least, most in (
        ("inputs", 1, _WIDEST), ("kernel", 1, _WIDEST), ("stride", 1, _WIDEST), ("padding", 0, _WIDEST),
        ("dilation", 1, _WIDEST),
    ):  # fmt: skip
        _check_whole(name, getattr(layer, name), least, most)
    _check_whole("units", site.units, 1, 1 << 20)
    if layer.width > _WIDEST:
        raise ValueError(f"its keys have {layer.width} values, more than {_WIDEST}")


def check_memory(protected: Protected, strength: Any, folded: Tensor | None) -> None:
    """Raise TypeError or ValueError if these are not the statistics of protected inputs at a layer."""
    layer, units = protected.layer, protected.layer.site.units
    if isinstance(strength, bool) or not isinstance(strength, (int, float)) or not 0 < strength <= _LARGEST:
        raise ValueError(f"its strength is {strength!r}, not a number above 0")
    _check_whole("quantisation_levels", protected.quantisation_levels, 1, 1 << 15)
    dimensions, width = len(protected.offset.reshape(-1)), layer.width
    _check("input_step", protected.input_step, (layer.inputs,), above=0)
    _check("value_step", protected.value_step, (), above=0)
    _check("second", protected.second, (width + 1, width + 1))
    _check("projection", protected.projection, (dimensions, width))
    _check("offset", protected.offset, (None,))
    _check("sample", protected.sample, (None, dimensions))
    second = protected.second
    if not torch.allclose(second, second.T, rtol=1e-3, atol=1e-3 * float(second.abs().max())):
        raise ValueError("its second moments are not symmetric")
    if bool((second.diagonal() < 0).any()):
        raise ValueError("a second moment is negative")
    if folded is not None:
        _check("folded", folded, (units, width + 1))
    background = protected.background
    if background is not None:
        axes = len(background.centre.reshape(-1))
        size = axes + axes * (axes + 1) // 2
        _check("gate.axes", background.axes, (axes, layer.inputs))
        _check("gate.centre", background.centre, (None,))
        _check("gate.mean", background.mean, (size,))
        _check("gate.deviation", background.deviation, (size,), above=0)
        _check("gate.rows", background.rows, (None, size), torch.float16)


def check_fit(memory: Memory) -> None:
    """Raise ValueError if what is fitted to the corrections of a memory is not finite."""
    fit = memory.corrections.fitted()
    tensors = [fit.weight, fit.bias, fit.codebook.keys, fit.codebook.radii, fit.codebook.values]
    if fit.gate is not None:
        tensors += [fit.gate.quadratic, fit.gate.linear, fit.gate.bias]
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise ValueError("no finite map fits its corrections")


def check_entry(entry: Entry, protected: Protected) -> None:
    """Raise ValueError if this is not a correction of the memory of `protected`."""
    layer = protected.layer
    steps = len(entry.values) if entry.values.dim() else 0
    _check("inputs", entry.inputs, (None, layer.inputs), torch.int8)
    _check("values", entry.values, (steps, layer.site.units), torch.int16)
    _check("targets", entry.targets, (steps, layer.site.units), torch.int16)
    _check("radii", entry.radii, (steps,), above=0)
    if not 1 <= steps <= _output_steps(layer, len(entry.inputs)):
        raise ValueError(f"{len(entry.inputs)} inputs cannot have {steps} steps")
    keys = layer.keys(entry.inputs.float() * protected.input_step)[:steps]
    expected, slack = protected.radii(protected.project(keys)), _NEAR * protected.rounding
    if bool(((entry.radii - expected).abs() > _RADIUS * expected + slack).any()):
        raise ValueError("its radii do not fit its inputs")


def _output_steps(layer: AffineLayer, time: int) -> int:
    return (time + 2 * layer.padding - layer.dilation * (layer.kernel - 1) - 1) // layer.stride + 1


def _check_whole(name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}, not a whole number from {least} to {most}")


def _check(
    name: str, tensor: Tensor, shape: Sequence[int | None], dtype: torch.dtype = torch.float32, above: float = -inf
) -> None:
    fits = len(shape) == tensor.dim() and all(
        size is None and given > 0 or size == given for size, given in zip(shape, tensor.shape, strict=True)
    )
    if not fits or tensor.dtype != dtype:
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, not {dtype} of ({expected})")
    if tensor.is_floating_point():
        outside = ~(tensor.abs() <= _LARGEST) | ~(tensor > above)
        if bool(outside.any()):
            value = float(tensor[outside].reshape(-1)[0])
            raise ValueError(f"{name} has the value {value}")
