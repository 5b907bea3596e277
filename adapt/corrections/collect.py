"""Collect the inputs and outputs of a layer for examples that corrections must leave unchanged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import collate
from adapt.errors import InputError
from adapt.introspect.activations import valid_lengths
from adapt.models.inference import eval_mode
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.progress import track
from interventions.capture import capture
from interventions.corrections.layer import AffineLayer, layer_inputs
from interventions.corrections.protect import Protected

MIN_STEPS = 100  # minimum number of the layer's time steps, over all protected examples


def collect_protected(model: Model, layer: AffineLayer, examples: Sequence[Example]) -> Protected:
    """Run the model on protected examples with their given texts, and compute the statistics of a layer's inputs.

    Raises:
        InputError: If there are too few examples.
    """
    device = next(model.parameters()).device
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    with eval_mode(model), torch.no_grad():
        for example in track(examples, "protecting"):
            # One example at a time, so that there is no padding.
            batch = collate([(example, model.reader.read(example))]).to(device)
            with layer_inputs(model, layer) as collected, capture(model, layer.site) as activations:
                model.task.loss(model, batch)
            steps = int(valid_lengths(model, batch)(layer.site))
            inputs.append(collected[0][0][: layer.needed(steps)].cpu())
            outputs.append(activations[layer.site][0][:steps].cpu())
    total = sum(map(len, outputs))
    if total < MIN_STEPS:
        step = layer.site.step
        what = "tokens" if step is not None and step.unit == "token" else "frames"
        raise InputError(
            f"The {len(examples)} protected examples are too few: they have {total} {what}, and at least {MIN_STEPS} "
            "are needed. Protect more: some minutes of audio, or a hundred sentences."
        )
    return Protected.fit(layer, inputs, outputs)


def default_protected(loaded: Loaded) -> list[Example] | None:
    """Return synthetic examples like the training data of an embedded model, or None for other models."""
    if loaded.reference == "us-english":
        from adapt.data.synthetic.accents import accents

        return list(accents(train=0, validation=0, test=0, source_train=400, source_test=0).source_train)
    if loaded.reference == "weather-en-de":
        from adapt.data.synthetic.domains import domains

        return list(domains(train=0, validation=0, test=0, source_test=0, source_train=300).source_train)
    return None
