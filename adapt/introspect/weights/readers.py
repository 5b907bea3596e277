"""Which weights read a unit: those of the modules whose input is the unit's activation, channel for channel."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapt.models.inference import eval_mode
from adapt.models.model import Model
from interventions.hooks import hidden_state, units_last
from interventions.sites import Site, find_sites


def readers(model: Model, sites: Sequence[Site] | None = None, length: int | None = None) -> dict[str, tuple[str, ...]]:
    """For each site, by name, the weights whose columns belong to its units: column `u` reads unit `u`.

    It is found out and not looked up: one unit is moved while the model reads an example that says nothing, and a
    module whose input then changes in that channel and no other reads the unit there. What lies between may be an
    activation function, a batch norm or an attention's sums over time; a residual sum or a layer norm mixes, and behind
    them nothing is found. A pass for each of two units of a site. `length` is how many samples or tokens are read.
    """
    inputs = model.dummy(length or (8 if model.reader.unit == "tokens" else model.sample_rate), 4)
    maps = [site for site in find_sites(model) if site.rows and _columns(model, site) > 1]
    found = {}
    with eval_mode(model), torch.no_grad():
        still = _inputs(model, maps, inputs)
        for site in model.sites if sites is None else sites:
            # Two units: one might be dead behind its activation function, whatever it does.
            names: set[str] | None = None
            for unit in dict.fromkeys((0, site.units // 2)):
                moved = _moved(model, site, unit, maps, inputs, still)
                names = moved if names is None else names | moved
            found[site.name] = tuple(f"{other.name}.weight" for other in maps if other.name in (names or ()))
    return found


def _moved(
    model: Model, site: Site, unit: int, maps: Sequence[Site], inputs: tuple[Tensor, ...], still: dict[str, Tensor]
) -> set[str]:
    def move(module: nn.Module, given: Any, output: Any) -> Any:
        hidden = output if isinstance(output, Tensor) else hidden_state(output, site)
        channel = units_last(hidden, site)[..., unit]
        # Far enough that no rounding hides it, to where a ReLU lets it through.
        channel += 1 + channel.abs()

    handle = model.get_submodule(site.name).register_forward_hook(move)
    try:
        after = _inputs(model, maps, inputs)
    finally:
        handle.remove()
    found = set()
    for other in maps:
        if other.name in still and _columns(model, other) == site.units:
            changed = (after[other.name] - still[other.name]).abs().amax(0) > 0
            if changed[unit] and int(changed.sum()) == 1:
                found.add(other.name)
    return found


def _columns(model: nn.Module, site: Site) -> int:
    return model.get_submodule(site.name).weight.shape[1]


def _inputs(model: Model, maps: Sequence[Site], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """What each of these modules reads, `(steps, channels)` by name; nothing of one that is not called."""
    read: dict[str, Tensor] = {}

    def keep(site: Site) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            x = given[0].mT if site.unit_axis == 1 else given[0]
            read[site.name] = x.reshape(-1, x.shape[-1]).clone()

        return hook

    handles = [model.get_submodule(site.name).register_forward_pre_hook(keep(site)) for site in maps]
    try:
        model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return read
