"""Which seconds and frequencies of the audio, or which words of the source, made a word of the output.

    for word in written(model, example):
        found = attribute(model, example, word)
        found.values          # (bands, time) of the audio, or (tokens,) of the source

What is explained is the log-probability of the word: of its units on the steps that a CTC model wrote them at, or of
its tokens, each read after those before it, where a decoder wrote them. Attribution is to what enters the network:
features `(bands, time)`, the spectrum of a waveform, or embeddings. The methods are captum's (Kokhlikyan et al. 2020).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from adapt.data.example import Example
from adapt.data.loader import Batch
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.introspect.profiles.groups import token_class
from adapt.models.inference import eval_mode
from adapt.models.model import DecoderModel, Model

Method = Literal["integrated_gradients", "gradient_x_input", "occlusion"]
Baseline = Literal["even", "silence"]
_FFT, _HOP = 512, 160  # of a waveform's spectrum, in samples: 32 and 10 ms at 16 kHz


@dataclass(frozen=True)
class Word:
    """One word that a model wrote: its `text`, and the `units` it consists of, at which output `steps`.

    Where a decoder wrote it, `read` are the tokens of the answer up to it and with it. Else `start` and `end` are where
    its steps lie, in seconds.
    """

    text: str
    steps: tuple[int, ...]
    units: tuple[int, ...]
    read: tuple[int, ...] = ()
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, eq=False)
class Attribution:
    """What each part of the input did for one word.

    `values` are `(bands, time)` of audio, which lasts `seconds`, or `(tokens,)` of a source whose `tokens` are named;
    their sum is the `score` (a log-probability, natural logarithm) less that of the `baseline`, but for the `gap`,
    which says how far the method is from that (of a method that does not promise it, None).
    `hertz` `(bands,)` are the bands' middles; None where bands are no frequencies (MFCC).
    """

    word: Word
    values: Tensor
    score: float
    baseline: float
    gap: float | None
    seconds: float | None = None
    hertz: tuple[float, ...] | None = None
    tokens: tuple[str, ...] = ()

    def by_source_word(self) -> list[tuple[str, float]]:
        """The sums over the tokens of each word of the source; nothing for audio."""
        found: list[tuple[str, float]] = []
        for token, value in zip(self.tokens, self.values.tolist() if self.tokens else [], strict=True):
            kind = token_class(token, token.startswith("<"))
            if found and kind in ("word continued", "punctuation"):
                found[-1] = (found[-1][0] + token, found[-1][1] + value)
            else:
                found.append((token.strip("\u2581\u0120"), value))
        return found


def written(model: Model, example: Example) -> list[Word]:
    """The words of a model's own answer to one example, each with the output steps that made it."""
    batch = one_batch(model, example)
    with eval_mode(model), torch.no_grad():
        if isinstance(model, DecoderModel):
            return _by_token(model, model.encode(model.generate(batch.inputs, batch.lengths)[0]))
        log_probs, lengths = model(batch.inputs, batch.lengths)
    own = int(lengths[0])
    step = model.sites[-1].step.length
    seconds = int(batch.lengths[0]) / model.sample_rate
    middle = seconds / 2 - (own - 1) / 2 * step  # of the first step
    words: list[Word] = []
    steps: list[int] = []
    path = log_probs[0, :own].argmax(-1).tolist()
    for place, unit in [*enumerate(path), (own, None)]:
        if unit is None or model.vocabulary[unit] in (" ", "|"):
            text = model.decode([path[at] for at in range(steps[0], steps[-1] + 1)]).strip() if steps else ""
            if text:
                ends = max(0.0, middle + (steps[0] - 0.5) * step), min(seconds, middle + (steps[-1] + 0.5) * step)
                words.append(Word(text, tuple(steps), tuple(path[at] for at in steps), (), *ends))
            steps = []
        elif unit != model.blank:
            steps.append(place)
    return words


def _by_token(model: Model, tokens: Sequence[int]) -> list[Word]:
    special = set(model.tokenizer.all_special_ids)
    words: list[tuple[list[int], list[int]]] = []
    for place, unit in enumerate(tokens):
        kind = token_class(model.vocabulary[unit], unit in special)
        if kind == "special":
            continue
        if not words or kind == "word start":
            words.append(([], []))
        words[-1][0].append(place)
        words[-1][1].append(unit)
    decode = model.tokenizer.decode
    return [
        Word(decode(units).strip(), tuple(places), tuple(units), tuple(tokens[: places[-1] + 1]))
        for places, units in words
    ]


def attribute(
    model: Model,
    example: Example,
    word: Word,
    method: Method = "integrated_gradients",
    baseline: Baseline = "even",
    steps: int = 64,
    at_once: int = 8,
) -> Attribution:
    """What each part of the input did for `word`, one of what `written` returns.

    - "integrated_gradients" (Sundararajan et al. 2017): from the baseline on a straight line to the input, in `steps`.
    - "gradient_x_input": the gradient at the input, times how far it is from the baseline.
    - "occlusion" (Zeiler and Fergus 2014): what is lost where a patch is as in the baseline: 60 ms by an eighth of the
      bands, or one token; a band or moment is given the mean of the patches that it is in. Each value is what the
      log-probability loses there; they need not add up to anything.

    The `baseline` "even" is each band at its mean over the utterance, throughout: the same colour and loudness without
    any change in time. "silence" is no sound at all (of features, the least of each band). Models that take the mean
    and deviation out of their features hear no difference between a sound and a silent copy of it, but in the
    limit, so that "silence" has a large gap with them. Of a source it is the embedding zero, for both.

    `at_once` is how many inputs run as one batch: time and memory, not the result.

    Raises:
        InputError: there is no such method or baseline.
    """
    if method not in get_args(Method) or baseline not in get_args(Baseline):
        raise InputError(
            f"method must be one of {', '.join(get_args(Method))}, and baseline {' or '.join(get_args(Baseline))}; got "
            f"{method!r} and {baseline!r}."
        )
    from captum.attr import InputXGradient, IntegratedGradients, Occlusion

    batch = one_batch(model, example)
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in asking:
        parameter.requires_grad_(False)
    try:
        with eval_mode(model):
            place = entrance(model, batch)
            at_once = at_once if model.batched else 1
            run = score_of(model, batch, place, word)
            x, from_ = place.x, place.baseline(baseline)
            with torch.no_grad():
                score, low = (float(run(one)) for one in (x, from_))
            gap = None
            if method == "integrated_gradients":
                values, _ = IntegratedGradients(run).attribute(
                    x, from_, n_steps=steps, internal_batch_size=at_once, return_convergence_delta=True
                )
                gap = score - low - float(values.sum())
            elif method == "gradient_x_input":
                # captum multiplies by the input itself: what is measured from the baseline is handed over as such.
                values = InputXGradient(lambda moved: run(from_ + moved)).attribute((x - from_).requires_grad_())
            else:
                values = Occlusion(run).attribute(
                    x, place.patch, strides=place.stride, baselines=from_, perturbations_per_eval=at_once
                )
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
    seconds = None if isinstance(example, Pair) else int(batch.lengths[0]) / model.sample_rate
    tokens: tuple[str, ...] = ()
    if isinstance(example, Pair):
        tokens = tuple(model.tokenizer.convert_ids_to_tokens(batch.inputs[0].tolist()))
    shares = place.summed(values.detach()[0]).cpu()
    if method == "occlusion":  # what is occluded at once has one value, and each of its numbers has the whole of it
        shares = shares / (values.numel() / shares.numel())
    return Attribution(word, shares, score, low, gap, seconds, place.hertz, tokens)


def one_batch(model: Model, example: Example) -> Batch:
    """One example as a batch, on the model's device."""
    x = model.reader.read(example)
    device = next(model.parameters()).device
    return Batch(x.unsqueeze(0), torch.tensor([len(x)]), [example]).to(device)


def entrance(model: Any, batch: Batch) -> "Place":
    """Where one example enters a model's network, and what does."""
    module, kind = model.input_module
    found: list[Tensor] = []
    place = Place(module, kind, batch.inputs)
    with place.hooked(lambda own: found.append(own.detach().clone())), torch.no_grad():
        decoded = [torch.tensor([model.encode("")[:1]], device=batch.inputs.device)] * isinstance(model, DecoderModel)
        model(batch.inputs, batch.lengths, *decoded)
    own, rate = found[0].float(), model.sample_rate
    if kind != "embedding" and (own.dim() == 2 or own.shape[1] == 1):  # a waveform: attributions are to its spectrum
        wave = own.reshape(1, -1)
        x = torch.view_as_real(torch.stft(wave, _FFT, _HOP, window=_window(wave), return_complex=True))
        bins = tuple((torch.arange(_FFT // 2 + 1) * rate / _FFT).tolist())
        return Place(module, kind, x.movedim(-1, 1), own, bins)  # (1, real and imaginary, bins, time)
    return Place(module, kind, own, own, None if kind == "embedding" else model.band_frequencies(own.shape[1]))


def score_of(model: Model, batch: Batch, place: "Place", word: Word) -> Callable[[Tensor], Tensor]:
    """The log-probability of a word for inputs `(n, ...)`, each in the place of what enters the network: `(n,)`."""
    steps, units = (torch.tensor(own, device=batch.inputs.device) for own in (word.steps, word.units))

    def score(x: Tensor) -> Tensor:
        inputs, lengths = batch.inputs.expand(len(x), -1), batch.lengths.expand(len(x))
        with place.entering(place.entered(x)):
            if word.read:
                tokens = torch.tensor(word.read, device=x.device).expand(len(x), -1)
                log_probs = model(inputs, lengths, tokens).log_softmax(-1)
            else:
                log_probs = model(inputs, lengths).log_probs
        return log_probs[:, steps, units].sum(-1)

    return score


@dataclass
class Place:
    """Where the input enters a network, and the input there, `x` `(1, ...)`, of which attributions are."""

    module: nn.Module
    kind: Literal["output", "argument", "embedding"]  # of the module
    x: Tensor
    own: Tensor = field(default_factory=lambda: torch.empty(0))  # what enters for `x`
    hertz: tuple[float, ...] | None = None

    @property
    def spectrum(self) -> bool:
        """Whether `x` is the spectrum of a waveform, which is what enters."""
        return self.x.dim() == 4

    @property
    def patch(self) -> tuple[int, ...]:
        """What is occluded at once."""
        if self.kind == "embedding":
            return 1, self.x.shape[-1]
        own = max(1, self.x.shape[-2] // 8), min(6, self.x.shape[-1])
        return (2, *own) if self.spectrum else own

    @property
    def stride(self) -> tuple[int, ...]:
        """How far one patch is from the next."""
        if self.kind == "embedding":
            return 1, self.x.shape[-1]
        bands, time = max(1, self.patch[-2] // 2), max(1, self.patch[-1] // 2)
        return (2, bands, time) if self.spectrum else (bands, time)

    def baseline(self, kind: Baseline) -> Tensor:
        """What the input is compared with."""
        if self.kind == "embedding" or (self.spectrum and kind == "silence"):
            return torch.zeros_like(self.x)
        if self.spectrum:  # the same mean size of each bin, at the phases that it has
            size = self.x.square().sum(1, keepdim=True).sqrt()
            return self.x * size.mean(-1, keepdim=True) / size.clamp_min(1e-8)
        return (self.x.mean(-1, keepdim=True) if kind == "even" else self.x.amin(-1, keepdim=True)).expand_as(self.x)

    def entered(self, x: Tensor) -> Tensor:
        """What enters the network for inputs `(n, ...)` such as `x`."""
        if not self.spectrum:
            return x
        parts = torch.view_as_complex(x.movedim(1, -1).contiguous())
        wave = torch.istft(parts, _FFT, _HOP, window=_window(self.own), length=self.own.shape[-1])
        return wave.view(len(x), *self.own.shape[1:])

    def summed(self, values: Tensor) -> Tensor:
        """Attributions as `(bands, time)`, or `(tokens,)`."""
        return values.sum(-1) if self.kind == "embedding" else values.sum(0) if self.spectrum else values

    @contextmanager
    def entering(self, x: Tensor) -> Iterator[None]:
        """For a block, `x` enters the network in the place of what would."""
        with self.hooked(lambda own: x.to(own.dtype)):
            yield

    @contextmanager
    def hooked(self, exchange: Callable[[Tensor], Any]) -> Iterator[None]:
        """For a block, `exchange` sees what enters, and says what does instead; None: the same."""
        done = False

        def behind(module: nn.Module, inputs: Any, output: Any) -> Any:
            nonlocal done
            if done:  # an embedding that encoder and decoder share: the encoder is first
                return None
            done = True
            hidden = output[0] if isinstance(output, tuple) else output
            other = exchange(hidden)
            if other is None:
                return None
            return (other, *output[1:]) if isinstance(output, tuple) else other

        def before(module: nn.Module, inputs: Any, named: dict[str, Any]) -> Any:
            for key, value in named.items():
                if isinstance(value, Tensor) and value.is_floating_point():
                    other = exchange(value)
                    return None if other is None else (inputs, {**named, key: other})
            other = exchange(inputs[0])
            return None if other is None else ((other, *inputs[1:]), named)

        if self.kind == "argument":
            handle = self.module.register_forward_pre_hook(before, with_kwargs=True)
        else:
            handle = self.module.register_forward_hook(behind)
        try:
            yield
        finally:
            handle.remove()


def _window(x: Tensor) -> Tensor:
    return torch.hann_window(_FFT, device=x.device)
