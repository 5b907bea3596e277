"""Train only the biases (BitFit), or only the norms, whose weights and biases scale and shift activations."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.models.model import Model
from adapt.tuning.layers import layers as tune_layers
from adapt.tuning.layers import trainable_names
from adapt.tuning.tuned import Tuned


def bias(
    model: Model,
    data: TuningData | None = None,
    sites: str | Sequence[str] = "*",
    layers: str | int | Sequence[str | int] | None = None,
) -> Tuned:
    """Train every bias, those of norms included (BitFit: Ben Zaken et al. 2022).

    The running statistics of batch norms stay as they are, because their weights are frozen.

    Args:
        model: The model to train.
        data: Not used.
        sites: Globs over the names of the modules that have a bias.
        layers: Only modules in these layers are trained; None for all layers.

    Returns:
        The names of the biases.

    Raises:
        InputError: no bias matches; a T5 has none.
    """

    def is_bias(module: nn.Module, kind: str) -> bool:
        return kind.endswith("bias")

    return _matching("bias", is_bias, model, sites, layers)


def norm(
    model: Model,
    data: TuningData | None = None,
    sites: str | Sequence[str] = "*",
    layers: str | int | Sequence[str | int] | None = None,
) -> Tuned:
    """Train the weights and biases of batch, layer, group and RMS norms, and the running statistics of batch norms.

    Args:
        model: The model to train.
        data: Not used.
        sites: Globs over the norms' names.
        layers: Only modules in these layers are trained; None for all layers.

    Returns:
        The names of the norms' parameters.

    Raises:
        InputError: no norm matches; torchaudio's Wav2Letter has none.
    """

    def is_norm(module: nn.Module, kind: str) -> bool:
        return "norm" in type(module).__name__.lower() and getattr(module, kind).dim() == 1

    return _matching("norm", is_norm, model, sites, layers)


def _matching(
    kind: str, wanted: Callable[[nn.Module, str], bool], model: Model, sites: str | Sequence[str], layers: Any
) -> Tuned:
    pairs = [name.rpartition(".")[::2] for name in trainable_names(model)]
    candidates = [(module, name) for module, name in pairs if wanted(model.get_submodule(module), name)]
    if not candidates:
        raise InputError(f"tuning={kind}: this model has no such parameters. Try tuning=layers, neurons or lora.")
    globs = [sites] if isinstance(sites, str) else [str(one) for one in sites]
    chosen = [f"{module}.{name}" for module, name in candidates if any(fnmatchcase(module, one) for one in globs)]
    if layers is not None:
        inside = set(tune_layers(model, layers=layers).names)
        chosen = [name for name in chosen if name in inside]
    if not chosen:
        modules = ", ".join(dict.fromkeys(module for module, _ in candidates))
        raise InputError(f"tuning={kind}: none matches {', '.join(globs)} in these layers. They are at {modules}.")
    return Tuned.of(chosen)
