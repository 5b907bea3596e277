"""The words of a CTC model's answer with their times: the answer is aligned with the model's own output."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from adapt.errors import InputError
from adapt.models.ctc import ctc_path, ctc_steps
from adapt.models.model import CTCModel
from adapt.transcription.transcript import Word


def ctc_words(model: CTCModel, log_probs: Tensor, text: str, seconds: float) -> tuple[Word, ...]:
    """Return the words of a text with their times, by the most likely alignment (`adapt.models.ctc.ctc_path`).

    A word starts and ends half a step before and after the steps of its first and last character. Its confidence is
    the probability of its least likely character, at the step where that character is likeliest.

    Args:
        model: The model.
        log_probs: Its output for the audio, `(time, units)`.
        text: A text, usually the model's answer.
        seconds: The duration of the audio.

    Returns:
        The words, with times in seconds from the start of the audio. A text that cannot be aligned, because the model
        has no units for it or the audio is too short, has its words evenly over the audio, without confidence.
    """
    words = text.split()
    if not words:
        return ()
    parts = units_of(model, text)
    target = [unit for _, units in parts for unit in units]
    if not target or ctc_steps(target) > len(log_probs):
        return spread(words, 0.0, seconds)
    path = ctc_path(log_probs, target, model.blank)
    runs = unit_steps(path.tolist(), model.blank)
    step = seconds / len(log_probs)
    centre = seconds / 2 - step * (len(log_probs) - 1) / 2
    found, place = [], 0
    for word, units in parts:
        own = runs[place : place + len(units)]
        place += len(units)
        if not word:  # what stands between words
            continue
        sure = min(float(log_probs[start:end, unit].max()) for (start, end), unit in zip(own, units, strict=True))
        start, end = centre + step * (own[0][0] - 0.5), centre + step * (own[-1][1] - 0.5)
        found.append(Word(word, max(0.0, start), min(seconds, end), math.exp(sure)))
    return tuple(found)


def spread(words: Sequence[str], start: float, end: float) -> tuple[Word, ...]:
    """Return words at equal distances from `start` to `end` (seconds), without confidence: their times are unknown."""
    each = (end - start) / max(1, len(words))
    return tuple(Word(word, start + n * each, start + (n + 1) * each, None) for n, word in enumerate(words))


def units_of(model: CTCModel, text: str) -> list[tuple[str, list[int]]]:
    """Return the words of a text with their output units, and ("", units) for what stands between two words.

    Without a unit between words, as in Chinese, each character of the text is a word. Nothing is returned for a text
    that the model has no units for.
    """
    words = text.split()
    try:
        whole, each = model.encode(" ".join(words)), [model.encode(word) for word in words]
    except InputError:
        return []
    if len(words) == 1 and len(whole) == len(text.strip()) and _unspaced(model):
        return [(character, [unit]) for character, unit in zip(text.strip(), whole, strict=True)]
    between = len(whole) - sum(map(len, each))
    if between not in (0, len(words) - 1):
        return []
    parts: list[tuple[str, list[int]]] = []
    place = 0
    for number, (word, units) in enumerate(zip(words, each, strict=True)):
        if number and between:
            parts.append(("", whole[place : place + 1]))
            place += 1
        parts.append((word, whole[place : place + len(units)]))
        place += len(units)
    return parts


def _unspaced(model: CTCModel) -> bool:
    return not any(token in (" ", "|") for token in model.vocabulary)


def unit_steps(path: list[int], blank: int) -> list[tuple[int, int]]:
    """Return the first step of each unit of an alignment, one unit per step, and the step after its last one."""
    runs: list[tuple[int, int]] = []
    previous = blank
    for step, unit in enumerate(path):
        if unit != blank and unit == previous:
            runs[-1] = runs[-1][0], step + 1
        elif unit != blank:
            runs.append((step, step + 1))
        previous = unit
    return runs


def emissions_of(log_probs: Tensor, lengths: Tensor) -> list[Tensor]:
    """Return the valid steps of each example of a batch, `(time, units)` each, on the CPU."""
    kept = log_probs.detach().float().cpu()
    return [torch.as_tensor(one[:length]) for one, length in zip(kept, lengths.tolist(), strict=True)]
