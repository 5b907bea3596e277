"""What a checkpoint holds of a model: the weights that train and the buffers. Everything else is that of the base."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from interventions.row_modules import RowModule


def trained_names(module: nn.Module) -> frozenset[str]:
    """Return the names of the parameters that train now; a tied parameter has several names."""
    return frozenset(name for name, one in module.named_parameters(remove_duplicate=False) if one.requires_grad)


def trained_state(module: nn.Module, trained: Iterable[str]) -> dict[str, Tensor]:
    """Return the trained parameters, the trained rows of others, and all buffers, by name.

    Args:
        module: The module.
        trained: `trained_names` from before training; which parameters train can change while training.
    """
    trained = set(trained)
    state: dict[str, Tensor] = module.state_dict()
    frozen = dict(module.named_parameters(remove_duplicate=False)).keys() - trained
    rows = {name: one.detach() for name, one in _rows(module).items() if name in trained}
    return {name: tensor for name, tensor in state.items() if name not in frozen} | rows


@torch.no_grad()
def whole_state(module: nn.Module, saved: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return a state that the module can load: what `trained_state` saved, and the module's own values of the rest.

    The trained rows are already loaded by this function, without another copy of the weights that they are part of.
    """
    saved = dict(saved)
    for name, parameter in _rows(module).items():
        if name in saved:
            parameter.copy_(saved.pop(name))
    return module.state_dict() | saved


def _rows(module: nn.Module) -> dict[str, nn.Parameter]:
    # A state dict has the whole weight instead.
    return {
        f"{place}.{name}": parameter
        for place, one in module.named_modules()
        if isinstance(one, RowModule)
        for name, parameter in (("rows", one.rows), ("row_bias", one.row_bias))
        if parameter is not None
    }
