"""The encoders of transformers' speech encoder-decoders: their inputs, and how they ignore padding.

A padded batch gives the same results as each utterance alone. Layers that would read padding are replaced by masked
ones with the same parameters (`adapt/models/masked_layers.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapt.errors import InputError
from adapt.models import hf
from adapt.models.cut import Cut, Stub, stack_cuts
from adapt.models.full_precision import full_precision
from adapt.models.masked_layers import MaskedConv1d, MaskedGroupNorm
from adapt.models.steps import Window, steps_after, window
from adapt.models.waveform_encoders import (
    BATCHED,
    NO_SITES,
    adapter_layers,
    mask_adapter,
    mask_group_norms,
    normalised,
    waveform_cuts,
)
from interventions.sites import length_mask


class SpeechEncoder(ABC):
    """The encoder of a wrapped network. Names of modules start with the wrapper's `net.`

    `prefix` is the encoder's name, `stack` that of the module that runs its transformer layers. `no_sites` are globs
    over the names of linear maps that are never called.
    """

    prefix: str
    stack: str
    no_sites: tuple[str, ...] = ()

    @abstractmethod
    def __init__(self, net: Any, extractor: Any) -> None:
        """Wrap the encoder of `net` with its feature extractor. Raises InputError if they are not supported."""

    @abstractmethod
    def inputs(self, audio: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Return the arguments of the network's `forward` and `generate`.

        Args:
            audio: `(batch, samples)` in -1..1, zero after each utterance's end.
            lengths: `(batch,)` in samples.
        """

    @abstractmethod
    def windows(self, name: str = "") -> list[Window]:
        """Return the sliding windows from the waveform to a module of the encoder; for other names, to its output."""

    @abstractmethod
    def layers(self, model: nn.Module) -> dict[str, list[str]]:
        """Return all modules with parameters, by the name of their layer, from input to output."""

    @abstractmethod
    def cuts(self) -> list[Cut]:
        """Return the places at which the encoder can be cut (`adapt/models/cut.py`)."""

    @property
    def never_trained(self) -> frozenset[str]:
        """Parameters that training cannot change."""
        return frozenset()

    @contextmanager
    def prepared(self, lengths: Tensor) -> Iterator[None]:
        """Prepare the encoder for a forward pass over utterances of these lengths."""
        yield

    def configure_training(self) -> None:  # noqa: B027 (most encoders need nothing)
        """Switch off what must not be active in training. Call it in train mode."""


class WaveformEncoder(SpeechEncoder):
    """wav2vec2, HuBERT, WavLM or UniSpeech in a SpeechEncoderDecoderModel.

    While training, SpecAugment (on hidden states) is on as in the encoder's config. LayerDrop is off in an adapter:
    skipping one of its convolutions doubles the number of steps, and the network's mask would hide the second half.
    """

    prefix, stack = "net.encoder", "net.encoder.encoder"

    def __init__(self, net: Any, extractor: Any) -> None:
        kind = net.encoder.config.model_type
        if kind not in BATCHED or not hasattr(extractor, "do_normalize"):
            raise InputError(
                f"A {type(net).__name__} with a {type(net.encoder).__name__} and a {type(extractor).__name__} is not "
                f"supported. Expected an encoder that reads waveforms ({', '.join(BATCHED)}) with a "
                "Wav2Vec2FeatureExtractor; with others, padding changes results."
            )
        self.body, self.normalises = net.encoder, extractor.do_normalize
        self.no_sites = tuple(f"net.encoder.{pattern}" for pattern in NO_SITES.get(kind, ()))
        self.norms = mask_group_norms(self.body.feature_extractor)
        self.adapter = mask_adapter(self.body)

    def inputs(self, audio: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        for norm in self.norms:
            norm.set_lengths(lengths)
        convolutions, audio = self._convolutions, hf.audio_or_silence(audio, lengths)
        for number, conv in enumerate(self.adapter):
            conv.set_lengths(steps_after([*convolutions, *map(window, self.adapter[:number])], lengths))
        x = normalised(audio, lengths) if self.normalises else audio
        return {"inputs": x, "attention_mask": length_mask(lengths, x.shape[1]).long()}

    @contextmanager
    def prepared(self, lengths: Tensor) -> Iterator[None]:
        body, masking = self.body, self.body.training
        # The network raises an error for audio shorter than one masked span.
        longest = int(steps_after(self._convolutions, lengths).max())
        body.training = masking and longest >= body.config.mask_time_length
        try:
            yield
        finally:
            body.training = masking

    @property
    def _convolutions(self) -> list[Window]:
        return [window(layer.conv) for layer in self.body.feature_extractor.conv_layers]

    def windows(self, name: str = "") -> list[Window]:
        place, adapter = name.removeprefix("net.encoder."), [window(conv) for conv in self.adapter]
        if place.startswith("feature_extractor.conv_layers."):
            return self._convolutions[: int(place.split(".")[2]) + 1]
        if place.startswith("encoder.pos_conv_embed."):
            # With an even kernel it outputs one step more, which the network drops.
            return [*self._convolutions, window(self.body.encoder.pos_conv_embed.conv)]
        if place.startswith("adapter.layers."):
            return [*self._convolutions, *adapter[: int(place.split(".")[2]) + 1]]
        return self._convolutions if name.startswith("net.encoder.") else [*self._convolutions, *adapter]

    def layers(self, model: nn.Module) -> dict[str, list[str]]:
        body, encoder = self.prefix, self.stack
        groups = {
            name: hf.submodules(model, name)
            for name in [f"{body}.feature_extractor.conv_layers.{n}" for n in range(len(self._convolutions))]
        }
        # The mask embedding is a parameter of the encoder itself.
        groups[f"{body}.feature_projection"] = [body, *hf.submodules(model, f"{body}.feature_projection")]
        groups[f"{encoder}.pos_conv_embed"] = hf.submodules(model, f"{encoder}.pos_conv_embed", f"{encoder}.dropout")
        blocks = [f"{encoder}.layers.{n}" for n in range(len(self.body.encoder.layers))]
        groups |= hf.submodules_of(model, blocks)
        late = getattr(self.body.config, "do_stable_layer_norm", False)
        groups[blocks[-1] if late else f"{encoder}.pos_conv_embed"].append(f"{encoder}.layer_norm")
        return groups | adapter_layers(model, body)

    def cuts(self) -> list[Cut]:
        return waveform_cuts(self.prefix, self.body)

    @property
    def never_trained(self) -> frozenset[str]:
        config = self.body.config
        masks = config.mask_time_prob > 0 and getattr(config, "apply_spec_augment", True)
        return frozenset() if masks else frozenset({"net.encoder.masked_spec_embed"})

    def configure_training(self) -> None:
        # Otherwise the network computes the gradient of the waveform, through all convolutions.
        self.body.feature_extractor._requires_grad = False
        if self.adapter:
            self.body.adapter.training = False


class FilterBankEncoder(SpeechEncoder):
    """Speech2Text: Kaldi filter banks and convolutions with padding."""

    prefix = stack = "net.model.encoder"

    def __init__(self, net: Any, extractor: Any) -> None:
        if not hasattr(extractor, "do_ceptral_normalize"):
            raise InputError(
                f"A {type(net).__name__} needs a Speech2TextFeatureExtractor, got {type(extractor).__name__}."
            )
        self.body, self.extractor = net.model.encoder, extractor
        convolutions = self.body.conv.conv_layers
        for number, conv in enumerate(convolutions):
            convolutions[number] = MaskedConv1d(conv)
        rate = extractor.sampling_rate
        self.frames = Window(int(rate * 25.0 * 0.001), int(rate * 10.0 * 0.001))  # as torchaudio rounds

    @torch.no_grad()
    @full_precision
    def inputs(self, audio: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        features = self._features(audio, lengths) if audio.shape[1] else self._blank_features(lengths)
        for number, conv in enumerate(self.body.conv.conv_layers):
            conv.set_lengths(steps_after(self._windows_after(number), lengths))
        return {
            "input_features": features,
            "attention_mask": length_mask(self.frames.steps(lengths), features.shape[1]).long(),
        }

    def _features(self, audio: Tensor, lengths: Tensor) -> Tensor:
        waveforms = [samples[:length].float().cpu().numpy() for samples, length in zip(audio, lengths, strict=True)]
        with np.errstate(divide="ignore", invalid="ignore"):  # a constant band, as in digital silence
            features = self.extractor(
                waveforms, sampling_rate=self.extractor.sampling_rate, padding=True, return_tensors="pt"
            )
        return features["input_features"].nan_to_num(0.0, 0.0, 0.0).to(audio.device)

    def _blank_features(self, lengths: Tensor) -> Tensor:
        frames = int(self.frames.steps(lengths).max())
        return torch.zeros(len(lengths), frames, self.extractor.num_mel_bins, device=lengths.device)

    def _windows_after(self, convolutions: int) -> list[Window]:
        return [self.frames, *map(window, self.body.conv.conv_layers[:convolutions])]

    def windows(self, name: str = "") -> list[Window]:
        prefix = f"{self.prefix}.conv.conv_layers."
        if name.startswith(prefix):
            return self._windows_after(int(name.removeprefix(prefix)) + 1)
        return self._windows_after(len(self.body.conv.conv_layers))

    def cuts(self) -> list[Cut]:
        return _cuts(self, {f"{self.prefix}.conv": 1})

    def layers(self, model: nn.Module) -> dict[str, list[str]]:
        names = [f"{self.prefix}.conv.conv_layers.{n}" for n in range(len(self.body.conv.conv_layers))]
        blocks = [f"{self.prefix}.layers.{n}" for n in range(len(self.body.layers))]
        groups = hf.submodules_of(model, [*names, *blocks])
        groups[blocks[-1]].append(f"{self.prefix}.layer_norm")
        return groups


class MoonshineEncoder(SpeechEncoder):
    """Moonshine: waveforms, three convolutions without padding, and a group norm."""

    prefix = stack = "net.model.encoder"

    def __init__(self, net: Any, extractor: Any) -> None:
        if not hasattr(extractor, "do_normalize"):
            raise InputError(
                f"A {type(net).__name__} needs a Wav2Vec2FeatureExtractor, got {type(extractor).__name__}."
            )
        self.body, self.normalises = net.model.encoder, extractor.do_normalize
        self.body.groupnorm = self.norm = MaskedGroupNorm(self.body.groupnorm, self.body.conv1)

    def inputs(self, audio: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        self.norm.set_lengths(lengths)
        audio = hf.audio_or_silence(audio, lengths)
        x = normalised(audio, lengths) if self.normalises else audio
        # The network takes every 384th value of the mask as the mask of its steps, and so counts steps as valid whose
        # window reaches into padding. The mask is therefore computed from the number of valid steps.
        steps, stride = steps_after(self.windows(), lengths), 1
        for one in self.windows():
            stride *= one.stride
        return {"input_values": x, "attention_mask": length_mask(steps * stride, x.shape[1]).long()}

    def windows(self, name: str = "") -> list[Window]:
        windows = [window(conv) for conv in (self.body.conv1, self.body.conv2, self.body.conv3)]
        names = [f"{self.prefix}.conv{number}" for number in (1, 2, 3)]
        return windows[: names.index(name) + 1] if name in names else windows

    def cuts(self) -> list[Cut]:
        name = self.prefix
        return _cuts(self, {f"{name}.conv1": 2, f"{name}.groupnorm": "same", f"{name}.conv2": 2, f"{name}.conv3": 2})

    def layers(self, model: nn.Module) -> dict[str, list[str]]:
        groups = {f"{self.prefix}.conv{number}": [f"{self.prefix}.conv{number}"] for number in (1, 2, 3)}
        groups[f"{self.prefix}.conv1"].append(f"{self.prefix}.groupnorm")
        blocks = [f"{self.prefix}.layers.{n}" for n in range(len(self.body.layers))]
        groups |= hf.submodules_of(model, blocks)
        groups[blocks[-1]].append(f"{self.prefix}.layer_norm")
        return groups


def _cuts(encoder: FilterBankEncoder | MoonshineEncoder, stubs: dict[str, Stub]) -> list[Cut]:
    def steps(lengths: Tensor, _: Tensor) -> Tensor:
        return steps_after(encoder.windows(), lengths)

    name = encoder.prefix
    blocks = [f"{name}.layers.{number}" for number in range(len(encoder.body.layers))]
    return stack_cuts(blocks, f"{name}.layer_norm", steps, {name: "LayerDrop and dropout are on"}, stubs)


ENCODERS: dict[str, type[SpeechEncoder]] = {
    "SpeechEncoderDecoderModel": WaveformEncoder,
    "Speech2TextForConditionalGeneration": FilterBankEncoder,
    "MoonshineForConditionalGeneration": MoonshineEncoder,
}
