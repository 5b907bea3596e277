"""The result of an attack."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Attacked:
    """An attacked recording, as the model reads it from a 16-bit file.

    Attributes:
        name: The name of the recording.
        target: The text that the model should write; None for any other.
        success: Whether the model writes it, or, without a target, another text than before.
        before: What the model writes for the recording.
        after: What it writes for the attacked one.
        snr: The energy of the speech over that of the perturbation, in dB; infinite if nothing changed.
        above_mask: The share of times and frequencies where the perturbation is more than 1 dB above the bound that the
            mask gives; None without a mask.
        noise: What the model writes with noise of the same energy and spectrum instead (the control).
        losses: The loss of each step.
        found_at: The step that found it; None without success.
        seconds: How long the search took.
        rate: The sample rate in Hz, that of the model.
        clean: `(samples,)` int16, the recording.
        samples: `(samples,)` int16, the attacked recording.
        noisy: `(samples,)` int16, the recording with the noise of the control.
        language: The language of the recording, under the key "lang", if it has one of its own.
    """

    name: str
    target: str | None
    success: bool
    before: str
    after: str
    snr: float
    above_mask: float | None
    noise: str
    losses: tuple[float, ...]
    found_at: int | None
    seconds: float
    rate: int
    clean: np.ndarray
    samples: np.ndarray
    noisy: np.ndarray
    language: Mapping[str, str] = field(default_factory=dict)

    @property
    def perturbation(self) -> np.ndarray:
        """The difference of the attacked and the clean recording, `(samples,)` float32 from -2 to 2."""
        return (self.samples.astype(np.float32) - self.clean.astype(np.float32)) / 32768

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON data, without the audio."""
        names = ("name", "target", "success", "before", "after", "above_mask", "noise", "found_at", "seconds", "rate")
        plain = {name: getattr(self, name) for name in names}
        snr = self.snr if np.isfinite(self.snr) else None
        return plain | {"snr": snr, "steps": len(self.losses), "losses": list(self.losses)}

    def summary(self) -> str:
        """Return the result as a sentence."""
        wanted = "another answer" if self.target is None else repr(self.target)
        if not self.success:
            return f"{self.name}: no success. It writes {self.after!r}, not {wanted}, at {self.snr:.1f} dB SNR."
        return (
            f"{self.name}: it writes {self.after!r} instead of {self.before!r} at {self.snr:.1f} dB SNR; with noise as "
            f"loud, {self.noise!r}."
        )
