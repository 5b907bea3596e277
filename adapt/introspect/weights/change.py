"""Which weights changed, counted bit by bit, and how far: per layer and per neuron.

Whatever says how far weights moved says it by `relative_change` of rows and `vector_change` of whole tensors: the
report (here), `measure=weights` (`adapt/introspect/weights/measures.py`), and the measure `change` by which neurons are
chosen (`adapt/introspect/scores.py`).
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
    """How one layer's weights differ after from before. `total`, `trained` and `changed` count weights.

    `relative` is the Frobenius norm of the difference over that of the weights before, `cosine` the cosine between the
    two as vectors; a layer that was all 0 has changed by 1. `neurons` has a number per unit: the same relative change
    of the unit's incoming weights and bias; None where the unit is new. `buffers_changed` counts values that no
    optimizer trains, such as batch-norm statistics. `trained` are the weights that could change, `parameters` the
    numbers that an optimizer had for them: fewer where factors (LoRA) stand for weights.
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
    """The change of a whole model, layer by layer from input to output. `total` counts the weights after."""

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
    """Compare two models of one architecture, whose alphabets may differ: then output units are paired by character.

    `trained` names the parameters that were allowed to change, and `rows` says of how many rows that holds where not of
    all (neuron-level tuning), `factors` how many of those stood for it (LoRA). A weight of a new unit counts as
    changed.

    Raises:
        ValueError: the models differ in more than their output layer.
    """
    old, new = paired(before, after)
    rows, factors = rows or {}, factors or {}
    parameters = {name for name, _ in after.named_parameters()}
    sites = {site.name: site for site in find_sites(after)}
    layers = []
    for layer in after.layers:
        own = [name for name in new if name.rpartition(".")[0] in layer.modules]
        weights = [name for name in own if name in parameters]
        flat_old = torch.cat([old[name].double().flatten() for name in weights])
        flat_new = torch.cat([new[name].double().flatten() for name in weights])
        relative, cosine = vector_change(flat_old, flat_new)
        site = sites.get(layer.site or layer.name)
        free = {name: _free(new[name], rows.get(name)) for name in weights if name in trained}
        layers.append(
            LayerChange(
                name=layer.name,
                total=len(flat_new),
                trained=sum(free.values()),
                changed=sum(int(changed_bits(old[name], new[name]).sum()) for name in weights),
                buffers_changed=sum(int(changed_bits(old[n], new[n]).sum()) for n in own if n not in parameters),
                relative=1.0 if relative is None else relative,
                cosine=cosine,
                neurons=_per_unit(incoming(before, site, old), incoming(after, site, new)) if site else [],
                parameters=sum(factors.get(name, count) for name, count in free.items()),
            )
        )
    keys = ("total", "trained", "changed", "buffers_changed", "parameters")
    return WeightChange(layers=layers, **{key: sum(getattr(layer, key) for layer in layers) for key in keys})


def _free(weight: Tensor, rows: int | None) -> int:
    return weight.numel() if rows is None else rows * weight[0].numel()


def paired(before: Model, after: Model) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Both models' parameters and buffers by name, output units paired by character; NaN before where one is new.

    Raises:
        ValueError: the models differ in more than their output layer.
    """
    old = {f"net.{name}": tensor.detach().cpu() for name, tensor in before.net.state_dict().items()}
    new = {f"net.{name}": tensor.detach().cpu() for name, tensor in after.net.state_dict().items()}
    head = after.head
    rows_may_differ = before.vocabulary != after.vocabulary
    unlike = [
        name
        for name in old.keys() | new.keys()
        if not _alike(old.get(name), new.get(name), rows_may_differ and name.startswith(f"{head}."))
    ]
    if unlike:
        raise ValueError(f"Expected two models of one architecture; they differ in '{min(unlike)}'.")
    if rows_may_differ:
        units = {character: unit for unit, character in enumerate(before.vocabulary)}
        for name in (f"{head}.weight", f"{head}.bias"):
            aligned = torch.full_like(new[name], float("nan"))
            for unit, character in enumerate(after.vocabulary):
                if character in units:
                    aligned[unit] = old[name][units[character]]
            old[name] = aligned
    return old, new


def _alike(old: Tensor | None, new: Tensor | None, rows_may_differ: bool) -> bool:
    first = 1 if rows_may_differ else 0
    return old is not None and new is not None and old.dim() == new.dim() and old.shape[first:] == new.shape[first:]


def incoming(model: Model, site: Site, tensors: Mapping[str, Tensor]) -> Tensor:
    """The weights and the bias that make each of a site's units, `(units, weights)`, in 64 bits; `tensors` are the
    model's by name.
    """
    # A weight that is computed from others (weight norm) is compared as the layer uses it.
    own = [tensors[name] for name in site.rows] or [model.get_submodule(site.name).weight]
    rows = [tensor.detach().double() for tensor in own]
    return torch.cat([row.flatten(1) if row.dim() > 1 else row[:, None] for row in rows], 1).cpu()


def relative_change(old: Tensor, new: Tensor, to: Literal["unit", "layer"] = "unit") -> Tensor:
    """How far each row of `(units, weights)` moved, `(units,)`: the length of its change, relative `to` its own length
    before, or to the root mean square of the lengths of all rows of its layer.

    NaN in `old` is what has no counterpart there: single such weights do not count, and a row of them gives NaN.
    """
    known = ~old.isnan()
    size = torch.where(known, old, 0.0).norm(dim=1)
    moved = torch.where(known, new - old, 0.0).norm(dim=1)
    size = size if to == "unit" else size.square().mean().sqrt()
    return torch.where(known.any(1), moved / size.clamp(min=_TINY), float("nan"))


def vector_change(old: Tensor, new: Tensor) -> tuple[float | None, float]:
    """Of two tensors as vectors: the length of the difference relative to that of `old` (None where this is 0 and the
    difference is not), and their cosine. What is NaN in `old` does not count.
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
