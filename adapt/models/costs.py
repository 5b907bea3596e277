"""The output shape, number of weights and FLOPs of each site of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.checks import check_count, check_number
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.models.flops import counted_flops
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from interventions.sites import Site


@dataclass(frozen=True)
class SiteCost:
    """The output and the cost of a site in one forward pass.

    Args:
        site: The site.
        shape: The shape of its output.
        valid_lengths: How many of its time steps are valid (Whisper pads all audio to one window).
        weights: The number of values in its parameters.
        flops: Floating-point operations; a multiplication and an addition count as two. Biases, norms and activation
            functions are not counted.
    """

    site: Site
    shape: tuple[int, ...]
    valid_lengths: int
    weights: int
    flops: int


@dataclass(frozen=True)
class SiteCosts:
    """The costs of sites in one forward pass, and of the whole model.

    Args:
        seconds: The duration of the audio; None for a model that reads text.
        tokens: The number of tokens that the model or its decoder reads.
        sites: The costs of each site.
        weights: The number of weights of all `sites` together; tied weights count once.
        flops: The FLOPs of all `sites` together.
        model_weights: The number of weights of the whole model; tied weights count once.
        model_flops: The FLOPs of the whole forward pass, which includes attention's products and the spectrogram.
    """

    seconds: float | None
    tokens: int
    sites: tuple[SiteCost, ...]
    weights: int
    flops: int
    model_weights: int
    model_flops: int


def site_costs(model: Model, sites: Sequence[Site] | None = None, seconds: float = 1.0, tokens: int = 10) -> SiteCosts:
    """Run a model once on silence or blank tokens, and return the output shape and the cost of each site.

    The model runs in eval mode; its mode is restored afterwards.

    Args:
        model: The model.
        sites: The sites; None for `model.sites`.
        seconds: The duration of the silence, for a model that reads audio.
        tokens: The number of tokens that a model of text or a decoder reads.

    Raises:
        InputError: the model cannot read that many seconds or tokens, or never calls one of the sites.
    """
    inputs = _example(model, seconds, tokens)
    sites = model.sites if sites is None else sites
    outputs, model_flops = _run(model, inputs, sites)
    length, decoded = torch.tensor([inputs[0].shape[1]]), torch.tensor([tokens])
    rows, union = [], {}
    for site in sites:
        if site.name not in outputs:
            raise InputError(f"The network never calls '{site.name}', so that site has no output. Leave it out.")
        sizes = {id(parameter): parameter.numel() for parameter in model.get_submodule(site.name).parameters()}
        union |= sizes
        shape, flops = outputs[site.name]
        valid = int(model.valid_lengths(site, length, decoded))
        rows.append(SiteCost(site, shape, valid, sum(sizes.values()), flops))
    return SiteCosts(
        seconds=seconds if model.reads_audio else None,
        tokens=tokens,
        sites=tuple(rows),
        weights=sum(union.values()),
        flops=sum(row.flops for row in rows),
        model_weights=sum(parameter.numel() for parameter in model.parameters()),
        model_flops=model_flops,
    )


def _run(
    model: Model, inputs: tuple[Tensor, ...], sites: Sequence[Site]
) -> tuple[dict[str, tuple[tuple[int, ...], int]], int]:
    """Return the output shape and the FLOPs of each site that the model calls, and the FLOPs of the whole pass."""
    before: dict[str, int] = {}
    outputs: dict[str, tuple[tuple[int, ...], int]] = {}

    def start(name: str) -> None:
        before[name] = counter.get_total_flops()

    def end(name: str, output: Tensor) -> None:
        outputs[name] = tuple(output.shape), counter.get_total_flops() - before[name]

    handles = []
    try:
        for site in sites:
            module = model.get_submodule(site.name)
            handles.append(module.register_forward_pre_hook(lambda *_, name=site.name: start(name)))
            handles.append(module.register_forward_hook(lambda *parts, name=site.name: end(name, parts[2])))
        # Not inference mode: in it, weight norm computes no weight under the counter.
        with eval_mode(model), torch.no_grad(), counted_flops() as counter:
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return outputs, counter.get_total_flops()


def _example(model: Model, seconds: Any, tokens: Any) -> tuple[Tensor, ...]:
    check_number("seconds", seconds, above=0)
    check_count("tokens", tokens, 1)
    if not model.reads_audio:
        reason = model.rejection_reason(Pair("", ""), tokens, training=False)
        if reason is not None:
            raise InputError(f"tokens={tokens}: {reason}")
        return model.dummy(tokens, tokens)
    samples = round(seconds * model.sample_rate)
    reason = model.rejection_reason(Utterance(Path("silence"), ""), samples, training=False)
    if reason is not None:
        raise InputError(f"seconds={seconds}: the audio {reason}")
    return model.dummy(samples, tokens)
