"""The encoders of transformers' speech encoder-decoders: what each reads of a waveform, and how padding stays out.

A padded batch goes through each of them at once and gives what every utterance gives alone. Where a network's own
layers would see padding, layers that do not (`adapt/models/masked_layers.py`) take their place, with their parameters.
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
from adapt.models.hf_ctc import (
    BATCHED,
    NO_SITES,
    adapter_layers,
    normalised,
    own_frames_adapter,
    own_frames_norms,
    waveform_cuts,
)
from adapt.models.masked_layers import MaskedConv1d, MaskedGroupNorm
from adapt.models.steps import Window, steps_behind, window
from interventions.sites import length_mask


class SpeechEncoder(ABC):
    """How the encoder of a wrapped network hears. The network keeps its modules; names are as the wrapper's `net.`

    `prefix` is the encoder's name, `stack` that of the module which runs its transformer layers. `no_sites` are globs
    of linear maps that are never called.
    """

    prefix: str
    stack: str
    no_sites: tuple[str, ...] = ()

    @abstractmethod
    def inputs(self, audio: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """What the network's `forward` and `generate` read.

        Args: audio `(batch, samples)` in -1..1, zero past each end; lengths `(batch,)` in samples.
        """

    @abstractmethod
    def windows(self, name: str = "") -> list[Window]:
        """What slides over time up to one of the encoder's modules; up to what it puts out for any other name."""

    @abstractmethod
    def layers(self, model: nn.Module) -> dict[str, list[str]]:
        """All modules with parameters, by the name of their layer, from input to output."""

    @abstractmethod
    def cuts(self) -> list[Cut]:
        """Where what its lower layers put out can be stored and replayed (`adapt/models/cut.py`)."""

    @property
    def never_trained(self) -> frozenset[str]:
        """Parameters that no step would change."""
        return frozenset()

    @contextmanager
    def hearing(self, lengths: Tensor) -> Iterator[None]:
        """Hold for a forward pass over utterances of these lengths."""
        yield

    def rest(self) -> None:  # noqa: B027 (most have nothing to do)
        """Switch off what must not be on while training; called in train mode."""


class WaveformEncoder(SpeechEncoder):
    """wav2vec2, HuBERT, WavLM and UniSpeech in a SpeechEncoderDecoderModel. Raises InputError for any other.

    SpecAugment (on hidden states) is on while training as the encoder's own config says. The LayerDrop of an adapter is
    not: a convolution that is left out leaves twice the steps, and transformers' masks would hide the second half.
    """

    prefix, stack = "net.encoder", "net.encoder.encoder"

    def __init__(self, net: nn.Module, extractor: Any) -> None:
        kind = net.encoder.config.model_type
        if kind not in BATCHED or not hasattr(extractor, "do_normalize"):
            raise InputError(
                f"A {type(net).__name__} with a {type(net.encoder).__name__} and a {type(extractor).__name__}: "
                f"expected an encoder that reads waveforms ({', '.join(BATCHED)}) with a Wav2Vec2FeatureExtractor. "
                "Others let padding change results."
            )
        self.body, self.normalises = net.encoder, extractor.do_normalize
        self.no_sites = tuple(f"net.encoder.{pattern}" for pattern in NO_SITES.get(kind, ()))
        self.norms = own_frames_norms(self.body.feature_extractor)
        self.adapter = own_frames_adapter(self.body)

    def inputs(self, audio: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        for norm in self.norms:
            norm.set_lengths(lengths)
        behind, audio = self._convolutions, hf.heard(audio, lengths)
        for number, conv in enumerate(self.adapter):
            conv.set_lengths(steps_behind([*behind, *map(window, self.adapter[:number])], lengths))
        x = normalised(audio, lengths) if self.normalises else audio
        return {"inputs": x, "attention_mask": length_mask(lengths, x.shape[1]).long()}

    @contextmanager
    def hearing(self, lengths: Tensor) -> Iterator[None]:
        body, masking = self.body, self.body.training
        # Audio shorter than one masked span would be an error of the network's.
        longest = int(steps_behind(self._convolutions, lengths).max())
        body.training = masking and longest >= body.config.mask_time_length
        try:
            yield
        finally:
            body.training = masking

    @property
    def _convolutions(self) -> list[Window]:
        return [window(layer.conv) for layer in self.body.feature_extractor.conv_layers]

    def windows(self, name: str = "") -> list[Window]:
        place, shrinking = name.removeprefix("net.encoder."), [window(conv) for conv in self.adapter]
        if place.startswith("feature_extractor.conv_layers."):
            return self._convolutions[: int(place.split(".")[2]) + 1]
        if place.startswith("encoder.pos_conv_embed."):
            # One with an even kernel puts out a step more, which the network drops behind it.
            return [*self._convolutions, window(self.body.encoder.pos_conv_embed.conv)]
        if place.startswith("adapter.layers."):
            return [*self._convolutions, *shrinking[: int(place.split(".")[2]) + 1]]
        return self._convolutions if name.startswith("net.encoder.") else [*self._convolutions, *shrinking]

    def layers(self, model: nn.Module) -> dict[str, list[str]]:
        body, encoder = self.prefix, self.stack
        groups = {
            name: hf.below(model, name)
            for name in [f"{body}.feature_extractor.conv_layers.{n}" for n in range(len(self._convolutions))]
        }
        # The embedding to mask with is the body's own.
        groups[f"{body}.feature_projection"] = [body, *hf.below(model, f"{body}.feature_projection")]
        groups[f"{encoder}.pos_conv_embed"] = hf.below(model, f"{encoder}.pos_conv_embed", f"{encoder}.dropout")
        blocks = [f"{encoder}.layers.{n}" for n in range(len(self.body.encoder.layers))]
        groups |= {name: hf.below(model, name) for name in blocks}
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

    def rest(self) -> None:
        # Else it asks for the gradient of the waveform, and so pays for that of all its convolutions.
        self.body.feature_extractor._requires_grad = False
        if self.adapter:
            self.body.adapter.training = False


class FilterBankEncoder(SpeechEncoder):
    """Speech2Text: Kaldi's filter banks, and convolutions with padding. Raises InputError for another extractor."""

    prefix = stack = "net.model.encoder"

    def __init__(self, net: nn.Module, extractor: Any) -> None:
        if not hasattr(extractor, "do_ceptral_normalize"):
            raise InputError(f"A {type(net).__name__} reads what a Speech2TextFeatureExtractor makes, got {extractor}.")
        self.body, self.extractor = net.model.encoder, extractor
        convolutions = self.body.conv.conv_layers
        for number, conv in enumerate(convolutions):
            convolutions[number] = MaskedConv1d(conv)
        rate = extractor.sampling_rate
        self.frames = Window(int(rate * 25.0 * 0.001), int(rate * 10.0 * 0.001))  # as torchaudio rounds

    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)  # it is where the features are made, and in 16 bits they would be rough
    def inputs(self, audio: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        features = self._features(audio, lengths) if audio.shape[1] else self._blank(lengths)
        for number, conv in enumerate(self.body.conv.conv_layers):
            conv.set_lengths(steps_behind(self._slide(number), lengths))
        return {
            "input_features": features,
            "attention_mask": length_mask(self.frames.steps(lengths), features.shape[1]).long(),
        }

    def _features(self, audio: Tensor, lengths: Tensor) -> Tensor:
        waveforms = [samples[:length].float().cpu().numpy() for samples, length in zip(audio, lengths, strict=True)]
        with np.errstate(divide="ignore", invalid="ignore"):  # of a band that stays the same, as in digital silence
            found = self.extractor(
                waveforms, sampling_rate=self.extractor.sampling_rate, padding=True, return_tensors="pt"
            )
        return found["input_features"].nan_to_num(0.0, 0.0, 0.0).to(audio.device)

    def _blank(self, lengths: Tensor) -> Tensor:
        frames = int(self.frames.steps(lengths).max())
        return torch.zeros(len(lengths), frames, self.extractor.num_mel_bins, device=lengths.device)

    def _slide(self, convolutions: int) -> list[Window]:
        return [self.frames, *map(window, self.body.conv.conv_layers[:convolutions])]

    def windows(self, name: str = "") -> list[Window]:
        prefix = f"{self.prefix}.conv.conv_layers."
        if name.startswith(prefix):
            return self._slide(int(name.removeprefix(prefix)) + 1)
        return self._slide(len(self.body.conv.conv_layers))

    def cuts(self) -> list[Cut]:
        return _cuts(self, {f"{self.prefix}.conv": 1})

    def layers(self, model: nn.Module) -> dict[str, list[str]]:
        names = [f"{self.prefix}.conv.conv_layers.{n}" for n in range(len(self.body.conv.conv_layers))]
        blocks = [f"{self.prefix}.layers.{n}" for n in range(len(self.body.layers))]
        groups = {name: hf.below(model, name) for name in [*names, *blocks]}
        groups[blocks[-1]].append(f"{self.prefix}.layer_norm")
        return groups


class MoonshineEncoder(SpeechEncoder):
    """Moonshine: waveforms, three convolutions without padding, and a group norm. Raises InputError for another
    extractor.
    """

    prefix = stack = "net.model.encoder"

    def __init__(self, net: nn.Module, extractor: Any) -> None:
        if not hasattr(extractor, "do_normalize"):
            raise InputError(f"A {type(net).__name__} reads what a Wav2Vec2FeatureExtractor makes, got {extractor}.")
        self.body, self.normalises = net.model.encoder, extractor.do_normalize
        self.body.groupnorm = self.norm = MaskedGroupNorm(self.body.groupnorm, self.body.conv1)

    def inputs(self, audio: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        self.norm.set_lengths(lengths)
        audio = hf.heard(audio, lengths)
        x = normalised(audio, lengths) if self.normalises else audio
        # The network looks at every 384th sample of a mask, and takes it for a step's, also where that step hears
        # samples past an utterance's end.
        steps, stride = steps_behind(self.windows(), lengths), 1
        for one in self.windows():
            stride *= one.stride
        return {"input_values": x, "attention_mask": length_mask(steps * stride, x.shape[1]).long()}

    def windows(self, name: str = "") -> list[Window]:
        slides = [window(conv) for conv in (self.body.conv1, self.body.conv2, self.body.conv3)]
        own = [f"{self.prefix}.conv{number}" for number in (1, 2, 3)]
        return slides[: own.index(name) + 1] if name in own else slides

    def cuts(self) -> list[Cut]:
        name = self.prefix
        return _cuts(self, {f"{name}.conv1": 2, f"{name}.groupnorm": "same", f"{name}.conv2": 2, f"{name}.conv3": 2})

    def layers(self, model: nn.Module) -> dict[str, list[str]]:
        groups = {f"{self.prefix}.conv{number}": [f"{self.prefix}.conv{number}"] for number in (1, 2, 3)}
        groups[f"{self.prefix}.conv1"].append(f"{self.prefix}.groupnorm")
        blocks = [f"{self.prefix}.layers.{n}" for n in range(len(self.body.layers))]
        groups |= {name: hf.below(model, name) for name in blocks}
        groups[blocks[-1]].append(f"{self.prefix}.layer_norm")
        return groups


def _cuts(encoder: FilterBankEncoder | MoonshineEncoder, stubs: dict[str, Stub]) -> list[Cut]:
    def steps(lengths: Tensor, _: Tensor) -> Tensor:
        return steps_behind(encoder.windows(), lengths)

    name = encoder.prefix
    blocks = [f"{name}.layers.{number}" for number in range(len(encoder.body.layers))]
    return stack_cuts(blocks, f"{name}.layer_norm", steps, {name: "LayerDrop and dropout are on"}, stubs)


ENCODERS: dict[str, type[SpeechEncoder]] = {
    "SpeechEncoderDecoderModel": WaveformEncoder,
    "Speech2TextForConditionalGeneration": FilterBankEncoder,
    "MoonshineForConditionalGeneration": MoonshineEncoder,
}
