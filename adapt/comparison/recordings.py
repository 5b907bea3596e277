"""Audio clips for the report: the recordings of the most changed transcripts as short MP3 files."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from adapt.data.audio import read_audio
from adapt.data.example import Example
from adapt.data.manifest import Utterance
from adapt.data.resampling import resample
from adapt.errors import InputError

if TYPE_CHECKING:
    from adapt.comparison.words import Transcript

MAX_SECONDS = 20.0  # of one clip
MAX_TOTAL_SECONDS = 240.0  # of all clips; a second takes about 4 kB, plus a third for base64 in the page
_SAMPLE_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # supported by MP3 (ISO/IEC)


@dataclass(frozen=True)
class AudioClip:
    """The audio of one utterance as an MP3 file, which every browser can play, and its duration in seconds."""

    mp3: bytes
    seconds: float


def make_audio_clips(
    transcripts: Sequence["Transcript"], sets: Mapping[str, Sequence[Example]], sample_rate: int, count: int
) -> dict[int, AudioClip]:
    """Encode the audio of up to `count` transcripts.

    Clips are taken alternately from the improved and the worsened transcripts of each set. Recordings longer than
    `MAX_SECONDS` are skipped, and so are recordings that would make the total exceed `MAX_TOTAL_SECONDS`.

    Args:
        transcripts: The transcripts of a comparison.
        sets: The examples of each set; `Transcript.index` refers to them.
        sample_rate: The sample rate of the model's input in Hz.
        count: The maximum number of clips.

    Returns:
        The clips, by the position of their transcript in `transcripts`. Text examples have no clips.

    Raises:
        InputError: An audio file cannot be read, or libsndfile cannot write MP3.
    """
    clips: dict[int, AudioClip] = {}
    remaining = MAX_TOTAL_SECONDS
    for index in _alternate(transcripts):
        example = sets[transcripts[index].set][transcripts[index].index]
        if len(clips) == count or not isinstance(example, Utterance):
            break
        audio = read_audio(example, sample_rate)
        seconds = len(audio) / sample_rate
        if seconds <= min(MAX_SECONDS, remaining):
            clips[index] = AudioClip(encode_mp3(audio, sample_rate), seconds)
            remaining -= seconds
    return dict(sorted(clips.items()))


def encode_mp3(audio: Tensor, sample_rate: int) -> bytes:
    """Encode samples `(samples,)` in [-1, 1] at `sample_rate` Hz as a mono MP3 file. The result is deterministic.

    Audio is resampled to 16 kHz if MP3 does not support the sample rate.
    Raises InputError if libsndfile cannot write MP3 (before version 1.1).
    """
    import soundfile

    if "MP3" not in soundfile.available_formats():
        raise InputError(
            f"libsndfile {soundfile.__libsndfile_version__} cannot write MP3 files. Install libsndfile 1.1 or newer."
        )
    supported = sample_rate if sample_rate in _SAMPLE_RATES else 16_000
    file = io.BytesIO()
    samples = resample(audio, sample_rate, supported).clamp(-1, 1).numpy()
    soundfile.write(file, samples, supported, format="MP3", subtype="MPEG_LAYER_III")
    return file.getvalue()


def _alternate(transcripts: Sequence["Transcript"]) -> list[int]:
    """Order transcripts by rank within their queue. Each set has a queue of improved and one of worsened ones."""
    queues: dict[tuple[str, bool], list[int]] = {}
    for index, transcript in enumerate(transcripts):
        queues.setdefault((transcript.set, transcript.improvement > 0), []).append(index)
    longest = max(map(len, queues.values()), default=0)
    return [queue[rank] for rank in range(longest) for queue in queues.values() if rank < len(queue)]
