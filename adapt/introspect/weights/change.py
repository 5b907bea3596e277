"""How far weights changed, per layer and per neuron, and which of them changed in any bit.

`relative_change` (rows) and `vector_change` (whole tensors) define relative change everywhere in this package: in the
report, in the measure of weights (`adapt/introspect/weights/measures.py`) and in the score `change`
(`adapt/introspect/scores.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from adapt.models.model import Model
from interventions.bits import changed_bits
from interventions.sites import Site, find_sites

_TINY = 1e-12
_BLOCK = 2**20  # weights that are compared at a time


@dataclass(frozen=True)
class LayerChange:
    """How the weights of one layer changed.

    Attributes:
        name: The name of the layer.
        total: Number of weights.
        trained: Number of weights that training could change.
        changed: Number of weights that differ in any bit.
        buffers_changed: Number of changed values that no optimizer trains, such as batch-norm statistics.
        relative: Frobenius norm of the difference, divided by that of the weights before; 1 if these were all 0.
        cosine: Cosine of the weights before and after, as vectors.
        neurons: The relative change of each unit's incoming weights and bias; None for a new unit.
        parameters: Number of values that the optimizer updated for the trained weights; fewer than `trained` if the
            weights were trained through factors (LoRA).
    """

    name: str
    total: int
    trained: int
    changed: int
    buffers_changed: int
    relative: float
    cosine: float
    neurons: list[float | None]
    parameters: int = 0


@dataclass(frozen=True)
class WeightChange:
    """The change of a whole model, with its layers from input to output. `total` counts the weights afterwards."""

    total: int
    trained: int
    changed: int
    buffers_changed: int
    layers: list[LayerChange]
    parameters: int = 0


def weight_change(
    before: Model,
    after: Model,
    trained: Sequence[str] = (),
    rows: Mapping[str, int] | None = None,
    factors: Mapping[str, int] | None = None,
) -> WeightChange:
    """Compare the weights of two models of one architecture. A weight of a new output unit counts as changed.

    Args:
        before: The model before training.
        after: The model afterwards. If it has another alphabet, output units are paired by character.
        trained: Names of the parameters that training could change.
        rows: Number of trained rows of a parameter, if not all (neuron-level tuning).
        factors: Number of values that the optimizer updated for a parameter, if it was trained through factors (LoRA).

    Raises:
        ValueError: The models differ in more than their output layer.
    """
    old, new = align_parameters(before, after)
    rows, factors = rows or {}, factors or {}
    parameters = {name for name, _ in after.named_parameters()}
    sites = {site.name: site for site in find_sites(after)}
    sums = {name: _row_sums(old[name], new[name]) for name in new if name in parameters}
    layers = []
    for layer in after.layers:
        tensors = [name for name in new if name.rpartition(".")[0] in layer.modules]
        weights = [name for name in tensors if name in parameters]
        relative, cosine = _vector_change(torch.cat([sums[name] for name in weights]).sum(0))
        site = sites.get(layer.site or layer.name)
        free = {name: _trainable(new[name], rows.get(name)) for name in weights if name in trained}
        layers.append(
            LayerChange(
                name=layer.name,
                total=sum(new[name].numel() for name in weights),
                trained=sum(free.values()),
                changed=sum(_changed(old[name], new[name]) for name in weights),
                buffers_changed=sum(_changed(old[name], new[name]) for name in tensors if name not in parameters),
                relative=1.0 if relative is None else relative,
                cosine=cosine,
                neurons=_per_unit(_unit_sums(before, after, site, old, new, sums)) if site else [],
                parameters=sum(factors.get(name, count) for name, count in free.items()),
            )
        )
    keys = ("total", "trained", "changed", "buffers_changed", "parameters")
    return WeightChange(layers=layers, **{key: sum(getattr(layer, key) for layer in layers) for key in keys})


def _changed(old: Tensor, new: Tensor) -> int:
    return int(changed_bits(old, new).sum())


def _row_sums(old: Tensor, new: Tensor) -> Tensor:
    """Return what the changes are computed from, for each row of a tensor, `(rows, 5)` in float64.

    The columns are the squared norms of old and new, their product, the squared norm of their difference, and the
    number of weights that are not new. Blocks of rows stay in the processor's cache, which makes this several times
    faster than whole tensors in float64, and needs no memory for them.
    """
    old, new = (tensor.reshape(tensor.shape[0] if tensor.dim() else 1, -1) for tensor in (old, new))
    sums = torch.empty(len(new), 5, dtype=torch.float64)
    step = max(1, _BLOCK // max(1, new.shape[1]))
    for first in range(0, len(new), step):
        block = slice(first, first + step)
        same = torch.equal(old[block], new[block])  # False if there is a NaN
        a, b = old[block].double(), None if same else new[block].double()
        sums[block, 4] = a.shape[1]
        if b is not None:
            unknown = a.isnan()
            if unknown.any():
                sums[block, 4] -= unknown.sum(1)
                a, b = a.masked_fill(unknown, 0.0), b.masked_fill(unknown, 0.0)
        sums[block, 0] = squares = torch.linalg.vecdot(a, a)
        sums[block, 1] = squares if b is None else torch.linalg.vecdot(b, b)
        sums[block, 2] = squares if b is None else torch.linalg.vecdot(a, b)
        sums[block, 3] = 0.0 if b is None else torch.linalg.vecdot(b - a, b - a)
    return sums


def _unit_sums(
    before: Model,
    after: Model,
    site: Site,
    old: Mapping[str, Tensor],
    new: Mapping[str, Tensor],
    sums: Mapping[str, Tensor],
) -> Tensor:
    if site.rows:
        # A tied weight has several names, of which `sums` has one.
        own = [sums[name] if name in sums else _row_sums(old[name], new[name]) for name in site.rows]
        return torch.stack(own).sum(0)
    # A weight that is computed from other parameters (weight norm) is compared as the layer uses it.
    return _row_sums(incoming_weights(before, site, old), incoming_weights(after, site, new))


def _trainable(weight: Tensor, rows: int | None) -> int:
    return weight.numel() if rows is None else rows * weight[0].numel()


def align_parameters(before: Model, after: Model) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Return the parameters and buffers of both models by name, with output units paired by character.

    The rows of a new output unit are NaN in the first model.

    Raises:
        ValueError: The models differ in more than their output layer.
    """
    old = {f"net.{name}": tensor.detach().cpu() for name, tensor in before.net.state_dict().items()}
    new = {f"net.{name}": tensor.detach().cpu() for name, tensor in after.net.state_dict().items()}
    head = after.head
    rows_may_differ = before.vocabulary != after.vocabulary
    different = [
        name
        for name in old.keys() | new.keys()
        if not _same_shape(old.get(name), new.get(name), rows_may_differ and name.startswith(f"{head}."))
    ]
    if different:
        raise ValueError(f"Expected two models of one architecture; they differ in '{min(different)}'.")
    if rows_may_differ:
        units = {character: unit for unit, character in enumerate(before.vocabulary)}
        for name in (f"{head}.weight", f"{head}.bias"):
            aligned = torch.full_like(new[name], float("nan"))
            for unit, character in enumerate(after.vocabulary):
                if character in units:
                    aligned[unit] = old[name][units[character]]
            old[name] = aligned
    return old, new


def _same_shape(old: Tensor | None, new: Tensor | None, rows_may_differ: bool) -> bool:
    first = 1 if rows_may_differ else 0
    return old is not None and new is not None and old.dim() == new.dim() and old.shape[first:] == new.shape[first:]


def incoming_weights(model: Model, site: Site, tensors: Mapping[str, Tensor]) -> Tensor:
    """Return the weights and the bias of each unit of a site, `(units, weights)` in float64 on the CPU.

    `tensors` are the parameters of the model by name.
    """
    # A weight that is computed from other parameters (weight norm) is compared as the layer uses it.
    own = [tensors[name] for name in site.rows] or [_weight(model, site)]
    rows = [tensor.detach().double() for tensor in own]
    return torch.cat([row.flatten(1) if row.dim() > 1 else row[:, None] for row in rows], 1).cpu()


def _weight(model: Model, site: Site) -> Tensor:
    weight = model.get_submodule(site.name).weight
    assert isinstance(weight, Tensor)
    return weight


def relative_change(old: Tensor, new: Tensor, to: Literal["unit", "layer"] = "unit") -> Tensor:
    """Return the relative change of each row of `(units, weights)`, `(units,)`.

    It is the norm of the row's change, divided by the norm of the old row if `to` is "unit", or by the root mean square
    of the norms of all old rows if it is "layer". NaN in `old` means that a weight is new: single new weights are
    ignored, and a row of only new weights gives NaN.
    """
    known = ~old.isnan()
    size = torch.where(known, old, 0.0).norm(dim=1)
    moved = torch.where(known, new - old, 0.0).norm(dim=1)
    size = size if to == "unit" else size.square().mean().sqrt()
    return torch.where(known.any(1), moved / size.clamp(min=_TINY), float("nan"))


def vector_change(old: Tensor, new: Tensor) -> tuple[float | None, float]:
    """Return the relative change of a tensor and the cosine between old and new, both as flat vectors.

    The relative change is None if `old` is all 0 and `new` is not. Elements that are NaN in `old` are ignored.
    """
    known = ~old.isnan()
    old, new = old[known].double(), new[known].double()
    size, change = float(old.norm()), float((new - old).norm())
    relative = change / max(size, _TINY) if size or not change else None
    if not size or not float(new.norm()):
        return relative, float(change == 0)
    return relative, float(nn.functional.cosine_similarity(old, new, dim=0))


def _vector_change(sums: Tensor) -> tuple[float | None, float]:
    size, length, product, moved, _ = sums.tolist()
    size, length, change = size**0.5, length**0.5, moved**0.5
    relative = change / max(size, _TINY) if size or not change else None
    if not change or not size or not length:
        return relative, float(change == 0)
    return relative, max(-1.0, min(1.0, product / (size * length)))


def _per_unit(sums: Tensor) -> list[float | None]:
    relative = sums[:, 3].sqrt() / sums[:, 0].sqrt().clamp(min=_TINY)
    return [value if known else None for value, known in zip(relative.tolist(), (sums[:, 4] > 0).tolist(), strict=True)]
