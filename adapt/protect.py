"""Where a model's corrections are kept, and what they leave alone."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import collate
from adapt.errors import InputError
from adapt.inference import eval_mode
from adapt.introspect.activations import own_steps
from adapt.models.model import Model
from adapt.progress import track
from interventions.capture import capture
from interventions.correct_layer import AffineLayer, layer_inputs
from interventions.correct_protect import Protected
from interventions.sites import Site

# In each family: where corrections are kept unless somebody says otherwise, at which share of the depth, and of how
# many layers at least (see README). What the last self-attention of a decoder puts out says how far the answer has come
# and, from the cross-attention below it, what of; with one layer there is none below.
_PLACES = (
    ("*.decoder.layers.*.self_attn.out_proj", 1.0, 2),  # decoders as BART's, Marian's and Whisper's
    ("*.decoder.block.*.SelfAttention.o", 1.0, 2),  # T5's
    ("*decoder.*.attention.output.dense", 1.0, 2),  # BERT's
    ("*.encoder_attn.out_proj", 1.0, 1),
    ("*.EncDecAttention.o", 1.0, 1),
    ("*.crossattention.output.dense", 1.0, 1),
    ("*.feature_projection.projection", 0.0, 1),  # encoders as wav2vec2's
    ("*.acoustic_model.*", 0.3, 1),  # Wav2Letter's convolutions
)


def layer_of(model: Model, name: str | None = None) -> AffineLayer:
    """The layer at which a model's corrections are kept; `name` is a glob, None the family's usual one. InputError."""
    there = [site for site in model.sites if _holds(model, site)]
    if name is not None:
        chosen = [site for site in model.sites if fnmatchcase(site.name, name)]
        if len(chosen) != 1:
            raise InputError(
                f"site={name} is {len(chosen)} sites of this model, and corrections are kept at one. Give one of: "
                f"{', '.join(site.name for site in there)}."
            )
        try:
            return AffineLayer.of(model, chosen[0])
        except ValueError as error:
            raise InputError(f"site={name}: {error}") from None
    for pattern, depth, fewest in _PLACES:
        found = [site for site in there if fnmatchcase(site.name, pattern)]
        if len(found) >= fewest:
            return AffineLayer.of(model, found[round(depth * (len(found) - 1))])
    raise InputError(
        f"Say where corrections are to be kept: site=..., one of {', '.join(site.name for site in there)}."
    )


def _holds(model: Model, site: Site) -> bool:
    try:
        AffineLayer.of(model, site)
    except ValueError:
        return False
    return True


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
            steps = int(own_steps(model, batch)(layer.site))
            inputs.append(found[0][0][: layer.needed(steps)].cpu())
            outputs.append(acts[layer.site][0][:steps].cpu())
    if sum(map(len, outputs)) < 100:
        raise InputError(
            f"Protected are {len(examples)} examples that the model answers, {sum(map(len, outputs))} steps of "
            f"'{layer.site.name}' in all. Give more, some minutes of audio or a hundred sentences: protected=..."
        )
    return Protected.fit(layer, inputs, outputs)
