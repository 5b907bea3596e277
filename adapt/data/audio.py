"""Reading an utterance's audio: any format of soundfile's, any sample rate and channel count, to mono at one rate."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from adapt.data.manifest import Utterance
from adapt.errors import InputError


@dataclass(frozen=True)
class AudioReader:
    """Utterances as waveforms `(samples,)` at `sample_rate` Hz."""

    sample_rate: int
    unit: Literal["seconds", "tokens"] = "seconds"

    def length(self, utterance: Utterance) -> float:
        """How long it lasts, in seconds."""
        if utterance.duration is not None:
            return utterance.duration
        import soundfile

        info = soundfile.info(str(utterance.audio_filepath))
        return info.frames / info.samplerate - utterance.offset

    def read(self, utterance: Utterance, speed: float = 1.0) -> Tensor:
        """Its samples, `(samples,)`; `speed` above 1 makes it shorter. Raises InputError as `read_audio`."""
        return resample(read_audio(utterance, self.sample_rate), round(self.sample_rate * speed), self.sample_rate)


def read_audio(utterance: Utterance, sample_rate: int) -> Tensor:
    """Return the utterance's samples, `(samples,)` float32 in -1..1 at `sample_rate` Hz, channels averaged.

    Raises:
        InputError: the file is missing, is not audio, ends before the utterance does, or holds values that are not
            numbers.
    """
    import soundfile

    path = utterance.audio_filepath
    at = f"{utterance.where}: " if utterance.where else ""
    if not math.isfinite(utterance.offset + (utterance.duration or 0.0)):
        raise InputError(f"{at}offset {utterance.offset} and duration {utterance.duration} must be finite, in seconds.")
    if not path.is_file():
        raise InputError(f"{at}there is no audio file '{path}'. A relative path is taken from the manifest's folder.")
    try:
        with soundfile.SoundFile(path) as file:
            rate, frames = file.samplerate, file.frames
            start = round(utterance.offset * rate)
            wanted = frames - start if utterance.duration is None else round(utterance.duration * rate)
            if start >= frames or start + wanted > frames + 0.05 * rate:  # manifests round durations
                raise InputError(
                    f"{at}'{path}' lasts {frames / rate:.2f} s, and the utterance should run from "
                    f"{utterance.offset:.2f} s to {(start + wanted) / rate:.2f} s. Correct 'offset' and 'duration'."
                )
            wanted = min(wanted, frames - start)
            file.seek(start)
            samples = file.read(wanted, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise InputError(f"{at}'{path}' cannot be read as audio ({error.error_string.strip()}).") from None
    except TypeError:  # soundfile's answer to .raw, which says nothing of its rate
        raise InputError(f"{at}'{path}' has no header that says its format. Convert it to WAV or FLAC.") from None
    if len(samples) < wanted - rate // 20:
        raise InputError(
            f"{at}'{path}' breaks off: its header promises {wanted / rate:.2f} s, "
            f"{len(samples) / rate:.2f} s could be read."
        )
    if not np.isfinite(samples).all():
        raise InputError(f"{at}'{path}' holds samples that are not numbers (NaN or infinite).")
    return resample(torch.from_numpy(samples.mean(axis=1)), rate, sample_rate)


def resample(audio: Tensor, rate: int, target: int) -> Tensor:
    """Return `(samples,)` audio of `rate` Hz at `target` Hz (windowed sinc, torchaudio)."""
    return audio if rate == target else _resampler(rate, target)(audio)


@lru_cache(maxsize=16)
def _resampler(rate: int, target: int) -> torch.nn.Module:
    from torchaudio.transforms import Resample

    return Resample(rate, target)
