"""The states of layers, and what the model writes if one of them takes the place of the last layer's."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from adapt.models.model import DecoderModel, Model
from interventions.hooks import hidden_state, units_last, with_hidden
from interventions.sites import Site

_Edit = Callable[[nn.Module, Any, Any], Any]


def encoder_blocks(model: Model) -> list[str]:
    """Return the names of the transformer layers of a model's encoder, from input to output; none without any."""
    return _blocks(model, [name for name in _numbered(model) if not _in_decoder(model, name)])


def decoder_blocks(model: Model) -> list[str]:
    """Return the names of the transformer layers of a model's decoder, from input to output; none without any."""
    return _blocks(model, [name for name in _numbered(model) if _in_decoder(model, name)])


def _numbered(model: Model) -> list[str]:
    return [layer.name for layer in model.layers if re.search(r"\.[0-9]+$", layer.name)]


def _in_decoder(model: Model, name: str) -> bool:
    if not isinstance(model, DecoderModel):
        return False
    encoder = set(encoder_of(model).modules())
    return model.get_submodule(name) not in encoder


def _blocks(model: Model, names: Sequence[str]) -> list[str]:
    # Convolutions in front of a transformer and adapters behind it are numbered too, but have no attention.
    return [
        name for name in names if any("att" in part.lower() for part, _ in model.get_submodule(name).named_modules())
    ]


def encoder_of(model: DecoderModel) -> nn.Module:
    """Return the encoder of an encoder-decoder."""
    net: Any = model.net
    return net.get_encoder()


def states_of(model: Model, names: Sequence[str], run: Callable[[], Any]) -> tuple[list[Tensor], Any]:
    """Return the outputs of modules, `(batch, time, units)` or as they are laid out, and what `run` returned."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> _Edit:
        return lambda module, inputs, output: found.__setitem__(name, _hidden(name, output).clone())

    with hooks([(model.get_submodule(name), keep(name)) for name in names]):
        result = run()
    return [found[name] for name in names], result


def replacing(model: nn.Module, name: str, state: Tensor) -> Any:
    """Within the block, a module returns another hidden state, whose batch may have another size."""
    return replacing_output(model.get_submodule(name), state)


def replacing_output(module: nn.Module, state: Tensor) -> Any:
    """As `replacing`, for the module itself."""

    def edit(module: nn.Module, inputs: Any, output: Any) -> Any:
        return state if isinstance(output, Tensor) else with_hidden(output, _hidden("a layer", output), state)

    return hooks([(module, edit)])


@contextmanager
def hooks(edits: Sequence[tuple[nn.Module, _Edit]]) -> Iterator[None]:
    """Register forward hooks within a block."""
    handles = [module.register_forward_hook(edit) for module, edit in edits]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def encoder_outputs(model: DecoderModel, run: Callable[[], Any]) -> list[Tensor]:
    """Return the encoder's output as each of its layers but the last would make it, the later layers left out.

    Args:
        model: The model, in eval mode.
        run: Runs the model on one example.

    Returns:
        `(1, time, units)` for each layer but the last, from input to output.
    """
    names, encoder = encoder_blocks(model), encoder_of(model)
    given: list[tuple[Any, Any]] = []
    handle = encoder.register_forward_pre_hook(
        lambda module, args, kwargs: given.append((args, kwargs)), with_kwargs=True
    )
    try:
        states, _ = states_of(model, names, run)
    finally:
        handle.remove()
    args, kwargs = given[-1]
    if len(states) < 2:
        return []
    with replacing(model, names[-1], torch.cat(states[:-1])):
        return list(_hidden("the encoder", encoder(*args, **kwargs)).split(1))


def output_logits(model: Model, run: Callable[[], Any]) -> Tensor:
    """Return what the output layer returned while `run` ran, `(batch, steps, units)`."""
    site = model.sites[-1]
    (logits,), _ = states_of(model, [site.name], run)
    return units_last(logits, site)


def _hidden(name: str, output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    return hidden_state(cast(object, output), Site(name, -1, 0, ()))
