"""Wav2Letter (Collobert et al. 2016): torchaudio's own, and the same architecture with its widths as parameters."""

import copy
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapt.data.audio import AudioReader
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from adapt.models.checkpoint import has_header, load_model, load_weights, model_fingerprint, read_safetensors
from adapt.models.ctc import Emissions, ctc_unfit
from adapt.models.cut import CachedOutput, Cut, Stub
from adapt.models.frontend import HOP, Features, Frontend
from adapt.models.labels import ENGLISH, Labels
from adapt.models.loaded import Loaded
from adapt.models.model import CTCModel, InputKind
from adapt.models.steps import Window, step_behind, steps_behind, window
from adapt.models.task import recognition
from interventions.sites import Layer, Site, find_sites

Normalisation = Literal["batch", "layer", "none"]


@dataclass(frozen=True)
class Wav2LetterShape:
    """What must be known to build the network again. `inner` and `big` count units; both None: torchaudio's own."""

    features: Features = "log_mel"
    n_features: int = 40
    inner: int | None = None
    big: int | None = None
    normalisation: Normalisation = "none"


class Wav2LetterCTC(CTCModel):
    """A Wav2Letter with its front end and its alphabet: from waveforms to log-probabilities of characters.

    `net` is the network itself, and its `state_dict` is all that a checkpoint holds. Frames past an utterance's end are
    set to zero before each convolution, as if nothing followed, so that padding never changes a result.

    Raises:
        InputError: a width, a feature or a normalisation that the architecture has not.
    """

    task = recognition

    def __init__(self, shape: Wav2LetterShape, labels: Labels) -> None:
        super().__init__()
        if (shape.inner is None) != (shape.big is None):
            raise InputError(f"Give both widths, inner and big, or neither (torchaudio's network); got {shape}.")
        self.shape, self.labels = shape, labels
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

    def forward(self, audio: Tensor, lengths: Tensor) -> Emissions:
        """Args: audio `(batch, samples)` in -1..1 at `sample_rate` Hz, zero past each end; lengths `(batch,)`."""
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
        """The number of output steps for an utterance of that many samples; 0 where it is too short for the network."""
        steps = torch.tensor(samples if self.shape.features == "waveform" else samples // HOP + 1)
        for _, module in self._chain():
            if (conv := _convolution(module)) is not None:
                steps = window(conv).steps(steps)
                if steps < 1:  # a later layer that pads more than it takes would hide it
                    return 0
        return int(steps)

    def rejection_reason(self, example: Utterance, length: int, training: bool) -> str | None:
        steps, seconds = self.output_length(length), length / self.sample_rate
        if steps < 1:
            return f"lasts {seconds:.3f} s, shorter than the {2 * HOP / self.sample_rate:.3f} s that the network needs."
        if not training:
            return None
        remedy = "Respell it, or add these characters by alphabet=extend."
        return ctc_unfit(self, example.text, steps, seconds, "".join(self.labels.characters), remedy)

    @property
    def blank(self) -> int:  # type: ignore[override]
        """The output unit that writes nothing."""
        return self.labels.blank

    @property
    def input_module(self) -> tuple[nn.Module, InputKind]:
        return self.frontend, "output"

    def band_frequencies(self, bands: int) -> tuple[float, ...] | None:
        if self.frontend.features != "log_mel":
            return None
        highest = 2595 * torch.log10(torch.tensor(1 + self.sample_rate / 2 / 700))  # HTK's scale, as torchaudio has it
        mels = torch.linspace(0, float(highest), bands + 2)[1:-1]
        return tuple((700 * (10 ** (mels / 2595) - 1)).tolist())

    def missing(self, text: str) -> list[str]:
        """The characters of a text that the alphabet lacks."""
        return self.labels.missing(text)

    def encode(self, text: str) -> list[int]:
        """The output unit of each character. Raises InputError for one outside the alphabet."""
        return self.labels.encode(text)

    def decode(self, path: Sequence[int]) -> str:
        """The text of a path of one output unit a time step."""
        return self.labels.decode(path)

    def set_augment(self, augment: nn.Module) -> None:
        self.augment = augment

    @property
    def layers(self) -> list[Layer]:
        """The 11 layers (12 on a waveform) from input to output, each a convolution with what follows it."""
        layers: list[tuple[str, list[str]]] = []
        for name, module in self._chain():
            if _convolution(module) is not None:
                layers.append((name, []))
            layers[-1][1].extend(f"{name}.{inner}".rstrip(".") for inner, _ in module.named_modules())
        return [Layer(name, tuple(modules)) for name, modules in layers]

    @property
    def sites(self) -> list[Site]:
        """The convolutions, before the ReLU behind them (which overwrites what a hook was given: clone it)."""
        return [
            replace(site, part="encoder", step=step_behind(self._windows(site.name), self.sample_rate))
            for site in find_sites(self)
        ]

    def valid_lengths(self, site: Site, lengths: Tensor, tokens: Tensor | None = None) -> Tensor:
        return steps_behind(self._windows(site.name), lengths)

    def _windows(self, name: str) -> list[Window]:
        # What slides over time up to a site: the spectrogram, which pads by half of its window, and the convolutions.
        windows = [] if self.shape.features == "waveform" else [Window(reach=0, stride=HOP)]
        for place, module in self._chain():
            if (conv := _convolution(module)) is not None:
                windows.append(window(conv))
            if name == place or name.startswith(f"{place}."):
                break
        return windows

    @property
    def cuts(self) -> list[Cut]:
        """Behind each layer but the last."""
        random = {} if isinstance(self.augment, nn.Identity) else {"augment": "augment= hides parts of the features"}
        stubs: dict[str, Stub] = {"frontend": lambda audio, lengths: (audio.unsqueeze(1), self.frontend.steps(lengths))}
        cuts = []
        for layer in self.layers[:-1]:
            *inner, end = layer.modules
            stubs |= dict.fromkeys(inner, "same")
            steps = partial(self._steps_behind, self._windows(layer.name))
            cuts.append(Cut(layer.name, (CachedOutput(end, steps, dict(stubs), axis=2),), random))
            stubs[end] = "same"
        return cuts

    @staticmethod
    def _steps_behind(windows: list[Window], lengths: Tensor, _: Tensor) -> Tensor:
        return steps_behind(windows, lengths)

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
        """Return a copy that writes with another alphabet (Kunze et al. 2017, section 3).

        The output layer is rebuilt: the row of a character that both alphabets have is copied, found by the character
        and not by its place; the row of a new one starts small and random, with the mean bias.
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
        # The network is a plain chain, nested once in torchaudio's waveform variant; running its links one by one
        # lets us mask between them and leaves every module's own hooks in force.
        return list(_links("net.acoustic_model", self.net.acoustic_model))


def _links(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, nn.Sequential):
        for child, inner in module.named_children():
            yield from _links(f"{name}.{child}", inner)
    else:
        yield name, module


def _convolution(module: nn.Module) -> nn.Conv1d | None:
    # peft wraps a module that gets factors.
    inside = getattr(module, "base_layer", module)
    return inside if isinstance(inside, nn.Conv1d) else None


def from_header(header: Mapping[str, Any]) -> Wav2LetterCTC:
    """Build the network that a checkpoint's header describes, with fresh weights. Raises InputError."""
    try:
        labels = Labels(tuple(header["labels"]), int(header["blank"]))
        return Wav2LetterCTC(Wav2LetterShape(**header["shape"]), labels)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"The checkpoint's header does not describe a Wav2Letter: {error}.") from None


def wav2letter(
    pretrained: str | None = None,
    base: str | None = None,
    labels: str | None = None,
    features: Features | None = None,
    n_features: int | None = None,
) -> Loaded:
    """torchaudio's own Wav2Letter (23 M weights), new or from a checkpoint.

    An argument left at None is as in the checkpoint; for a new model: 40 `log_mel` features, the English letters.
    `labels` are the characters in the order of the output units, the blank before them not counted.

    Raises:
        InputError: the checkpoint is of another shape or has other labels than were asked for.
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
    """The same architecture with `inner` units in layers 0-7, `big` in 8-9 (new: 96, 256, batch norm: 1.5 M weights).

    An argument left at None is taken from the checkpoint. Raises InputError as `wav2letter` does.
    """
    asked = {"inner": inner, "big": big, "normalisation": normalisation}
    new = {"inner": 96, "big": 256, "normalisation": "batch"}
    return _wav2letter(pretrained, base, labels, new, features=features, n_features=n_features, **asked)


def _wav2letter(
    pretrained: str | None, base: str | None, labels: str | None, new: dict[str, Any] | None = None, **asked: Any
) -> Loaded:
    given = {name: value for name, value in asked.items() if value is not None}
    small = new is not None
    if pretrained is None and given.get("features") == "waveform":
        given.setdefault("n_features", 1)
    if pretrained is None:
        alphabet = Labels.of(ENGLISH if labels is None else labels)
        model = Wav2LetterCTC(Wav2LetterShape(**({} if new is None else new) | given), alphabet)
        return Loaded(model, "new", model_fingerprint(model))
    if labels is not None and not has_header(pretrained):
        # Bare weights, such as torchaudio's users have: what they belong to is as the user says.
        model = Wav2LetterCTC(Wav2LetterShape(**({} if new is None else new) | given), Labels.of(labels))
        path = Path(pretrained).expanduser()
        load_weights(model, read_safetensors(path)[1], path)
        return Loaded(model, str(path.absolute()), model_fingerprint(model), model.header())
    loaded = load_model(pretrained, base)
    model = loaded.model
    family, wanted = loaded.header["family"], "wav2letter_small" if small else "wav2letter"
    if isinstance(model, Wav2LetterCTC):
        family = "wav2letter" if model.shape.inner is None else "wav2letter_small"
    if family != wanted:
        raise InputError(f"'{pretrained}' is not a {wanted}; try model={family}.")
    for name, value in given.items():
        if getattr(model.shape, name) != value:
            raise InputError(
                f"'{pretrained}' was made with {name}={getattr(model.shape, name)}, and model.{name}={value} was asked "
                f"for. Leave model.{name} out to take the checkpoint's."
            )
    if labels is not None and Labels.of(labels) != model.labels:
        raise InputError(
            f"model.labels={labels!r} does not match '{pretrained}', which writes "
            f"'{''.join(model.labels.characters)}'. Leave it out; to give a model another alphabet use alphabet=..."
        )
    return loaded


class ScaledWav2Letter(nn.Module):
    """torchaudio's Wav2Letter with `inner` units in layers 0-7 and `big` in 8-9, and normalised activations.

    Without normalisation a small one stays at all-blank output. The logits have no ReLU behind them, torchaudio's have.
    """

    def __init__(self, n_labels: int, shape: Wav2LetterShape) -> None:
        super().__init__()
        inner, big = shape.inner, shape.big
        if (
            not (isinstance(inner, int) and isinstance(big, int) and inner > 0 and big > 0)
            or shape.features == "waveform"
        ):
            raise InputError(f"wav2letter_small needs widths of at least 1 and log_mel or mfcc features, got {shape}.")
        # units in, units out, kernel, stride, padding: torchaudio/models/wav2letter.py
        plan = [(shape.n_features, inner, 48, 2, 23), *[(inner, inner, 7, 1, 3)] * 7]
        plan += [(inner, big, 32, 1, 16), (big, big, 1, 1, 0), (big, n_labels, 1, 1, 0)]
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (units_in, units, kernel, stride, padding) in enumerate(plan):
            conv = nn.Conv1d(units_in, units, kernel, stride, padding)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
            modules[f"conv{number}"] = conv
            if number < len(plan) - 1:
                modules[f"norm{number}"] = _normalisation(shape.normalisation, units)
                modules[f"relu{number}"] = nn.ReLU(inplace=True)
        self.acoustic_model = nn.Sequential(modules)

    def forward(self, x: Tensor) -> Tensor:
        """From features `(batch, features, time)` to log-probabilities `(batch, labels, time)`, as torchaudio's."""
        return torch.log_softmax(self.acoustic_model(x), dim=1)


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the units of each time step of `(batch, units, time)`; it never mixes in padding."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def _normalisation(kind: Normalisation, units: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm1d(units)
    if kind == "layer":
        return _ChannelNorm(units)
    if kind == "none":
        return nn.Identity()
    raise InputError(f"normalisation must be batch, layer or none, got {kind!r}.")


def _masked(x: Tensor, steps: Tensor) -> Tensor:
    if int(steps.min()) >= x.shape[-1]:
        return x
    return x * (torch.arange(x.shape[-1], device=x.device) < steps.unsqueeze(1)).unsqueeze(1)
