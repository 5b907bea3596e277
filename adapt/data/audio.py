"""Read audio in any format that soundfile supports, with any sample rate and channel count, as mono at one rate."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from adapt.data.kinds import unexpected
from adapt.data.manifest import Utterance
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.files import file_problem


@dataclass(frozen=True)
class AudioReader:
    """Read utterances as waveforms `(samples,)` at `sample_rate` Hz."""

    sample_rate: int
    unit: Literal["seconds", "tokens"] = "seconds"

    def length(self, utterance: Utterance | Recording) -> float:
        """Return the duration in seconds, without reading all of the audio."""
        if isinstance(utterance, Recording):
            return utterance.duration
        if not isinstance(utterance, Utterance):
            raise unexpected(utterance, "audio")
        if utterance.duration is not None:
            return utterance.duration
        import soundfile

        info = soundfile.info(str(utterance.audio_filepath))
        return info.frames / info.samplerate - utterance.offset

    def read(self, utterance: Utterance | Recording, speed: float = 1.0) -> Tensor:
        """Return the samples, `(samples,)`; a `speed` above 1 shortens them. Raises InputError as `read_audio` does."""
        if isinstance(utterance, Recording):
            samples = resample(torch.from_numpy(utterance.samples), utterance.sample_rate, self.sample_rate)
        elif isinstance(utterance, Utterance):
            samples = read_audio(utterance, self.sample_rate)
        else:
            raise unexpected(utterance, "audio")
        return resample(samples, round(self.sample_rate * speed), self.sample_rate)


def read_audio(utterance: Utterance, sample_rate: int) -> Tensor:
    """Return the utterance's samples, `(samples,)` float32 from -1 to 1, resampled to `sample_rate` Hz and mono.

    Raises:
        InputError: the file is missing, is not audio, ends before the utterance does, or contains NaN or infinity.
    """
    import soundfile

    path = utterance.audio_filepath
    prefix = f"{utterance.where}: " if utterance.where else ""
    if not math.isfinite(utterance.offset + (utterance.duration or 0.0)):
        raise InputError(
            f"{prefix}offset {utterance.offset} and duration {utterance.duration} must be finite, in seconds."
        )
    if (problem := file_problem(path, "audio file")) is not None:
        raise InputError(f"{prefix}{problem}. Relative paths start at the manifest's folder.")
    try:
        with soundfile.SoundFile(path) as file:
            rate, frames = file.samplerate, file.frames
            start = round(utterance.offset * rate)
            wanted = frames - start if utterance.duration is None else round(utterance.duration * rate)
            if start >= frames or start + wanted > frames + 0.05 * rate:  # tolerance: manifests round durations
                raise InputError(
                    f"{prefix}'{path}' lasts {frames / rate:.2f} s, and the utterance should run from "
                    f"{utterance.offset:.2f} s to {(start + wanted) / rate:.2f} s. Correct 'offset' and 'duration'."
                )
            wanted = min(wanted, frames - start)
            file.seek(start)
            samples = file.read(wanted, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{prefix}'{path}' cannot be read as audio ({error.error_string.strip()}).") from None
    except TypeError:  # raised by soundfile for .raw files, whose sample rate it does not know
        raise InputError(f"{prefix}'{path}' has no header with its format. Convert it to WAV or FLAC.") from None
    if len(samples) < wanted - rate // 20:
        raise InputError(
            f"{prefix}'{path}' is truncated: its header announces {wanted / rate:.2f} s, but only "
            f"{len(samples) / rate:.2f} s could be read."
        )
    if not np.isfinite(samples).all():
        raise InputError(f"{prefix}'{path}' contains samples that are not numbers (NaN or infinite).")
    return resample(torch.from_numpy(samples.mean(axis=1)), rate, sample_rate)


def resample(audio: Tensor, rate: int, target: int) -> Tensor:
    """Resample `(samples,)` audio from `rate` Hz to `target` Hz (torchaudio's windowed sinc)."""
    return audio if rate == target else _resampler(rate, target)(audio)


@lru_cache(maxsize=16)
def _resampler(rate: int, target: int) -> torch.nn.Module:
    from torchaudio.transforms import Resample

    return Resample(rate, target)
