"""Transcripts as text, JSON, subtitles (SRT, WebVTT) and tables (TSV)."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapt.checks import check_count
from adapt.errors import InputError
from adapt.files import write_text
from adapt.transcription.transcript import Transcript, Word

FORMATS = ("txt", "json", "srt", "vtt", "tsv")
WIDTH, LINES = 42, 2  # of a subtitle; the usual limits of broadcasters
_LONGEST, _SHORTEST = 7.0, 1.0  # seconds that a subtitle stays
_PAUSE = 0.7  # seconds between words from which on a new subtitle begins
_ENDS = (".", "?", "!", "…", "。", "？", "！")


@dataclass(frozen=True, slots=True)
class Cue:
    """A subtitle: its lines, and its start and end in seconds."""

    lines: tuple[str, ...]
    start: float
    end: float


def write_transcript(path: Path | str, transcript: Transcript, width: int = WIDTH, lines: int = LINES) -> None:
    """Write a transcript, atomically, in the format that the name of the file ends in.

    Args:
        path: The file: .txt, .json, .srt, .vtt or .tsv.
        transcript: The transcript.
        width: The longest line of a subtitle, in characters.
        lines: The largest number of lines of a subtitle.

    Raises:
        InputError: the name has another ending, or a number is out of range.
    """
    write_text(path, as_text(transcript, Path(path).suffix.removeprefix(".").lower(), width, lines))


def check_formats(formats: Sequence[str]) -> None:
    """Check names of formats. Raises InputError."""
    wrong = [name for name in formats if name not in FORMATS]
    if wrong or not formats:
        raise InputError(f"format must be one or several of {', '.join(FORMATS)}; got {wrong[0] if wrong else 'none'}.")


def as_text(transcript: Transcript, format: str, width: int = WIDTH, lines: int = LINES) -> str:
    """Return a transcript in a format, as the content of a file. See `write_transcript` for the arguments.

    - txt: a line for each segment;
    - json: `Transcript.as_dict`, with all words;
    - srt, vtt: subtitles;
    - tsv: the same subtitles as a table: start and end in milliseconds, and the text.
    """
    check_formats([format])
    check_count("width", width, 1)
    check_count("lines", lines, 1)
    if format == "txt":
        return "".join(f"{segment.text}\n" for segment in transcript.segments)
    if format == "json":
        return json.dumps(transcript.as_dict(), indent=2, ensure_ascii=False) + "\n"
    cues = subtitles(transcript, width, lines)
    if format == "srt":
        blocks = [
            f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_joined(cue)}\n"
            for number, cue in enumerate(cues, start=1)
        ]
        return "\n".join(blocks)
    if format == "vtt":
        blocks = [f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escaped(_joined(cue))}\n" for cue in cues]
        return "\n".join(["WEBVTT\n", *blocks])
    rows = (f"{_ms(cue.start)}\t{_ms(cue.end)}\t{' '.join(cue.lines)}\n" for cue in cues)
    return "start\tend\ttext\n" + "".join(rows)


def subtitles(transcript: Transcript, width: int = WIDTH, lines: int = LINES) -> list[Cue]:
    """Return the words of a transcript as subtitles.

    A subtitle ends at a pause of 0.7 s, at the end of a segment, after 7 s, where its lines are full, or at the end of
    a sentence if it is half full. It stays for a second at least, if the next one and the end of the audio leave the
    time.
    """
    cues: list[Cue] = []
    for segment in transcript.segments:
        joint = "" if len(segment.words) > 1 and " " not in segment.text else " "
        for group in _groups(segment.words, joint, width, lines):
            texts = _balanced([word.text for word in group], joint, width, lines)
            cues.append(Cue(texts, group[0].start, group[-1].end))
    last = transcript.seconds
    following = [*(cue.start for cue in cues[1:]), last]
    timed = (
        Cue(cue.lines, cue.start, max(cue.end, min(cue.start + _SHORTEST, after)))
        for cue, after in zip(cues, following, strict=False)
    )
    # A player shows nothing that is past the end.
    return [
        replace(
            cue,
            start=min(cue.start, max(last - _SHORTEST, 0.0)) if cue.start >= last else cue.start,
            end=min(cue.end, last),
        )
        for cue in timed
    ]


def _groups(words: Sequence[Word], joint: str, width: int, lines: int) -> Iterator[list[Word]]:
    group: list[Word] = []
    for word in words:
        if group:
            texts = [one.text for one in (*group, word)]
            full = len(_wrapped(texts, joint, width)) > lines
            ended = group[-1].text.endswith(_ENDS) and sum(map(len, texts)) > width * lines / 2
            if full or ended or word.start - group[-1].end >= _PAUSE or word.end - group[0].start > _LONGEST:
                yield group
                group = []
        group.append(word)
    if group:
        yield group


def _wrapped(words: Sequence[str], joint: str, width: int) -> list[str]:
    """Return words in lines of at most `width` characters; a longer word has a line of its own."""
    made: list[str] = []
    for word in words:
        if made and len(made[-1]) + len(joint) + len(word) <= width:
            made[-1] += joint + word
        else:
            made.append(word)
    return made


def _balanced(words: Sequence[str], joint: str, width: int, lines: int) -> tuple[str, ...]:
    """Return words in as few lines as possible, of lengths that are as equal as possible."""
    count = len(_wrapped(words, joint, width))
    narrowest = max(map(len, words))
    fitting = (one for one in range(narrowest, width) if len(_wrapped(words, joint, one)) <= max(1, min(count, lines)))
    return tuple(_wrapped(words, joint, next(fitting, width)))


def _joined(cue: Cue) -> str:
    return "\n".join(cue.lines).replace("-->", "->")  # an arrow in a text would end the cue


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _clock(seconds: float, point: str) -> str:
    minutes, ms = divmod(_ms(seconds), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{ms // 1000:02}{point}{ms % 1000:03}"
