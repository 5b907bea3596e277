"""What wav2vec2-like encoders of waveforms share: normalisation, masked layers and cuts."""

from typing import Any

import torch
from torch import Tensor, nn

from adapt.models import hf
from adapt.models.cut import CachedOutput, Cut, Stub, stack_cuts
from adapt.models.masked_layers import MaskedConv1d, MaskedGroupNorm
from adapt.models.steps import steps_after, window
from adapt.models.waveform_gradient import no_grad_unless_wanted

# With an attention mask and `MaskedGroupNorm`, these architectures give the same results for a padded batch as for each
# utterance alone. The others (SEW's pooling, the Conformer's convolutions, data2vec's positions) are run on one
# utterance at a time.
BATCHED = ("wav2vec2", "hubert", "wavlm", "unispeech", "unispeech-sat")


# Modules that cannot be sites, by model type: they are never called (WavLM passes the weights of its projections to a
# torch function; the Conformer skips its positional convolution), or their output is not one vector of units per step
# (WavLM's gates, the Conformer's relative positions).
NO_SITES = {"wavlm": ("*.attention.*",), "wav2vec2-conformer": ("*.pos_conv_embed.*", "*.linear_pos")}


@no_grad_unless_wanted
def normalised(audio: Tensor, lengths: Tensor) -> Tensor:
    """Normalise audio `(batch, samples)` to mean 0 and variance 1 over the valid samples (Wav2Vec2FeatureExtractor)."""
    valid = torch.arange(audio.shape[1], device=audio.device) < lengths.unsqueeze(1)
    count = lengths.unsqueeze(1)
    mean = (audio * valid).sum(1, keepdim=True) / count
    variance = ((audio - mean) * valid).square().sum(1, keepdim=True) / count
    return (audio - mean) / (variance + 1e-7).sqrt() * valid


def mask_group_norms(extractor: Any) -> list[MaskedGroupNorm]:
    """Replace the group norms of a feature encoder by masked ones, and return them."""
    norms = []
    for layer in extractor.conv_layers:
        if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
            layer.layer_norm = MaskedGroupNorm(layer.layer_norm, layer.conv)
            norms.append(layer.layer_norm)
    return norms


def mask_adapter(body: Any) -> list[MaskedConv1d]:
    """Replace the convolutions of an adapter by masked ones, and return them; none if there is no adapter."""
    layers = getattr(getattr(body, "adapter", None), "layers", ())
    for layer in layers:
        layer.conv = MaskedConv1d(layer.conv)
        # `site_at` reads this for a site at the whole layer, where a gated linear unit after the convolution has halved
        # the number of units.
        layer.out_channels = layer.conv.out_channels // 2
    return [layer.conv for layer in layers]


def waveform_cuts(name: str, body: Any) -> list[Cut]:
    """Return the cuts of a wav2vec2-like network `body` named `name`: after its feature encoder, its positions and its
    transformer layers.
    """
    config, encoder = body.config, f"{name}.encoder"
    windows = [window(layer.conv) for layer in body.feature_extractor.conv_layers]
    late = getattr(config, "do_stable_layer_norm", False)
    norm = f"{encoder}.layer_norm"

    def steps(lengths: Tensor, _: Tensor) -> Tensor:
        return steps_after(windows, lengths)

    inside = {name: "SpecAugment hides hidden states", encoder: "LayerDrop and dropout are on"}
    stubs: dict[str, Stub] = {f"{name}.feature_extractor": 2, f"{name}.feature_projection": 1}
    stubs |= dict.fromkeys([f"{encoder}.pos_conv_embed", *([] if late else [norm])], "same")
    blocks = [f"{encoder}.layers.{number}" for number in range(len(body.encoder.layers))]
    dropout = f"{encoder}.dropout"
    cuts = stack_cuts(blocks, norm if late else None, steps, inside, {**stubs, dropout: "same"})
    features = CachedOutput(f"{name}.feature_extractor", steps, axis=2)
    return [
        Cut(f"{features.module}.conv_layers.{len(windows) - 1}", (features,)),
        Cut(f"{encoder}.pos_conv_embed", (CachedOutput(dropout, steps, stubs),), inside),
        *(cuts[-1:] if config.model_type == "wavlm" else cuts),
    ]


def adapter_layers(model: nn.Module, body: str) -> dict[str, list[str]]:
    """Return the modules of each layer of an adapter; none if there is no adapter.

    The first layer includes the projection to the adapter's width.
    """
    names = [name for name in hf.submodules(model, f"{body}.adapter.layers") if name.count(".") == body.count(".") + 3]
    groups = hf.submodules_of(model, names)
    if names:
        groups[names[0]] += hf.submodules(model, f"{body}.adapter.proj", f"{body}.adapter.proj_layer_norm")
    return groups
