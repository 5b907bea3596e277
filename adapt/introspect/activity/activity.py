"""Read what every layer does while a model reads one example, step by step.

    activity = read_activity(model, example)
    layer = activity["net.acoustic_model.conv3"]
    layer.values[layer.step_at(1.5), 7]        # of neuron 7, at 1.5 s

A decoder reads the text of the example, as in training. Give it the model's own answer (`with_text`), and its steps are
those of the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.errors import InputError
from adapt.introspect.activations import run, valid_lengths
from adapt.introspect.attribution.words import single_batch
from adapt.introspect.profiles.trace import Kind, time_base_of
from adapt.introspect.reading import MAX_OUTPUT_UNITS
from adapt.memory import check_memory
from adapt.models.inference import eval_mode
from adapt.models.model import DecoderModel, Model
from interventions.capture import capture
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class LayerActivity:
    """The activations of a layer over one example.

    Attributes:
        layer: The name of the layer.
        site: The site that stands for it.
        values: `(steps, units)`, float32.
        kind: What a step is: a frame of audio ("seconds"), a "source" token or a "target" token.
        start: The middle of the first step in seconds; 0 for tokens.
        length: The duration of a step in seconds; 1 for tokens.
        tokens: The token of each step; empty for audio.
    """

    layer: str
    site: Site
    values: Tensor
    kind: Kind
    start: float
    length: float
    tokens: tuple[str, ...] = ()

    def step_at(self, time: float) -> int:
        """Return the step whose middle is nearest to a time in seconds, or to the number of a token."""
        return min(max(round((time - self.start) / self.length), 0), len(self.values) - 1)


def layer_sites(model: Model) -> dict[str, Site]:
    """Return the site that stands for each layer, by name of the layer, from input to output.

    Layers without a site of their own are left out, and so is an output layer with a unit for each token.
    """
    sites = {site.name: site for site in model.sites}
    found = {layer.name: sites.get(layer.site or layer.name) for layer in model.layers}
    most = 1024 if isinstance(model, DecoderModel) else MAX_OUTPUT_UNITS
    output = model.sites[-1]
    return {name: site for name, site in found.items() if site and (site != output or site.units <= most)}


@torch.no_grad()
def read_activity(
    model: Model, example: Example, layers: Sequence[str] | None = None, finest: float = 0.0
) -> dict[str, LayerActivity]:
    """Return the activity of layers while the model reads an example, by the name of the site.

    Args:
        model: The model.
        example: The example; a decoder reads its text.
        layers: The names of the layers; None for all that `layer_sites` returns.
        finest: Shorter steps are averaged until they last about this long, in seconds: the first convolutions of
            wav2vec2 have thousands of steps in a second.

    Raises:
        InputError: There is no such layer, or the model cannot read the example or its text.
    """
    sites = layer_sites(model)
    unknown = [name for name in layers or () if name not in sites]
    if unknown:
        raise InputError(f"layers: there is no '{unknown[0]}'. Choose from {', '.join(sites)}.")
    chosen = {name: site for name, site in sites.items() if layers is None or name in layers}
    batch = single_batch(model, example)
    reason = model.rejection_reason(example, len(batch.inputs[0]), isinstance(model, DecoderModel))
    if reason is not None:
        raise InputError(f"{example.name} {reason}")
    steps = valid_lengths(model, batch)
    together = {site.name: _together(model, site, finest) for site in chosen.values()}
    size = 4 * sum(int(steps(site)[0]) * site.units // together[site.name] for site in chosen.values())
    check_memory(size, f"The activity of {len(chosen)} layers", "Give fewer layers, or a shorter example.")
    found: dict[str, Tensor] = {}

    def keep(site: Site, x: Tensor) -> None:
        found[site.name] = _averaged(x[0, : int(steps(site)[0])].float(), together[site.name]).cpu()

    with eval_mode(model), capture(model, list(chosen.values()), keep):
        run(model, batch)
    seconds = int(batch.lengths[0]) / model.sample_rate if model.reads_audio else 0.0
    activity = {}
    for name, site in chosen.items():
        count, base, joined = int(steps(site)[0]), time_base_of(model, site), together[site.name]
        start = seconds / 2 - (count - joined) / 2 * base.length if base.kind == "seconds" else 0.0
        tokens = _tokens(model, example, batch.inputs[0], base.kind)
        length = base.length * joined
        activity[site.name] = LayerActivity(name, site, found[site.name], base.kind, start, length, tokens)
    return activity


def _together(model: Model, site: Site, finest: float) -> int:
    base = time_base_of(model, site)
    return max(1, round(finest / base.length)) if base.kind == "seconds" else 1


def _averaged(values: Tensor, together: int) -> Tensor:
    """Return the means of so many steps each, of fewer at the end; a copy."""
    if together == 1:
        return values.clone()
    windows = torch.arange(len(values), device=values.device) // together
    sums = values.new_zeros(int(windows[-1]) + 1, values.shape[1]).index_add_(0, windows, values)
    return sums / windows.bincount().unsqueeze(1)


def _tokens(model: Model, example: Example, inputs: Tensor, kind: Kind) -> tuple[str, ...]:
    if kind == "seconds" or not isinstance(model, DecoderModel):
        return ()
    tokenizer: Any = model.tokenizer
    if kind == "source":
        return tuple(map(str, tokenizer.convert_ids_to_tokens(inputs.tolist())))
    return tuple(tokenizer.decode([unit]) for unit in model.target(example))
