"""Wav2Letter (Collobert et al. 2016): torchaudio's network, and the same architecture with configurable widths."""

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapt.data.audio import AudioReader
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from adapt.files import user_path
from adapt.models.checkpoint import has_header, load_model
from adapt.models.ctc import Emissions, ctc_rejection_reason
from adapt.models.cut import CachedOutput, Cut, Stub
from adapt.models.frontend import HOP, Features, Frontend
from adapt.models.labels import ENGLISH, Labels
from adapt.models.loaded import Loaded
from adapt.models.masked_layers import pads
from adapt.models.model import CTCModel, InputKind
from adapt.models.model_files import read_safetensors
from adapt.models.recipe import WAV2LETTER
from adapt.models.state import load_weights, model_fingerprint
from adapt.models.steps import Window, step_after, steps_after, window
from adapt.models.task import recognition
from interventions.sites import Layer, Site, find_sites

Normalisation = Literal["batch", "layer", "none"]


@dataclass(frozen=True)
class Wav2LetterShape:
    """The shape of a Wav2Letter.

    Args:
        features: The input features.
        n_features: The number of features per frame.
        inner: The number of units in layers 0-7. For torchaudio's network, this and `big` are None.
        big: The number of units in layers 8-9.
        normalisation: The normalisation after each convolution; torchaudio's network has none.
    """

    features: Features = "log_mel"
    n_features: int = 40
    inner: int | None = None
    big: int | None = None
    normalisation: Normalisation = "none"


class Wav2LetterCTC(CTCModel):
    """A Wav2Letter with its front end and its alphabet. It maps waveforms to log-probabilities of characters.

    Frames after an utterance's end are set to zero before each convolution, so padding never changes a result.
    Checkpoints hold the `state_dict` of `net` only.

    Args:
        shape: The shape of the network.
        labels: The alphabet.

    Raises:
        InputError: the architecture does not support the shape.
    """

    task = recognition
    recipe = WAV2LETTER

    def __init__(self, shape: Wav2LetterShape, labels: Labels) -> None:
        super().__init__()
        if (shape.inner is None) != (shape.big is None):
            raise InputError(f"Give both inner and big, or neither (for torchaudio's network); got {shape}.")
        self.shape, self._labels = shape, labels
        self.frontend = Frontend(shape.features, shape.n_features)
        self.sample_rate = self.frontend.sample_rate
        self.reader = AudioReader(self.sample_rate)
        self.augment: nn.Module = nn.Identity()
        if shape.inner is None:
            from torchaudio.models import Wav2Letter

            input_type = "waveform" if shape.features == "waveform" else "mfcc"
            self.net: nn.Module = Wav2Letter(len(labels), input_type, shape.n_features)
        else:
            self.net = ScaledWav2Letter(len(labels), shape)

    @property
    def labels(self) -> Labels:
        return self._labels

    def forward(self, audio: Tensor, lengths: Tensor) -> Emissions:
        x, steps = self.frontend(audio, lengths)
        if self.training:
            x = self.augment(x)
        for _, module in self._chain():
            if (conv := _convolution(module)) is not None:
                x = _masked(x, steps)
                steps = window(conv).steps(steps)
            x = module(x)
        return Emissions(torch.log_softmax(x.float(), dim=1).transpose(1, 2), steps)

    def output_length(self, samples: int) -> int:
        """Return the number of output steps for an utterance of `samples` samples; 0 if it is too short."""
        steps = samples if self.shape.features == "waveform" else samples // HOP + 1
        for one in self._convolutions:
            steps = one.steps(steps)
            if steps < 1:  # a later layer with much padding would hide this
                return 0
        return steps

    @cached_property
    def _convolutions(self) -> tuple[Window, ...]:
        # Training changes the weights of convolutions, or adds factors, but never the steps of their windows.
        modules = (_convolution(module) for _, module in self._chain())
        return tuple(window(conv) for conv in modules if conv is not None)

    def rejection_reason(self, example: Utterance, length: int, training: bool) -> str | None:
        steps, seconds = self.output_length(length), length / self.sample_rate
        if steps < 1:
            return f"lasts {seconds:.3f} s, shorter than the {2 * HOP / self.sample_rate:.3f} s that the network needs."
        if not training:
            return None
        remedy = "Change the transcript, or add the characters with alphabet=extend."
        return ctc_rejection_reason(self, example, steps, seconds, "".join(self.labels.characters), remedy)

    @property
    def blank(self) -> int:
        return self.labels.blank

    @property
    def input_module(self) -> tuple[nn.Module, InputKind]:
        return self.frontend, "output"

    def band_frequencies(self, bands: int) -> tuple[float, ...] | None:
        if self.frontend.features != "log_mel":
            return None
        highest = 2595 * torch.log10(torch.tensor(1 + self.sample_rate / 2 / 700))  # HTK's mel scale, as in torchaudio
        mels = torch.linspace(0, float(highest), bands + 2)[1:-1]
        return tuple((700 * (10 ** (mels / 2595) - 1)).tolist())

    def missing(self, text: str) -> list[str]:
        return self.labels.missing(text)

    def encode(self, text: str) -> list[int]:
        return self.labels.encode(text)

    def decode(self, path: Sequence[int]) -> str:
        return self.labels.decode(path)

    def set_augment(self, augment: nn.Module) -> None:
        self.augment = augment

    @property
    def layers(self) -> list[Layer]:
        """The 11 layers (12 for waveforms) from input to output: each convolution with the modules after it."""
        layers: list[tuple[str, list[str]]] = []
        for name, module in self._chain():
            if _convolution(module) is not None:
                layers.append((name, []))
            layers[-1][1].extend(f"{name}.{inner}".rstrip(".") for inner, _ in module.named_modules())
        return [Layer(name, tuple(modules)) for name, modules in layers]

    @property
    def sites(self) -> list[Site]:
        """The convolutions. The ReLU after each overwrites the output in place, so a hook must clone it."""
        return [
            replace(site, part="encoder", step=step_after(self._windows(site.name), self.sample_rate))
            for site in find_sites(self)
        ]

    def valid_lengths(self, site: Site, lengths: Tensor, tokens: Tensor | None = None) -> Tensor:
        return steps_after(self._windows(site.name), lengths)

    def _windows(self, name: str) -> list[Window]:
        """Return the sliding windows from waveform to site: spectrogram (padded by half a window), convolutions."""
        windows = [] if self.shape.features == "waveform" else [Window(reach=0, stride=HOP)]
        for place, module in self._chain():
            if (conv := _convolution(module)) is not None:
                windows.append(window(conv))
            if name == place or name.startswith(f"{place}."):
                break
        return windows

    @property
    def cuts(self) -> list[Cut]:
        """One cut after each layer except the last."""
        random = (
            {} if isinstance(self.augment, nn.Identity) else {"augment": "augmentation hides parts of the features"}
        )
        stubs: dict[str, Stub] = {"frontend": lambda audio, lengths: (audio.unsqueeze(1), self.frontend.steps(lengths))}
        cuts = []
        for layer in self.layers[:-1]:
            *inner, end = layer.modules
            stubs |= dict.fromkeys(inner, "same")
            steps = partial(self._valid_steps, self._windows(layer.name))
            cuts.append(Cut(layer.name, (CachedOutput(end, steps, dict(stubs), axis=2),), random))
            stubs[end] = "same"
        return cuts

    @staticmethod
    def _valid_steps(windows: list[Window], lengths: Tensor, _: Tensor) -> Tensor:
        return steps_after(windows, lengths)

    def dummy(self, length: int, tokens: int) -> tuple[Tensor, ...]:
        device = next(self.parameters()).device
        return torch.zeros(1, length, device=device), torch.tensor([length], device=device)

    @property
    def head(self) -> str:
        return self.layers[-1].name

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return self.labels.characters

    @property
    def never_trained(self) -> frozenset[str]:
        return frozenset()

    def with_labels(self, labels: Labels) -> "Wav2LetterCTC":
        """Return a copy with an output layer for another alphabet (Kunze et al. 2017, section 3).

        The rows of characters that are in both alphabets are copied. The rows of new characters start with small random
        weights and the mean bias.
        """
        adapted = Wav2LetterCTC(self.shape, labels)
        state, fresh = copy.deepcopy(self.net.state_dict()), adapted.net.state_dict()
        old_units = {character: unit for unit, character in enumerate(self.labels.characters)}
        pairs = [(new, old_units[c]) for new, c in enumerate(labels.characters) if c in old_units]
        rows, old_rows = (list(side) for side in zip(*pairs, strict=True))
        prefix = self.head.removeprefix("net.")
        old_weight, old_bias = state[f"{prefix}.weight"], state[f"{prefix}.bias"]
        weight = torch.randn_like(fresh[f"{prefix}.weight"]) * old_weight.std() * 0.1
        bias = torch.full_like(fresh[f"{prefix}.bias"], float(old_bias.mean()))
        weight[rows], bias[rows] = old_weight[old_rows], old_bias[old_rows]
        adapted.net.load_state_dict(state | {f"{prefix}.weight": weight, f"{prefix}.bias": bias})
        return adapted

    def header(self) -> dict[str, Any]:
        return {
            "family": "wav2letter",
            "shape": asdict(self.shape),
            "labels": list(self.labels.characters),
            "blank": self.labels.blank,
        }

    def with_header(self, header: Mapping[str, Any]) -> "Wav2LetterCTC":
        return from_header(header)

    def save_files(self, folder: Path) -> None:
        pass

    def _chain(self) -> list[tuple[str, nn.Module]]:
        """Return the modules in the order in which they run; running them one by one allows masking in between.

        The network is a sequence of modules, nested once in torchaudio's variant for waveforms.
        """
        return list(_links("net.acoustic_model", self.net.get_submodule("acoustic_model")))


def _links(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, nn.Sequential):
        for child, inner in module.named_children():
            yield from _links(f"{name}.{child}", inner)
    else:
        yield name, module


def _convolution(module: nn.Module) -> nn.Conv1d | None:
    # A module with factors is wrapped by peft.
    inner = getattr(module, "base_layer", module)
    return inner if isinstance(inner, nn.Conv1d) else None


def from_header(header: Mapping[str, Any]) -> Wav2LetterCTC:
    """Build the network that a header describes, with random weights. Raises InputError if the header is invalid."""
    try:
        labels = Labels(tuple(header["labels"]), int(header["blank"]))
        return Wav2LetterCTC(Wav2LetterShape(**header["shape"]), labels)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The header does not describe a Wav2Letter ({type(error).__name__}: {error}).") from None


def wav2letter(
    pretrained: str | None = None,
    base: str | None = None,
    labels: str | None = None,
    features: Features | None = None,
    n_features: int | None = None,
) -> Loaded:
    """Build torchaudio's Wav2Letter (23 M weights), pretrained or new.

    Args:
        pretrained: A run's folder, a .safetensors file, or the name of an embedded model; None for a new model.
        base: The base of an adaptation; needed if the base was moved.
        labels: The characters in the order of the output units, without the blank before them. None for those of the
            checkpoint, or English letters for a new model.
        features: None for those of the checkpoint, or "log_mel" for a new model.
        n_features: None for the number of the checkpoint, or 40 for a new model.

    Raises:
        InputError: the checkpoint has another shape or other labels.
    """
    return _wav2letter(pretrained, base, labels, features=features, n_features=n_features, inner=None, big=None)


def wav2letter_small(
    pretrained: str | None = None,
    base: str | None = None,
    labels: str | None = None,
    features: Features | None = None,
    n_features: int | None = None,
    inner: int | None = None,
    big: int | None = None,
    normalisation: Normalisation | None = None,
) -> Loaded:
    """Build a Wav2Letter with configurable widths, pretrained or new.

    An argument that is None is taken from the checkpoint. A new model has 1.5 M weights by default.

    Args:
        pretrained: See `wav2letter`.
        base: See `wav2letter`.
        labels: See `wav2letter`.
        features: See `wav2letter`; "waveform" is not supported.
        n_features: See `wav2letter`.
        inner: The number of units in layers 0-7; 96 for a new model.
        big: The number of units in layers 8-9; 256 for a new model.
        normalisation: "batch", "layer" or "none"; "batch" for a new model.

    Raises:
        InputError: the checkpoint has another shape or other labels.
    """
    widths = {"inner": inner, "big": big, "normalisation": normalisation}
    defaults = {"inner": 96, "big": 256, "normalisation": "batch"}
    return _wav2letter(pretrained, base, labels, defaults, features=features, n_features=n_features, **widths)


def _wav2letter(
    pretrained: str | None, base: str | None, labels: str | None, defaults: dict[str, Any] | None = None, **asked: Any
) -> Loaded:
    """Build a Wav2Letter. `defaults` are the options of a new model with configurable widths; None for torchaudio's."""
    options = {name: value for name, value in asked.items() if value is not None}
    expected = "wav2letter" if defaults is None else "wav2letter_small"
    if pretrained is None and options.get("features") == "waveform":
        options.setdefault("n_features", 1)
    if pretrained is None:
        alphabet = Labels.of(ENGLISH if labels is None else labels)
        model = Wav2LetterCTC(Wav2LetterShape(**{**(defaults or {}), **options}), alphabet)
        return Loaded(model, "new", model_fingerprint(model))
    if labels is not None and not has_header(pretrained):
        # A plain state dict, as saved with torchaudio's model, has no header: the arguments describe the network.
        model = Wav2LetterCTC(Wav2LetterShape(**{**(defaults or {}), **options}), Labels.of(labels))
        path = user_path(pretrained)
        load_weights(model, read_safetensors(path)[1], path)
        return Loaded(model, str(path.absolute()), model_fingerprint(model), model.header())
    loaded = load_model(pretrained, base)
    _check_checkpoint(loaded, pretrained, expected, options, labels)
    return loaded


def _check_checkpoint(
    loaded: Loaded, pretrained: str, expected: str, options: Mapping[str, Any], labels: str | None
) -> None:
    """Raise InputError if a checkpoint is not of the expected family, or has another shape or other labels."""
    model = loaded.model
    if not isinstance(model, Wav2LetterCTC):
        raise InputError(f"'{pretrained}' is not a {expected}; try model={loaded.header['family']}.")
    family = "wav2letter" if model.shape.inner is None else "wav2letter_small"
    if family != expected:
        raise InputError(f"'{pretrained}' is not a {expected}; try model={family}.")
    for name, value in options.items():
        actual = getattr(model.shape, name)
        if actual != value:
            raise InputError(f"'{pretrained}' has {name}={actual}, got {name}={value}. Leave {name} out.")
    if labels is not None and Labels.of(labels) != model.labels:
        raise InputError(
            f"'{pretrained}' has the labels '{''.join(model.labels.characters)}', got labels={labels!r}. Leave labels "
            "out; to give a model another alphabet, use alphabet=..."
        )


class ScaledWav2Letter(nn.Module):
    """torchaudio's Wav2Letter with `inner` units in layers 0-7, `big` units in layers 8-9, and normalised activations.

    Without normalisation, a small network learns to output blanks only. Unlike torchaudio's, this network has no ReLU
    after the logits.
    """

    def __init__(self, n_labels: int, shape: Wav2LetterShape) -> None:
        super().__init__()
        inner, big = shape.inner, shape.big
        if not isinstance(inner, int) or not isinstance(big, int) or inner < 1 or big < 1:
            raise InputError(f"inner and big must be whole numbers of at least 1, got {shape}.")
        if shape.features == "waveform":
            raise InputError(f"wav2letter_small needs log_mel or mfcc features, got {shape}.")
        # units in, units out, kernel, stride, padding; as in torchaudio/models/wav2letter.py
        plan = [(shape.n_features, inner, 48, 2, 23), *[(inner, inner, 7, 1, 3)] * 7]
        plan += [(inner, big, 32, 1, 16), (big, big, 1, 1, 0), (big, n_labels, 1, 1, 0)]
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (units_in, units, kernel, stride, padding) in enumerate(plan):
            conv = nn.Conv1d(units_in, units, kernel, stride, padding)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            if conv.bias is not None:
                nn.init.zeros_(conv.bias)
            modules[f"conv{number}"] = conv
            if number < len(plan) - 1:
                modules[f"norm{number}"] = _normalisation(shape.normalisation, units)
                modules[f"relu{number}"] = nn.ReLU(inplace=True)
        self.acoustic_model = nn.Sequential(modules)

    def forward(self, x: Tensor) -> Tensor:
        """Map features `(batch, features, time)` to log-probabilities `(batch, labels, time)`, as torchaudio's does."""
        return torch.log_softmax(self.acoustic_model(x), dim=1)


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the units of each time step of `(batch, units, time)`, which padding does not affect."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.transpose(1, 2)).transpose(1, 2)


def _normalisation(kind: Normalisation, units: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm1d(units)
    if kind == "layer":
        return _ChannelNorm(units)
    if kind == "none":
        return nn.Identity()
    raise InputError(f"normalisation must be batch, layer or none, got {kind!r}.")


def _masked(x: Tensor, steps: Tensor) -> Tensor:
    if not pads(steps, x):
        return x
    return x * (torch.arange(x.shape[-1], device=x.device) < steps.unsqueeze(1)).unsqueeze(1)
