"""Recordings to listen to: of the transcripts that changed most, as small MP3 files that a page can hold."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from adapt.data.audio import read_audio, resample
from adapt.data.example import Example
from adapt.data.manifest import Utterance
from adapt.errors import InputError

if TYPE_CHECKING:
    from adapt.comparison.words import Transcript

LONGEST = 20.0  # seconds of one recording
MOST_SECONDS = 240.0  # of all: some 4 kB a second, and a third more within a page
_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # ISO/IEC 11172-3 and 13818-3, and 2.5


@dataclass(frozen=True)
class Recording:
    """One utterance's audio: an MP3 file, which every browser plays, and how many seconds it lasts."""

    mp3: bytes
    seconds: float


def recordings(
    transcripts: Sequence["Transcript"], sets: Mapping[str, Sequence[Example]], rate: int, most: int
) -> dict[int, Recording]:
    """At most so many recordings, by their transcript's place among `transcripts`, as a model at `rate` Hz hears them.

    In turn the first of each set that got better and of each that got worse. Recordings over 20 s are passed over, and
    so is what would make more than four minutes of all.

    Raises:
        InputError: a recording cannot be read any more, or libsndfile writes no MP3.
    """
    chosen: dict[int, Recording] = {}
    left = MOST_SECONDS
    for place in _in_turn(transcripts):
        example = sets[transcripts[place].set][transcripts[place].number]
        if len(chosen) == most or not isinstance(example, Utterance):
            break
        audio = read_audio(example, rate)
        seconds = len(audio) / rate
        if seconds <= min(LONGEST, left):
            chosen[place] = Recording(mp3(audio, rate), seconds)
            left -= seconds
    return dict(sorted(chosen.items()))


def mp3(audio: Tensor, rate: int) -> bytes:
    """Samples `(samples,)` in -1..1 at `rate` Hz as an MP3 file, mono; the same samples give the same bytes.

    A rate that MP3 does not know becomes 16 kHz. Raises InputError where libsndfile writes no MP3 (before 1.1).
    """
    import soundfile

    if "MP3" not in soundfile.available_formats():
        raise InputError(f"libsndfile {soundfile.__libsndfile_version__} writes no MP3; 1.1 and later do.")
    known = rate if rate in _RATES else 16_000
    file = io.BytesIO()
    samples = resample(audio, rate, known).clamp(-1, 1).numpy()
    soundfile.write(file, samples, known, format="MP3", subtype="MPEG_LAYER_III")
    return file.getvalue()


def _in_turn(transcripts: Sequence["Transcript"]) -> list[int]:
    """Places of transcripts: the first of each set's better and of its worse ones, then the second of each, ..."""
    queues: dict[tuple[str, bool], list[int]] = {}
    for place, transcript in enumerate(transcripts):
        queues.setdefault((transcript.set, transcript.better > 0), []).append(place)
    longest = max(map(len, queues.values()), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues.values() if turn < len(queue)]
