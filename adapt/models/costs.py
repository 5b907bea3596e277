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
    """A site, and what it puts out and costs in one forward pass.

    `shape` is that of its output, `valid_lengths` how many of its time steps are the example's own (Whisper pads all
    audio to one window). `weights` counts the numbers in its parameters. `flops` counts a multiplication and an
    addition as two; biases, norms and activation functions are not counted.
    """

    site: Site
    shape: tuple[int, ...]
    valid_lengths: int
    weights: int
    flops: int


@dataclass(frozen=True)
class SiteCosts:
    """The sites of a model in one forward pass over `seconds` of audio (None: it reads text, `tokens` of it), and for a
    decoder with `tokens` of text.

    `weights` are those of all `sites` together, `model_weights` the whole model's, tied ones once; `flops` and
    `model_flops` likewise (a whole pass has attention's products and the spectrogram besides).
    """

    seconds: float | None
    tokens: int
    sites: tuple[SiteCost, ...]
    weights: int
    flops: int
    model_weights: int
    model_flops: int


def site_costs(model: Model, sites: Sequence[Site] | None = None, seconds: float = 1.0, tokens: int = 10) -> SiteCosts:
    """Run a model over silence, or over tokens that say nothing, once; say what each site puts out and costs.

    `sites` None is each of `model.sites`.

    The model's mode (train or eval) is as before afterwards.

    Raises:
        InputError: the model cannot read that many seconds or tokens.
    """
    inputs = _example(model, seconds, tokens)
    sites = model.sites if sites is None else sites
    before: dict[str, int] = {}
    found: dict[str, tuple[tuple[int, ...], int]] = {}

    def start(name: str) -> None:
        before[name] = counter.get_total_flops()

    def end(name: str, output: Tensor) -> None:
        found[name] = tuple(output.shape), counter.get_total_flops() - before[name]

    handles = []
    try:
        for site in sites:
            module = model.get_submodule(site.name)
            handles.append(module.register_forward_pre_hook(lambda *_, name=site.name: start(name)))
            handles.append(module.register_forward_hook(lambda *parts, name=site.name: end(name, parts[2])))
        # A weight norm computes no weight under the counter in inference mode.
        with eval_mode(model), torch.no_grad(), counted_flops() as counter:
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()

    length, read = torch.tensor([inputs[0].shape[1]]), torch.tensor([tokens])
    rows, together = [], {}
    for site in sites:
        if site.name not in found:
            raise InputError(f"The network never calls '{site.name}', and so it puts out nothing there. Leave it out.")
        own = {id(parameter): parameter.numel() for parameter in model.get_submodule(site.name).parameters()}
        together |= own
        steps = int(model.valid_lengths(site, length, read))
        rows.append(SiteCost(site, found[site.name][0], steps, sum(own.values()), found[site.name][1]))
    return SiteCosts(
        seconds=seconds if model.reader.unit == "seconds" else None,
        tokens=tokens,
        sites=tuple(rows),
        weights=sum(together.values()),
        flops=sum(row.flops for row in rows),
        model_weights=sum(parameter.numel() for parameter in model.parameters()),
        model_flops=counter.get_total_flops(),
    )


def _example(model: Model, seconds: Any, tokens: Any) -> tuple[Tensor, ...]:
    check_number("seconds", seconds, above=0)
    check_count("tokens", tokens, 1)
    if model.reader.unit == "tokens":
        reason = model.rejection_reason(Pair("", ""), tokens, training=False)
        if reason is not None:
            raise InputError(f"tokens={tokens}: {reason}")
        return model.dummy(tokens, tokens)
    samples = round(seconds * model.sample_rate)
    reason = model.rejection_reason(Utterance(Path("silence"), ""), samples, training=False)
    if reason is not None:
        raise InputError(f"seconds={seconds}: the audio {reason}")
    return model.dummy(samples, tokens)
