"""Find the weights that read a unit: those of modules with the unit's activation as one of their input channels."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from adapt.models.inference import eval_mode
from adapt.models.model import Model
from interventions.hooks import hidden_state, units_last
from interventions.sites import Site, find_sites


def readers(model: Model, sites: Sequence[Site] | None = None, length: int | None = None) -> dict[str, tuple[str, ...]]:
    """Return the names of the weights that read the units of each site, by site name: column `u` reads unit `u`.

    They are found by experiment. The model runs on a dummy input while one unit of the site is shifted. A module whose
    input then changes in that channel only reads the unit there. An activation function, a batch norm or the sums of
    attention over time may lie in between. A residual sum or a layer norm mixes the units, so no readers are found
    after it. Two forward passes per site.

    Args:
        model: The model.
        sites: The sites to look at; None: the default sites of the model.
        length: Length of the dummy input in samples or tokens; None: one second, or 8 tokens.
    """
    inputs = model.dummy(length or (model.sample_rate if model.reads_audio else 8), 4)
    maps = [site for site in find_sites(model) if site.rows and _input_channels(model, site) > 1]
    found = {}
    with eval_mode(model), torch.no_grad():
        unchanged = _inputs(model, maps, inputs)
        for site in model.sites if sites is None else sites:
            # Two units, because the activation function may output 0 for one of them whatever its input.
            names: set[str] | None = None
            for unit in dict.fromkeys((0, site.units // 2)):
                changed = _changed_modules(model, site, unit, maps, inputs, unchanged)
                names = changed if names is None else names | changed
            found[site.name] = tuple(f"{other.name}.weight" for other in maps if other.name in (names or ()))
    return found


def _changed_modules(
    model: Model, site: Site, unit: int, maps: Sequence[Site], inputs: tuple[Tensor, ...], unchanged: dict[str, Tensor]
) -> set[str]:
    """Return the names of the modules that see the shifted unit in its own channel only."""

    def shift(module: nn.Module, _: Any, output: Any) -> Any:
        hidden = output if isinstance(output, Tensor) else hidden_state(output, site)
        channel = units_last(hidden, site)[..., unit]
        # The shift is large enough to survive rounding, and upwards, so that a ReLU passes it on.
        channel += 1 + channel.abs()

    handle = model.get_submodule(site.name).register_forward_hook(shift)
    try:
        shifted = _inputs(model, maps, inputs)
    finally:
        handle.remove()
    names = set()
    for other in maps:
        if other.name in unchanged and _input_channels(model, other) == site.units:
            changed = (shifted[other.name] - unchanged[other.name]).abs().amax(0) > 0
            if changed[unit] and int(changed.sum()) == 1:
                names.add(other.name)
    return names


def _input_channels(model: nn.Module, site: Site) -> int:
    weight = model.get_submodule(site.name).weight
    assert isinstance(weight, Tensor)
    return weight.shape[1]


def _inputs(model: Model, maps: Sequence[Site], inputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """Return the input of each of these modules, `(steps, channels)` by name, without those that are not called."""
    read: dict[str, Tensor] = {}

    def record(site: Site) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].mT if site.unit_axis == 1 else args[0]
            read[site.name] = x.reshape(-1, x.shape[-1]).clone()

        return hook

    handles = [model.get_submodule(site.name).register_forward_pre_hook(record(site)) for site in maps]
    try:
        model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return read
