"""The network input that a word is attributed to: features, the spectrum of a waveform, or embeddings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from adapt.data.loader import Batch
from adapt.introspect.attribution.words import Word
from adapt.models.model import DecoderModel, InputKind, Model

Baseline = Literal["even", "silence"]
_FFT, _HOP = 512, 160  # of the spectrum of a waveform, in samples: 32 and 10 ms at 16 kHz


@dataclass
class NetworkInput:
    """The input of a network for one example, and the module where it can be replaced.

    Attributes:
        module: The module where the input is replaced.
        kind: Whether the input is this module's argument or output, or an embedding.
        x: The input that a word is attributed to: `(1, bands, time)`, `(1, tokens, units)`, or for the spectrum of a
            waveform `(1, 2, bins, time)` with real and imaginary parts.
        raw: What the network receives; it differs from `x` only for a waveform.
        frequencies: The centre frequency of each band in Hz; None if bands are not frequencies.
    """

    module: nn.Module
    kind: InputKind
    x: Tensor
    raw: Tensor = field(default_factory=lambda: torch.empty(0))
    frequencies: tuple[float, ...] | None = None

    @property
    def is_spectrum(self) -> bool:
        """Whether `x` is the spectrum of a waveform."""
        return self.x.dim() == 4

    @property
    def patch(self) -> tuple[int, ...]:
        """The shape of one occluded patch, without the batch axis."""
        if self.kind == "embedding":
            return 1, self.x.shape[-1]
        patch = max(1, self.x.shape[-2] // 8), min(6, self.x.shape[-1])
        return (2, *patch) if self.is_spectrum else patch

    @property
    def stride(self) -> tuple[int, ...]:
        """The distance between patches along each axis."""
        if self.kind == "embedding":
            return 1, self.x.shape[-1]
        bands, time = max(1, self.patch[-2] // 2), max(1, self.patch[-1] // 2)
        return (2, bands, time) if self.is_spectrum else (bands, time)

    def baseline(self, kind: Baseline) -> Tensor:
        """Return the baseline that `x` is compared with, of the same shape (see `attribute`)."""
        if self.kind == "embedding" or (self.is_spectrum and kind == "silence"):
            return torch.zeros_like(self.x)
        if self.is_spectrum:  # the mean magnitude of each bin, with the phases of the input
            size = self.x.square().sum(1, keepdim=True).sqrt()
            return self.x * size.mean(-1, keepdim=True) / size.clamp_min(1e-8)
        return (self.x.mean(-1, keepdim=True) if kind == "even" else self.x.amin(-1, keepdim=True)).expand_as(self.x)

    def to_raw(self, x: Tensor) -> Tensor:
        """Convert inputs `(n, ...)` like `x` to what the network receives."""
        if not self.is_spectrum:
            return x
        spectrum = torch.view_as_complex(x.movedim(1, -1).contiguous())
        wave = torch.istft(spectrum, _FFT, _HOP, window=_window(self.raw), length=self.raw.shape[-1])
        return wave.view(len(x), *self.raw.shape[1:])

    def sum_units(self, values: Tensor) -> Tensor:
        """Sum attributions to one value per band and step, `(bands, time)`, or per token, `(tokens,)`."""
        if self.kind == "embedding":
            return values.sum(-1)
        return values.sum(0) if self.is_spectrum else values

    @contextmanager
    def replaced(self, raw: Tensor) -> Iterator[None]:
        """Within the block, the network receives `raw` instead of its own input."""
        with self.intercepted(lambda own: raw.to(own.dtype)):
            yield

    @contextmanager
    def intercepted(self, exchange: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
        """Within the block, `exchange` is called with the input, and returns a replacement, or None to keep it."""
        done = False

        def after(module: nn.Module, args: Any, output: Any) -> Any:
            nonlocal done
            if done:  # an embedding that encoder and decoder share: the first call is the encoder's
                return None
            done = True
            hidden = output[0] if isinstance(output, tuple) else output
            other = exchange(hidden)
            if other is None:
                return None
            return (other, *output[1:]) if isinstance(output, tuple) else other

        def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            for key, value in kwargs.items():
                if isinstance(value, Tensor) and value.is_floating_point():
                    other = exchange(value)
                    return None if other is None else (args, {**kwargs, key: other})
            other = exchange(args[0])
            return None if other is None else ((other, *args[1:]), kwargs)

        if self.kind == "argument":
            handle = self.module.register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = self.module.register_forward_hook(after)
        try:
            yield
        finally:
            handle.remove()


def network_input(model: Model, batch: Batch) -> NetworkInput:
    """Return the input of a model's network for a batch of one example."""
    module, kind = model.input_module
    inputs: list[Tensor] = []

    def record(own: Tensor) -> None:
        inputs.append(own.detach().clone())

    with NetworkInput(module, kind, batch.inputs).intercepted(record), torch.no_grad():
        if isinstance(model, DecoderModel):
            first = torch.tensor([model.encode("")[:1]], device=batch.inputs.device)
            model(batch.inputs, batch.lengths, first)
        else:
            model(batch.inputs, batch.lengths)
    raw, rate = inputs[0].float(), model.sample_rate
    if kind == "embedding":
        return NetworkInput(module, kind, raw, raw)
    if raw.dim() == 2 or raw.shape[1] == 1:  # a waveform: attribute to its spectrum
        wave = raw.reshape(1, -1)
        x = torch.view_as_real(torch.stft(wave, _FFT, _HOP, window=_window(wave), return_complex=True))
        bins = tuple((torch.arange(_FFT // 2 + 1) * rate / _FFT).tolist())
        return NetworkInput(module, kind, x.movedim(-1, 1), raw, bins)
    return NetworkInput(module, kind, raw, raw, model.band_frequencies(raw.shape[1]))


def word_score(model: Model, batch: Batch, entry: NetworkInput, word: Word) -> Callable[[Tensor], Tensor]:
    """Return a function from inputs `(n, ...)` like `entry.x` to the log-probability of a word, `(n,)`."""
    steps, units = (torch.tensor(own, device=batch.inputs.device) for own in (word.steps, word.units))

    def score(x: Tensor) -> Tensor:
        inputs, lengths = batch.inputs.expand(len(x), -1), batch.lengths.expand(len(x))
        with entry.replaced(entry.to_raw(x)):
            if word.prefix:
                tokens = torch.tensor(word.prefix, device=x.device).expand(len(x), -1)
                log_probs = model(inputs, lengths, tokens).log_softmax(-1)
            else:
                log_probs = model(inputs, lengths).log_probs
        return log_probs[:, steps, units].sum(-1)

    return score


def _window(x: Tensor) -> Tensor:
    return torch.hann_window(_FFT, device=x.device)
