"""Audio in memory as an example."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from adapt.checks import check_count
from adapt.data.audio_file import RATES
from adapt.data.example import Phoneme
from adapt.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """An utterance whose audio is an array, not a file.

    Attributes:
        samples: `(samples,)` float32, mono, from -1 to 1. An int16 array is converted.
        sample_rate: the sample rate in Hz, from 1,000 to 1,000,000.
        text: the transcript, "" if it is not known.
        name: the name in reports and messages.
        phonemes: the phonemes, with times in seconds; may be empty.
        extra: further values by key, such as {"accent": "Scottish"}.
        where: what messages name as the place of the recording; its name if empty.
        speeds: the speeds of perturbation at which the model can learn it; None for all (`adapt.data.splits`).
    """

    samples: np.ndarray
    sample_rate: int
    text: str = ""
    name: str = "audio array"
    phonemes: tuple[Phoneme, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    speeds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_count("sample_rate", self.sample_rate, *RATES, hint="It is in Hz, such as 16_000.")
        samples = np.asarray(self.samples)
        if samples.ndim != 1 or not len(samples):
            raise InputError(
                f"{self.where or self.name}: expected mono audio of shape (samples,), got the shape {samples.shape}. "
                "Average the channels, and pass one utterance at a time."
            )
        if samples.dtype == np.int16:
            samples = samples / np.float32(1 << 15)
        if samples.dtype.kind != "f":
            raise InputError(f"{self.where or self.name}: expected float or int16 samples, got {samples.dtype}.")
        samples = samples.astype(np.float32)
        if not np.isfinite(samples).all():
            raise InputError(f"{self.where or self.name}: some samples are NaN or infinite.")
        object.__setattr__(self, "samples", samples)

    @property
    def duration(self) -> float:
        """The length in seconds."""
        return len(self.samples) / self.sample_rate

    def group(self, key: str) -> str:
        """Return the value of `key` in `extra` as text, or "unknown" if it is not there."""
        value = self.extra.get(key)
        return "unknown" if value is None else str(value)
