"""Tuning of vectors alone: every bias (BitFit), or the norms, whose weights and biases scale and shift activations."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.models.model import Model
from adapt.tuning.layers import full
from adapt.tuning.layers import layers as parameters_of_layers


def bias(
    model: Model,
    sites: str | Sequence[str] = "*",
    layers: str | int | Sequence[str | int] | None = None,
    sample: TuningData | None = None,
) -> list[str]:
    """Every bias, those of norms included (BitFit: Ben Zaken et al. 2022).

    `sites` are globs over the names of the modules that have one; of these, the ones in `layers` train.

    Raises:
        InputError: there is none; a T5 has no biases.
    """

    def is_bias(module: nn.Module, kind: str) -> bool:
        return kind.endswith("bias")

    return _those("bias", is_bias, model, sites, layers)


def norm(
    model: Model,
    sites: str | Sequence[str] = "*",
    layers: str | int | Sequence[str | int] | None = None,
    sample: TuningData | None = None,
) -> list[str]:
    """The weights and biases of batch, layer, group and RMS norms. The statistics of a batch norm follow the training.

    `sites` are globs over the norms' names; of these, the ones in `layers` train.

    Raises:
        InputError: there is none; torchaudio's Wav2Letter has no norms.
    """

    def is_norm(module: nn.Module, kind: str) -> bool:
        return "norm" in type(module).__name__.lower() and getattr(module, kind).dim() == 1

    return _those("norm", is_norm, model, sites, layers)


def _those(
    kind: str, wanted: Callable[[nn.Module, str], bool], model: Model, sites: str | Sequence[str], layers: Any
) -> list[str]:
    pairs = [name.rpartition(".")[::2] for name in full(model)]
    own = [(module, name) for module, name in pairs if wanted(model.get_submodule(module), name)]
    if not own:
        raise InputError(f"tuning={kind}: this model has none. Try tuning=layers, neurons or lora.")
    globs = [sites] if isinstance(sites, str) else [str(one) for one in sites]
    chosen = [f"{module}.{name}" for module, name in own if any(fnmatchcase(module, one) for one in globs)]
    if layers is not None:
        inside = set(parameters_of_layers(model, layers))
        chosen = [name for name in chosen if name in inside]
    if not chosen:
        there = ", ".join(dict.fromkeys(module for module, _ in own))
        raise InputError(f"tuning={kind}: there is none at {', '.join(globs)} in these layers. They are at {there}.")
    return chosen
