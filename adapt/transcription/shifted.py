"""Read pieces at several starts, and keep the answer on which they agree most.

Some models have only heard utterances that start at their first sound, such as a Wav2Letter that was trained on
synthetic speech. What they write depends on a hundredth of a second of silence before it, and where speech starts in a
recording is not known that exactly. The answer whose edit distance to the others is smallest is that of least expected
error (minimum Bayes risk; Goel & Byrne 2000), if each start is equally likely.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from adapt.data.loader import Batch
from adapt.transcription.transcript import Word

Read = tuple[str, tuple[Word, ...]]  # a text, and its words with times in seconds from the start of the audio
STARTS = (0.0, 0.010, 0.015, 0.020, 0.025, 0.030)  # seconds that are left out at the start of a piece
MARGIN = 0.025  # seconds of silence before a piece, so that it may start before or after its first sound
_SHORTEST = 0.3  # seconds; less is read once


def read_shifted(read: Callable[[Batch], list[Read]], batch: Batch, sample_rate: int) -> list[Read]:
    """Return for each example the answer that is nearest to those for other starts, by edit distance.

    Args:
        read: Reads a batch.
        batch: The pieces, with `MARGIN` seconds before their speech.
        sample_rate: In Hz.

    Returns:
        The answers, with the times of words from the start of the piece.
    """
    if int(batch.lengths.min()) < _SHORTEST * sample_rate:
        return read(batch)
    answers: list[list[Read]] = []
    for start in STARTS:
        skipped = round(start * sample_rate)
        later = replace(batch, inputs=batch.inputs[:, skipped:], lengths=batch.lengths - skipped)
        answers.append([(text, _later(words, start)) for text, words in read(later)])
    return [own[_nearest([text for text, _ in own])] for own in zip(*answers, strict=True)]


def _nearest(texts: Sequence[str]) -> int:
    """Return the number of the text with the smallest sum of edit distances to all."""
    if len(set(texts)) == 1:
        return 0
    sums = [sum(_distance(one, other) for other in texts) for one in texts]
    return sums.index(min(sums))


def _distance(one: str, other: str) -> int:
    import jiwer

    if not one or not other:
        return len(one) + len(other)
    found = jiwer.process_characters(one, other)
    return found.substitutions + found.deletions + found.insertions


def _later(words: Sequence[Word], seconds: float) -> tuple[Word, ...]:
    return tuple(replace(word, start=word.start + seconds, end=word.end + seconds) for word in words)
