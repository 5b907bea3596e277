"""Cut long audio into pieces that a model can read, in silences where there are any."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from adapt.data.example import language_of
from adapt.data.manifest import Utterance
from adapt.data.recording import Recording
from adapt.data.speech_detection import FRAME, SAMPLE_RATE, SILENCE, speech_probabilities, speech_spans
from adapt.data.stream import read_blocks, read_parts

_JOINED = 3.0  # seconds; speech with longer silences in between is in different pieces
_MARGIN = 0.2  # seconds that are added to speech on each side, for quiet starts and ends of words
_OVERLAP = 1.0  # seconds that a piece goes on beyond a cut in the middle of speech


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


def cut_recording(example: Utterance | Recording, longest: float, vad: bool = True) -> Cuts:
    """Find the pieces of a recording.

    Speech is joined up to `longest` seconds, unless there are more than 3 s of silence in between. Speech that lasts
    longer without a silence of 0.1 s is cut where speech is least likely, in the second half of what fits. If it is
    likely there too, the pieces overlap by 2 s.

    Args:
        example: The recording, of any length; it is read once, in blocks.
        longest: The longest piece in seconds.
        vad: Whether to find the speech (voice activity detection). Otherwise everything is speech, and cut where it is
            quietest.

    Raises:
        InputError: the recording cannot be read.
    """
    blocks = _Counted(read_blocks(example, SAMPLE_RATE))
    level = speech_probabilities(blocks) if vad else _loudness(blocks)
    seconds = blocks.samples / SAMPLE_RATE
    spans = speech_spans(level, seconds) if vad else [(0.0, seconds)]
    wide = _widened(spans, seconds)
    parts = [part for span, own in zip(wide, spans, strict=True) for part in _divided(span, own, level, longest)]
    return Cuts(seconds, tuple(_joined(parts, longest)))


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


class _Counted:
    """Blocks that are counted while they are read."""

    def __init__(self, blocks: Iterator[Tensor]) -> None:
        self.blocks, self.samples = blocks, 0

    def __iter__(self) -> Iterator[Tensor]:
        for block in self.blocks:
            self.samples += len(block)
            yield block


def _loudness(blocks: Iterable[Tensor]) -> np.ndarray:
    """Return the loudness of each frame of 32 ms, scaled so that `SILENCE` is 29 dB below the loud frames."""
    size, kept, found = round(FRAME * SAMPLE_RATE), np.zeros(0, np.float32), [np.zeros(0)]
    for block in blocks:
        kept = np.concatenate([kept, block.numpy()])
        frames = kept[: len(kept) // size * size].reshape(-1, size)
        found.append(np.sqrt((frames.astype(np.float64) ** 2).mean(axis=1)))
        kept = kept[frames.size :]
    loudness = np.concatenate(found)
    loud = float(np.percentile(loudness, 95)) if len(loudness) else 0.0
    return np.minimum(1.0, loudness / (0.1 * loud)) if loud else np.zeros_like(loudness)


def _widened(spans: Sequence[tuple[float, float]], seconds: float) -> list[tuple[float, float]]:
    """Return the spans with their margins, which end in the middle of a silence at the latest."""
    middles = [0.0, *((one[1] + after[0]) / 2 for one, after in zip(spans, spans[1:], strict=False)), seconds]
    return [
        (max(start - _MARGIN, before), min(end + _MARGIN, after))
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


def _joined(parts: Sequence[Piece], longest: float) -> Iterator[Piece]:
    """Yield the parts joined to pieces of at most `longest` seconds that end in long silences; overlaps stay apart."""
    current: list[Piece] = []
    for part in parts:
        if current and not _may_join(current[-1], part):
            yield _joint(current)
            current = []
        while current and part.end - current[0].start > longest:
            count = _best_end([*current, part], longest)
            yield _joint(current[:count])
            current = current[count:]
        current.append(part)
    if current:
        yield _joint(current)


def _may_join(before: Piece, after: Piece) -> bool:
    overlap = before.right != before.end or after.left != after.start
    return not overlap and after.start - before.end <= _JOINED


def _best_end(parts: Sequence[Piece], longest: float) -> int:
    """Return after how many of the parts a piece ends best: at the longest silence of its second half."""
    counts = range(1, len(parts))
    late = [count for count in counts if parts[count - 1].end >= parts[0].start + longest / 2] or [len(parts) - 1]
    return max(late, key=lambda count: parts[count].speech[0][0] - parts[count - 1].speech[-1][1])


def _joint(parts: Sequence[Piece]) -> Piece:
    first, last = parts[0], parts[-1]
    speech = tuple(span for part in parts for span in part.speech)
    return Piece(first.start, last.end, first.left, last.right, speech)
