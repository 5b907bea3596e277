"""Read pieces at several starts, and keep the answer of least expected error.

Some models have only heard utterances that start at their first sound, such as a Wav2Letter that was trained on
synthetic speech. What they write depends on a hundredth of a second of silence before it, and where speech starts in a
recording is not known that exactly. So each start gives an answer with a probability, and the answer with the smallest
expected edit distance to all of them is kept (minimum Bayes risk; Goel & Byrne 2000).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from adapt.data.loader import Batch
from adapt.transcription.transcript import Word

Read = tuple[str, tuple[Word, ...]]  # a text, and its words with times in seconds from the start of the audio
MARGIN = 0.040  # seconds of silence before a piece, so that it may start before or after its first sound
STARTS = tuple(number * 0.005 for number in range(11))  # seconds that are left out at the start of a piece
_SHORTEST = 0.3  # seconds; less is read once


def read_shifted(read: Callable[[Batch], list[tuple[Read, float]]], batch: Batch, sample_rate: int) -> list[Read]:
    """Return for each example its answer of least expected error.

    Args:
        read: Reads a batch, and returns each answer with its log-probability.
        batch: The pieces, with `MARGIN` seconds before their speech.
        sample_rate: In Hz.

    Returns:
        The answers, with the times of words from the start of the piece.
    """
    if int(batch.lengths.min()) < _SHORTEST * sample_rate:
        return [answer for answer, _ in read(batch)]
    answers: list[list[tuple[Read, float]]] = []
    for start in STARTS:
        skipped = round(start * sample_rate)
        later = replace(batch, inputs=batch.inputs[:, skipped:], lengths=batch.lengths - skipped)
        answers.append([((text, _later(words, start)), sure) for (text, words), sure in read(later)])
    return [_best(own) for own in zip(*answers, strict=True)]


def _best(answers: Sequence[tuple[Read, float]]) -> Read:
    texts = [text for (text, _), _ in answers]
    sure = np.array([value for _, value in answers])
    if len(set(texts)) == 1:
        return answers[int(sure.argmax())][0]
    weights = np.exp(sure - sure.max())
    risks = [sum(weight * _distance(one, other) for weight, other in zip(weights, texts, strict=True)) for one in texts]
    best = min(range(len(answers)), key=lambda number: (risks[number], -sure[number]))
    return answers[best][0]


def _distance(one: str, other: str) -> int:
    import jiwer

    if not one or not other:
        return len(one) + len(other)
    found = jiwer.process_characters(one, other)
    return found.substitutions + found.deletions + found.insertions


def _later(words: Sequence[Word], seconds: float) -> tuple[Word, ...]:
    return tuple(replace(word, start=word.start + seconds, end=word.end + seconds) for word in words)
