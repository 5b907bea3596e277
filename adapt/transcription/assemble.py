"""Put the answers for the pieces of a recording together."""

from collections.abc import Sequence
from dataclasses import replace

from adapt.data.pieces import Cuts, Piece
from adapt.transcription.read_batch import Read
from adapt.transcription.transcript import Segment, Transcript, Word

_PAUSE = 1.0  # seconds between words from which on they are in different segments
_SILENCE = 0.15  # seconds; where there is no speech for that long, a word neither starts nor ends


def transcript_of(name: str, cuts: Cuts, read: Sequence[Read], language: str | None) -> Transcript:
    """Return the transcript of a recording.

    Args:
        name: Its name.
        cuts: How it was cut.
        read: The text and the words of each piece.
        language: The code of its language; None if it is not known.
    """
    segments = [
        segment
        for piece, (text, words) in zip(cuts.pieces, read, strict=True)
        for segment in _segments(piece, text, words)
    ]
    return Transcript(name, cuts.seconds, language, tuple(_within(one, cuts.seconds) for one in segments))


def _within(segment: Segment, seconds: float) -> Segment:
    """Return the segment with times that are not past the end of the recording, as a model's may be."""
    if segment.end <= seconds and all(word.end <= seconds for word in segment.words):
        return segment
    words = (replace(word, start=min(word.start, seconds), end=min(word.end, seconds)) for word in segment.words)
    return replace(segment, start=min(segment.start, seconds), end=min(segment.end, seconds), words=tuple(words))


def _segments(piece: Piece, text: str, words: Sequence[Word]) -> list[Segment]:
    placed = [_placed(word, piece) for word in words]
    kept = [word for word in placed if _counts(word, piece)]
    if not kept:
        return []
    joint = " " if " " in text.strip() else ""
    runs: list[list[Word]] = []
    for word in kept:
        if runs and word.start - runs[-1][-1].end < _PAUSE:
            runs[-1].append(word)
        else:
            runs.append([word])
    if len(runs) == 1 and len(kept) == len(words):
        return [Segment(" ".join(text.split()), kept[0].start, kept[-1].end, tuple(kept))]
    return [Segment(joint.join(word.text for word in run), run[0].start, run[-1].end, tuple(run)) for run in runs]


def _counts(word: Word, piece: Piece) -> bool:
    # Of words in the overlap of two pieces, one counts.
    middle = (word.start + word.end) / 2
    after = piece.left == piece.start or middle >= piece.left
    return after and (piece.right == piece.end or middle < piece.right)


def _placed(word: Word, piece: Piece) -> Word:
    """Return the word with times in the recording, moved out of longer silences at its ends.

    Attention follows speech, so that the silence before a word seems to belong to it.
    """
    start, end = word.start + piece.start, word.end + piece.start
    if word.confidence is None:
        return Word(word.text, start, end, None)
    silences = _silences(piece)
    for begin, stop in silences:
        if begin <= start < stop < end:
            start = stop
        if start < begin < end <= stop:
            end = begin
    return Word(word.text, start, max(start, end), word.confidence)


def _silences(piece: Piece) -> list[tuple[float, float]]:
    ends = [piece.start, *(end for _, end in piece.speech)]
    starts = [*(start for start, _ in piece.speech), piece.end]
    return [(begin, stop) for begin, stop in zip(ends, starts, strict=True) if stop - begin >= _SILENCE]
