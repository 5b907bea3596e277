"""Read, load and fingerprint the weights of a network, by name."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from adapt.errors import InputError
from adapt.models.model import Model
from interventions.bits import fingerprint


def weights(net: nn.Module) -> dict[str, Tensor]:
    """Return the state of a network; tied weights occur once, under the name that `named_parameters` gives them."""
    tied = dict(net.named_parameters(remove_duplicate=False)).keys() - dict(net.named_parameters()).keys()
    return {name: tensor for name, tensor in net.state_dict().items() if name not in tied}


def model_fingerprint(model: Model) -> str:
    """Return the fingerprint of a model's weights and alphabet."""
    return fingerprint(weights(model.net), model.vocabulary)


def load_weights(model: Model, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy weights into a model's network; 16-bit weights become 32-bit. `path` is the file named in errors.

    Raises:
        InputError: a weight is missing, has another shape, or is unknown to the network.
    """
    expected = weights(model.net)
    for name, tensor in expected.items():
        if name not in state or state[name].shape != tensor.shape:
            actual = f"shape {tuple(state[name].shape)}" if name in state else "no such tensor"
            is_head = name.startswith(model.head.removeprefix("net."))
            labels = f" The label list has {len(model.vocabulary)} entries, including the blank." if is_head else ""
            raise InputError(
                f"'{path}' does not fit this model: expected '{name}' of shape {tuple(tensor.shape)}, found "
                f"{actual}.{labels}"
            )
    unknown = sorted(state.keys() - expected.keys())
    if unknown:
        raise InputError(f"'{path}' does not fit this model: the model has no '{unknown[0]}'.")
    # Not strict, because tied weights have further names. The loop above has checked that nothing is missing.
    model.net.load_state_dict({name: state[name].to(tensor.dtype) for name, tensor in expected.items()}, strict=False)
