"""Attribute a word of the output to seconds and frequencies of the audio, or to words of the source.

    for word in output_words(model, example):
        found = attribute(model, example, word)
        found.values          # (bands, time) of the audio, or (tokens,) of the source

The explained quantity is the log-probability of the word. For a CTC model it is that of its units at the steps where
they were output. For a decoder it is that of its tokens, each given the tokens before it. It is attributed to the
input of the network: features `(bands, time)`, the spectrum of a waveform, or embeddings. The methods are those of
captum (Kokhlikyan et al. 2020).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.introspect.attribution.network_input import Baseline, NetworkInput, network_input, word_score
from adapt.introspect.attribution.words import Word, single_batch
from adapt.introspect.profiles.groups import token_class
from adapt.models.inference import eval_mode
from adapt.models.model import DecoderModel, Model

Method = Literal["integrated_gradients", "gradient_x_input", "occlusion"]


@dataclass(frozen=True, eq=False)
class Attribution:
    """The contribution of each part of the input to the log-probability (natural logarithm) of one word.

    For a method with the completeness property, the values plus the gap add up to `score - baseline`.

    Attributes:
        word: The word.
        values: The contributions, `(bands, time)` of audio or `(tokens,)` of a source.
        score: The log-probability of the word for the input.
        baseline: The log-probability of the word for the baseline.
        gap: The completeness error; None for a method without this property.
        seconds: How long the values last: the duration of the audio, or of the window that the network pads it to; None
            for text.
        frequencies: The centre frequency of each band in Hz; None if bands are not frequencies (MFCC).
        tokens: The tokens of the source; empty for audio.
    """

    word: Word
    values: Tensor
    score: float
    baseline: float
    gap: float | None
    seconds: float | None = None
    frequencies: tuple[float, ...] | None = None
    tokens: tuple[str, ...] = ()

    def by_source_word(self) -> list[tuple[str, float]]:
        """Return each word of the source with the sum of its tokens' contributions; an empty list for audio."""
        words: list[tuple[str, float]] = []
        for token, value in zip(self.tokens, self.values.tolist() if self.tokens else [], strict=True):
            kind = token_class(token, token.startswith("<"))
            if words and kind in ("word continued", "punctuation"):
                words[-1] = (words[-1][0] + token, words[-1][1] + value)
            else:
                words.append((token.strip("\u2581\u0120"), value))
        return words


def attribute(
    model: Model,
    example: Example,
    word: Word,
    method: Method = "integrated_gradients",
    baseline: Baseline = "even",
    steps: int = 64,
    at_once: int = 8,
) -> Attribution:
    """Attribute the log-probability of a word to the input.

    Methods:

    - "integrated_gradients" (Sundararajan et al. 2017) integrates along a straight line from the baseline to the input.
    - "gradient_x_input" is the gradient at the input, times the difference of input and baseline.
    - "occlusion" (Zeiler and Fergus 2014) is the decrease of the log-probability when a patch is replaced by the
      baseline: 60 ms by an eighth of the bands, or one token. Patches overlap, and each value is the mean over the
      patches that contain it. The values need not add up to `score - baseline`.

    Baselines:

    - "even" sets each band to its mean over the utterance: the same timbre and loudness without any change in time.
    - "silence" is no sound (for features, the minimum of each band). Models that normalise their features by mean and
      deviation hardly distinguish a sound from a quieter copy of it, so the gap is large for them.
    - For a source, both are embeddings of zero.

    Args:
        model: The model.
        example: The example that the model reads.
        word: One of the words that `output_words` returns.
        method: The method.
        baseline: The baseline.
        steps: Number of steps of integrated gradients.
        at_once: Number of inputs per batch; affects time and memory only.

    Raises:
        InputError: There is no such method or baseline.
    """
    if method not in get_args(Method) or baseline not in get_args(Baseline):
        raise InputError(
            f"method must be one of {', '.join(get_args(Method))}, and baseline {' or '.join(get_args(Baseline))}; got "
            f"{method!r} and {baseline!r}."
        )
    batch = single_batch(model, example)
    with _frozen(model), eval_mode(model):
        entry = network_input(model, batch)
        run = word_score(model, batch, entry, word)
        low = entry.baseline(baseline)
        with torch.no_grad():
            score, baseline_score = (float(run(x)) for x in (entry.x, low))
        values, total = _attribute(method, run, entry, low, steps, at_once if model.batched else 1)
    gap = None if total is None else score - baseline_score - total
    shares = entry.sum_units(values.detach()[0]).cpu()
    if method == "occlusion":  # all elements of a patch have the value of the whole patch
        shares = shares / (values.numel() / shares.numel())
    seconds, tokens = None, ()
    if isinstance(example, Pair):
        assert isinstance(model, DecoderModel)
        tokens = tuple(model.tokenizer.convert_ids_to_tokens(batch.inputs[0].tolist()))
    else:
        window = model.reader.window
        seconds = int(batch.lengths[0]) / model.sample_rate if window is None else window
    return Attribution(word, shares, score, baseline_score, gap, seconds, entry.frequencies, tokens)


def _attribute(
    method: Method, run: Callable[[Tensor], Tensor], entry: NetworkInput, low: Tensor, steps: int, at_once: int
) -> tuple[Tensor, float | None]:
    """Return the attributions, in the shape of `entry.x`, and their sum; None for a method without completeness."""
    from captum.attr import InputXGradient, IntegratedGradients, Occlusion

    x = entry.x
    if method == "integrated_gradients":
        values, _ = IntegratedGradients(run).attribute(
            x, low, n_steps=steps, internal_batch_size=at_once, return_convergence_delta=True
        )
        return values, float(values.sum())
    if method == "gradient_x_input":
        # captum multiplies by the input itself, so the input here is the difference from the baseline.
        return InputXGradient(lambda moved: run(low + moved)).attribute((x - low).requires_grad_()), None
    occlusion = Occlusion(run)
    values = occlusion.attribute(
        x, entry.patch, strides=entry.stride, baselines=low, perturbations_per_eval=at_once
    )  # fmt: skip
    return values, None


@contextmanager
def _frozen(model: Model) -> Iterator[None]:
    """Within the block, no parameter requires gradients."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
