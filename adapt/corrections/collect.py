"""Collect the activations that corrections must leave unchanged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import collate
from adapt.errors import InputError
from adapt.introspect.activations import valid_lengths
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from adapt.progress import track
from interventions.capture import capture
from interventions.corrections.layer import AffineLayer, layer_inputs
from interventions.corrections.protect import Protected


def protect(model: Model, layer: AffineLayer, examples: Sequence[Example]) -> Protected:
    """What corrections at a layer should leave alone: its inputs in these examples, with the texts they have.

    Raises:
        InputError: there are too few of them.
    """
    device = next(model.parameters()).device
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    with eval_mode(model), torch.no_grad():
        for example in track(examples, "protecting"):
            # One by one, so that no padding is among them.
            batch = collate([(example, model.reader.read(example))]).to(device)
            with layer_inputs(model, layer) as found, capture(model, layer.site) as acts:
                model.task.loss(model, batch)
            steps = int(valid_lengths(model, batch)(layer.site))
            inputs.append(found[0][0][: layer.needed(steps)].cpu())
            outputs.append(acts[layer.site][0][:steps].cpu())
    if sum(map(len, outputs)) < 100:
        raise InputError(
            f"Protected are {len(examples)} examples that the model answers, {sum(map(len, outputs))} steps of "
            f"'{layer.site.name}' in all. Give more, some minutes of audio or a hundred sentences: protected=..."
        )
    return Protected.fit(layer, inputs, outputs)
