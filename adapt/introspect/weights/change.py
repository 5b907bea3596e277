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
    layers = []
    for layer in after.layers:
        tensors = [name for name in new if name.rpartition(".")[0] in layer.modules]
        weights = [name for name in tensors if name in parameters]
        flat_old = torch.cat([old[name].double().flatten() for name in weights])
        flat_new = torch.cat([new[name].double().flatten() for name in weights])
        relative, cosine = vector_change(flat_old, flat_new)
        site = sites.get(layer.site or layer.name)
        free = {name: _trainable(new[name], rows.get(name)) for name in weights if name in trained}
        layers.append(
            LayerChange(
                name=layer.name,
                total=len(flat_new),
                trained=sum(free.values()),
                changed=sum(int(changed_bits(old[name], new[name]).sum()) for name in weights),
                buffers_changed=sum(int(changed_bits(old[n], new[n]).sum()) for n in tensors if n not in parameters),
                relative=1.0 if relative is None else relative,
                cosine=cosine,
                neurons=_per_unit(incoming_weights(before, site, old), incoming_weights(after, site, new))
                if site
                else [],
                parameters=sum(factors.get(name, count) for name, count in free.items()),
            )
        )
    keys = ("total", "trained", "changed", "buffers_changed", "parameters")
    return WeightChange(layers=layers, **{key: sum(getattr(layer, key) for layer in layers) for key in keys})


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


def _per_unit(old: Tensor, new: Tensor) -> list[float | None]:
    return [None if value != value else value for value in relative_change(old, new).tolist()]
