"""The words of a decoder's answer with their times: from where its cross-attention looks for each token.

As in OpenAI's Whisper (`whisper/timing.py`), each step of the audio is assigned to a token, in order, so that the sum
of the attention along the path is largest. Unlike there, the attention of a step is divided by its sum over the tokens,
and two groups of heads are added. Heads that follow the audio look at the end of what they write, which is some 70 ms
late for the start of a word; all heads of the upper layers look too early. The first are moved towards the start of the
audio and the second towards its end, by so much that their sum changes where a word starts (measured with Whisper
tiny.en on synthetic speech: `scripts/study_long.py`).
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.models.cross_attention import attend
from adapt.models.model import SpeechDecoderModel
from adapt.models.seq2seq import IGNORED
from adapt.transcription.ctc_words import spread
from adapt.transcription.transcript import Word

_LATE, _EARLY = 0.10, 0.08  # seconds by which the heads that follow the audio, and the others, are moved
_ALONE = 0.03  # seconds by which the others are early if no heads are known to follow the audio
_AFTER = "\"'.。,，!！?？:：”)]}、-–—…»"  # punctuation that belongs to the word before it
_BEFORE = "\"'“¿([{«¡"  # and to the word after it


def attention_words(
    model: SpeechDecoderModel, inputs: Tensor, lengths: Tensor, texts: Sequence[str], languages: Sequence[str | None]
) -> list[tuple[Word, ...]]:
    """Return the words of texts with their times.

    The confidence of a word is the probability of its least likely token, given the words before it.

    Args:
        model: The model, in eval mode.
        inputs: The audio, `(batch, samples)`.
        lengths: `(batch,)` in samples.
        texts: A text for each example, usually the model's answers.
        languages: The language of each example; None for the model's own.

    Returns:
        The words of each text, with times in seconds from the start of its audio. A text with more tokens than the
        audio has steps has its words evenly over the audio, without confidence.
    """
    targets = [model.encode(text, language) for text, language in zip(texts, languages, strict=True)]
    rows = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(units, device=inputs.device) for units in targets], batch_first=True, padding_value=IGNORED
    )
    seen = attend(model, inputs, lengths, rows)
    found: list[tuple[Word, ...]] = []
    for number, (text, units) in enumerate(zip(texts, targets, strict=True)):
        seconds = float(lengths[number]) / model.sample_rate
        first = len(model.encode("", languages[number])) - 1  # the tokens before the text
        own = units[first:-1]
        steps = int(seen.steps[number])
        if not text.strip() or not own:
            found.append(())
            continue
        if len(own) + 1 > steps:
            found.append(spread(text.split(), 0.0, seconds))
            continue
        groups = [one[number, first : len(units), :steps].cpu().numpy() for one in seen.attention]
        starts = token_starts(groups, seen.step)
        log_probs = seen.log_probs[number, first : first + len(own)].tolist()
        found.append(tuple(
            Word(word, float(starts[begin]), min(seconds, float(starts[end])), math.exp(min(log_probs[begin:end])))
            for word, begin, end in word_tokens(model.tokenizer, own)
        ))  # fmt: skip
    return found


def token_starts(attention: Sequence[np.ndarray], step: float) -> np.ndarray:
    """Return the start of each token in seconds, `(tokens,)`.

    Args:
        attention: The attentions `(tokens, steps)` of `adapt.models.cross_attention.attend`, with at least as many
            steps as tokens: that of heads which follow the audio, if any are known, and that of the upper layers.
        step: The duration of a step in seconds.
    """
    shares = [one / np.maximum(one.sum(axis=0, keepdims=True), 1e-9) for one in attention]
    if len(shares) == 1:
        starts = _monotone(shares[0]) * step
        return np.where(starts > 0, starts + _ALONE, 0.0)
    following, upper = shares
    score = _moved(following, -round(_LATE / step)) + _moved(upper, round(_EARLY / step))
    return _monotone(score) * step


def _moved(score: np.ndarray, steps: int) -> np.ndarray:
    """Return scores `(tokens, steps)` later by some steps, or earlier if negative; what is not known is 0."""
    moved = np.zeros_like(score)
    count = max(0, score.shape[1] - abs(steps))
    if steps > 0:
        moved[:, score.shape[1] - count :] = score[:, :count]
    else:
        moved[:, :count] = score[:, score.shape[1] - count :]
    return moved


def _monotone(score: np.ndarray) -> np.ndarray:
    """Return the first step of each token if each step belongs to a token, in order, and the sum of scores is largest.

    `score` is `(tokens, steps)`.
    """
    tokens, steps = score.shape
    best = np.full(tokens, -np.inf)
    best[0] = score[0, 0]
    moved = np.zeros((steps, tokens), dtype=bool)
    for step in range(1, steps):
        before = np.concatenate([[-np.inf], best[:-1]])
        moved[step] = before > best
        best = np.where(moved[step], before, best) + score[:, step]
    starts = np.zeros(tokens, dtype=int)
    token = tokens - 1
    for step in range(steps - 1, 0, -1):
        if moved[step, token]:
            starts[token] = step
            token -= 1
    return starts


def word_tokens(tokenizer: Any, tokens: Sequence[int]) -> list[tuple[str, int, int]]:
    """Return the words that tokens spell, each with the number of its first token and of the token after its last.

    A word begins where there is a space. Punctuation that stands alone belongs to a neighbour. A text without spaces
    has a word for each token, or for the tokens that make up a character together.
    """
    pieces: list[tuple[str, int, int]] = []  # texts of tokens; those that make up one character are together
    begin, done = 0, ""
    for place in range(1, len(tokens) + 1):
        text = tokenizer.decode(tokens[:place], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if "\ufffd" in text[len(done) :] and place < len(tokens):
            continue
        pieces.append((text[len(done) :], begin, place))
        begin, done = place, text
    spaced = " " in done.strip()
    words: list[tuple[str, int, int]] = []
    for text, start, end in pieces:
        joins = spaced and not text.startswith(" ")
        alone = text.strip()
        if words and (joins or (not spaced and all(one in _AFTER for one in alone))):
            words[-1] = words[-1][0] + text, words[-1][1], end
        elif words and alone and all(one in _AFTER for one in alone) and alone not in _BEFORE:
            words[-1] = f"{words[-1][0]} {alone}", words[-1][1], end
        else:
            words.append((text, start, end))
    return [(word.strip(), start, end) for word, start, end in words if word.strip()]
