"""Cut long audio into pieces that a model can read, in silences where there are any."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adapt.data.example import language_of
from adapt.data.loudness import Measured, quietness, tightened
from adapt.data.manifest import Utterance
from adapt.data.recording import Recording
from adapt.data.speech_detection import FRAME, SAMPLE_RATE, SILENCE, speech_probabilities, speech_spans
from adapt.data.stream import read_blocks, read_parts

_OVERLAP = 1.0  # seconds that a piece goes on beyond a cut in the middle of speech


@dataclass(frozen=True, slots=True)
class Silences:
    """How much silence pieces have.

    Attributes:
        joined: Speech with longer silences in between is in different pieces, in seconds.
        margin: What is added to speech on each side, in seconds.
        after: The same at its end; None for `margin`.
    """

    joined: float
    margin: float
    after: float | None = None


LOOSE = Silences(3.0, 0.2)  # for models that read windows of a fixed length, most of which is padding
TIGHT = Silences(0.25, 0.02)  # for models that normalise what they read, which silence changes


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a recording. All times are in seconds from its start.

    Attributes:
        start, end: The audio that the model reads.
        left, right: The part of it whose words count. It is smaller where pieces overlap.
        speech: Where there is speech, in order.
    """

    start: float
    end: float
    left: float
    right: float
    speech: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Cuts:
    """How a recording is cut.

    Attributes:
        seconds: Its duration.
        pieces: The pieces with speech, in order; none for a recording without speech.
    """

    seconds: float
    pieces: tuple[Piece, ...]


def cut_recording(example: Utterance | Recording, longest: float, vad: bool = True, silences: Silences = LOOSE) -> Cuts:
    """Find the pieces of a recording.

    Speech is joined up to `longest` seconds, and a piece ends at the longest silence of its second half. Speech that
    lasts longer without a silence of 0.1 s is cut where speech is least likely, in the second half of what fits. If it
    is likely there too, the pieces overlap by 2 s.

    Args:
        example: The recording, of any length; it is read once, in blocks.
        longest: The longest piece in seconds.
        vad: Whether to find the speech (voice activity detection). Otherwise everything is speech, and cut where it is
            quietest.
        silences: How much silence pieces have.

    Raises:
        InputError: the recording cannot be read.
    """
    blocks = Measured(read_blocks(example, SAMPLE_RATE))
    if vad:
        level = speech_probabilities(blocks)
        spans = tightened(speech_spans(level, blocks.seconds), blocks.loudness())
    else:
        deque(blocks, maxlen=0)
        level, spans = quietness(blocks.loudness()), [(0.0, blocks.seconds)]
    wide = _widened(spans, blocks.seconds, silences)
    parts = [part for span, own in zip(wide, spans, strict=True) for part in _divided(span, own, level, longest)]
    return Cuts(blocks.seconds, tuple(_joined(parts, longest, silences.joined)))


def read_pieces(
    example: Utterance | Recording, sample_rate: int, pieces: Sequence[Piece], language: str | None = None
) -> Iterator[Recording]:
    """Yield the audio of pieces of a recording, reading it once, in blocks.

    Args:
        example: The recording.
        sample_rate: The sample rate in Hz.
        pieces: The pieces, in order.
        language: The language that the pieces get as their key "lang"; None for that of the recording.

    Raises:
        InputError: the recording cannot be read.
    """
    known = language or language_of(example)
    extra = {} if known is None else {"lang": known}
    parts = [(piece.start, piece.end) for piece in pieces]
    for piece, samples in zip(pieces, read_parts(example, sample_rate, parts), strict=True):
        where = f"{example.where or example.name}, {piece.start:.2f} s"
        yield Recording(samples.numpy(), sample_rate, name=example.name, extra=extra, where=where)


def _widened(spans: Sequence[tuple[float, float]], seconds: float, silences: Silences) -> list[tuple[float, float]]:
    """Return the spans with their margins, which end in the middle of a silence at the latest."""
    middles = [0.0, *((one[1] + after[0]) / 2 for one, after in zip(spans, spans[1:], strict=False)), seconds]
    last = silences.margin if silences.after is None else silences.after
    return [
        (max(start - silences.margin, before), min(end + last, after))
        for (start, end), before, after in zip(spans, middles, middles[1:], strict=False)
    ]


def _divided(
    span: tuple[float, float], speech: tuple[float, float], level: np.ndarray, longest: float
) -> Iterator[Piece]:
    """Yield the parts of a span of speech, of which none is longer than `longest`."""
    start, end = span
    left = start
    smooth = np.convolve(np.pad(level, 1, mode="edge"), np.ones(3) / 3, mode="valid") if len(level) else level
    overlap = min(_OVERLAP, longest / 10)
    while end - start > longest:
        last = min(start + longest - overlap, end - min(3.0, longest / 4))  # what is left should not be tiny
        frames = range(
            int((start + longest / 2) / FRAME), max(int(last / FRAME), int((start + longest / 2) / FRAME) + 1)
        )
        frame = min(frames, key=lambda number: smooth[min(number, len(smooth) - 1)])
        cut = (frame + 0.5) * FRAME
        more = 0.0 if smooth[min(frame, len(smooth) - 1)] < SILENCE else overlap
        yield Piece(start, cut + more, left, cut, ((max(start, speech[0]), min(cut + more, speech[1])),))
        start, left = cut - more, cut
    yield Piece(start, end, left, end, ((max(start, speech[0]), speech[1]),))


def _joined(parts: Sequence[Piece], longest: float, silence: float) -> Iterator[Piece]:
    """Yield the parts joined to pieces of at most `longest` seconds, which end in long silences. Overlaps are kept."""
    current: list[Piece] = []
    for part in parts:
        if current and not _may_join(current[-1], part, silence):
            yield _joint(current)
            current = []
        while current and part.end - current[0].start > longest:
            count = _best_end([*current, part], longest)
            yield _joint(current[:count])
            current = current[count:]
        current.append(part)
    if current:
        yield _joint(current)


def _may_join(before: Piece, after: Piece, silence: float) -> bool:
    overlap = before.right != before.end or after.left != after.start
    return not overlap and after.speech[0][0] - before.speech[-1][1] <= silence


def _best_end(parts: Sequence[Piece], longest: float) -> int:
    """Return after how many of the parts a piece ends best: at the longest silence of its second half."""
    counts = range(1, len(parts))
    late = [count for count in counts if parts[count - 1].end >= parts[0].start + longest / 2] or [len(parts) - 1]
    return max(late, key=lambda count: parts[count].speech[0][0] - parts[count - 1].speech[-1][1])


def _joint(parts: Sequence[Piece]) -> Piece:
    first, last = parts[0], parts[-1]
    speech = tuple(span for part in parts for span in part.speech)
    return Piece(first.start, last.end, first.left, last.right, speech)
