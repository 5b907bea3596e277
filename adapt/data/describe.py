"""What speech data consist of: duration, speakers, characters, sampling rates, and what is there twice."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adapt.data.audio import AudioReader
from adapt.data.audio_file import open_audio
from adapt.data.manifest import Utterance, read_manifest
from adapt.data.text import strip_punctuation
from adapt.errors import InputError
from adapt.files import file_problem, resolved
from adapt.formatting import counted
from adapt.progress import track

_SHOWN = 60  # characters, and names in a line
_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class DataFacts:
    """The facts about a set of utterances.

    Attributes:
        utterances: how many there are.
        seconds: their total duration.
        longest: the duration of the longest, in seconds.
        speakers: the seconds of each speaker; utterances without a speaker are not counted.
        unknown: the number of utterances without a speaker.
        characters: how often each character of the texts occurs.
        rates: how many audio files have each sampling rate, in Hz; 0 if it is not known.
        same_audio: groups of places with the same audio: the same part of files with the same content.
        same_text: groups of places at which a speaker says the same text again.
    """

    utterances: int
    seconds: float
    longest: float
    speakers: Mapping[str, float]
    unknown: int
    characters: Mapping[str, int]
    rates: Mapping[int, int]
    same_audio: tuple[tuple[str, ...], ...] = ()
    same_text: tuple[tuple[str, ...], ...] = ()

    def lines(self) -> list[str]:
        """Return the facts in words, a line each."""
        count = len(self.speakers)
        speakers = ", ".join(f"{name} ({_minutes(seconds)})" for name, seconds in _largest(self.speakers))
        unknown = f"; without a speaker: {counted(self.unknown, 'utterance')}" if self.unknown else ""
        rates = ", ".join(
            f"{rate or 'unknown'} Hz ({counted(number, 'file')})" for rate, number in sorted(self.rates.items())
        )
        found = [
            f"{counted(self.utterances, 'utterance')}, {_minutes(self.seconds)}; "
            f"the longest lasts {self.longest:.1f} s",
            f"{counted(count, 'speaker')}{': ' if count else ''}{speakers}{unknown}",
            f"{counted(len(self.characters), 'character')}: {_characters(self.characters)}",
            f"sampling rates: {rates}",
        ]
        for what, groups in (("the same audio", self.same_audio), ("the same text by one speaker", self.same_text)):
            if groups:
                places = " and ".join(groups[0][:2])
                found.append(
                    f"{what}: {sum(map(len, groups)):,} utterances in {counted(len(groups), 'group')}, such as {places}"
                )
        return found


@dataclass(frozen=True)
class Manifest:
    """Speech data, read and checked.

    Attributes:
        utterances: the utterances whose audio file could be opened, with their durations.
        problems: one sentence for each line that cannot be used.
        facts: what they consist of.
        digests: for each utterance, an identifier of its audio: the file's content and the part of it.
    """

    utterances: tuple[Utterance, ...]
    problems: tuple[str, ...]
    facts: DataFacts
    digests: tuple[str, ...] = field(repr=False, default=())


def manifest(
    place: Path | str,
    audio_column: str | None = None,
    text_column: str | None = None,
    audio_folder: Path | str | None = None,
    normalise: bool = False,
) -> Manifest:
    """Read speech data of any format, open each audio file, and describe the data.

    `adapt.data.manifest.write_manifest` writes the utterances, and `adapt.data.parts.split_data` divides them.

    Args:
        place: a file or folder, as in `read_manifest`. The other arguments are explained there, too.
        audio_column: the column or key of the audio file.
        text_column: the same for the text.
        audio_folder: the folder at which relative audio paths start.
        normalise: whether to remove punctuation from the texts and lower-case them.

    Raises:
        InputError: the data cannot be read, or no audio file can be opened.
    """
    utterances, problems = read_manifest(place, True, audio_column, text_column, audio_folder)
    kept: list[Utterance] = []
    digests: list[str] = []
    files: dict[Path, tuple[str, int]] = {}
    for utterance in track(utterances, "reading audio"):
        try:
            utterance = _normalised(utterance) if normalise else utterance
            path = resolved(utterance.audio_filepath)
            if path not in files:
                files[path] = _examined(utterance)
            seconds = _seconds(utterance)
        except InputError as error:
            problems.append(str(error))
            continue
        kept.append(replace(utterance, duration=round(seconds, 4)))
        digests.append(f"{files[path][0]} {utterance.offset:.3f} {seconds:.2f}")
    if not kept:
        raise InputError(f"'{place}' has no utterance with a readable audio file. The first problem: {problems[0]}")
    facts = describe(kept, Counter(rate for _, rate in files.values()), digests)
    return Manifest(tuple(kept), tuple(problems), facts, tuple(digests))


def describe(utterances: Sequence[Utterance], rates: Mapping[int, int], digests: Sequence[str]) -> DataFacts:
    """Return the facts about utterances with known durations.

    Args:
        utterances: the utterances.
        rates: how many audio files have each sampling rate, in Hz.
        digests: an identifier of each utterance's audio.
    """
    speakers: dict[str, float] = {}
    characters: Counter[str] = Counter()
    audio: dict[str, list[str]] = {}
    texts: dict[tuple[str, str], list[str]] = {}
    for utterance, digest in zip(utterances, digests, strict=True):
        characters.update(utterance.text)
        audio.setdefault(digest, []).append(utterance.where)
        if utterance.speaker is not None:
            speakers[utterance.speaker] = speakers.get(utterance.speaker, 0.0) + (utterance.duration or 0.0)
            texts.setdefault((utterance.speaker, " ".join(utterance.text.lower().split())), []).append(utterance.where)
    durations = [utterance.duration or 0.0 for utterance in utterances]
    return DataFacts(
        len(utterances),
        sum(durations),
        max(durations, default=0.0),
        speakers,
        sum(utterance.speaker is None for utterance in utterances),
        dict(characters.most_common()),
        dict(rates),
        tuple(tuple(places) for places in audio.values() if len(places) > 1),
        tuple(tuple(places) for places in texts.values() if len(places) > 1),
    )


def _normalised(utterance: Utterance) -> Utterance:
    text = strip_punctuation(utterance.text)
    if not text:
        raise InputError(f"{utterance.where}: without punctuation the text is empty.")
    return replace(utterance, text=text)


def _examined(utterance: Utterance) -> tuple[str, int]:
    """Return a digest of an audio file's bytes, and its sampling rate in Hz; 0 if the file cannot be read as audio."""
    path = utterance.audio_filepath
    problem = file_problem(path, "audio file")
    if problem is not None:
        raise InputError(f"{utterance.where}: {problem}.")
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{utterance.where}: '{path}' cannot be read ({error.strerror}).") from None
    try:
        with open_audio(path) as source:
            rate = source.rate
    except InputError:
        rate = 0  # `_seconds` names the file
    return digest.hexdigest(), rate


def _seconds(utterance: Utterance) -> float:
    """Return the duration in seconds. Raises InputError if the file cannot be read, or ends too early."""
    where = f"{utterance.where}: '{utterance.audio_filepath}'"
    whole = AudioReader(16_000).length(replace(utterance, offset=0.0, duration=None))
    seconds = whole - utterance.offset if utterance.duration is None else utterance.duration
    if seconds <= 0 or utterance.offset + seconds > whole + 0.05:
        raise InputError(
            f"{where} lasts {whole:.2f} s, and the utterance should run from {utterance.offset:.2f} s to "
            f"{utterance.offset + seconds:.2f} s. Correct 'offset' and 'duration'."
        )
    return seconds


def _minutes(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 60
        else f"{seconds / 60:.1f} min"
        if seconds < 3600
        else f"{seconds / 3600:.2f} h"
    )


def _largest(speakers: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(speakers.items(), key=lambda item: (-item[1], item[0]))[:8]


def _characters(characters: Mapping[str, int]) -> str:
    shown = sorted(characters)
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in shown[:_SHOWN]) + more
