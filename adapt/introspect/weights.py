"""Which weights changed, counted bit by bit, and how far: per layer and per neuron."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapt.models.model import Model
from interventions.bits import changed_bits
from interventions.sites import Site, find_sites


@dataclass(frozen=True)
class LayerChange:
    """How one layer's weights differ after from before. `total`, `trained` and `changed` count weights.

    `relative` is the Frobenius norm of the difference over that of the weights before, `cosine` the cosine between the
    two as vectors. `neurons` has a number per unit: the same relative change of the unit's incoming weights and bias;
    None where the unit is new. `buffers_changed` counts values that no optimizer trains, such as batch-norm statistics.
    `trained` are the weights that could change, `parameters` the numbers that an optimizer had for them: fewer where
    factors (LoRA) stand for weights.
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
        known = ~flat_old.isnan()  # what has no counterpart before is NaN there
        difference = (flat_new - flat_old)[known]
        site = sites.get(layer.site or layer.name)
        free = {name: _free(new[name], rows.get(name)) for name in weights if name in trained}
        layers.append(
            LayerChange(
                name=layer.name,
                total=len(flat_new),
                trained=sum(free.values()),
                changed=sum(int(changed_bits(old[name], new[name]).sum()) for name in weights),
                buffers_changed=sum(int(changed_bits(old[n], new[n]).sum()) for n in own if n not in parameters),
                relative=float(difference.norm() / flat_old[known].norm().clamp_min(1e-12)),
                cosine=float(nn.functional.cosine_similarity(flat_old[known], flat_new[known], dim=0)),
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


def incoming(model: Model, site: Site, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The weights and the bias that make a site's units, a row each; `tensors` are the model's by name."""
    # A weight that is computed from others (weight norm) is compared as the layer uses it.
    return [tensors[name] for name in site.rows] or [model.get_submodule(site.name).weight.detach().cpu()]


def _per_unit(old: Sequence[Tensor], new: Sequence[Tensor]) -> list[float | None]:
    before = torch.cat(
        [tensor.double().flatten(1) if tensor.dim() > 1 else tensor.double()[:, None] for tensor in old], 1
    )
    after = torch.cat(
        [tensor.double().flatten(1) if tensor.dim() > 1 else tensor.double()[:, None] for tensor in new], 1
    )
    change = (after - before).norm(dim=1) / before.norm(dim=1).clamp_min(1e-12)
    return [None if value != value else value for value in change.tolist()]
