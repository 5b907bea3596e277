"""The budget of an attack: how loud a perturbation may be."""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from adapt.adversarial.masking import masking_threshold, spectrum, wave_of
from adapt.checks import check_number
from adapt.errors import InputError

_PROJECTIONS = 3  # overlapping frames of the spectrum are not independent, so one projection is not exact


def snr_of(clean: Tensor, perturbation: Tensor) -> float:
    """Return the signal-to-noise ratio in dB: the energy of the speech over that of the perturbation."""
    noise = float(perturbation.double().square().sum())
    return float("inf") if noise == 0 else 10 * float(torch.log10(clean.double().square().sum() / noise))


class Bound:
    """The perturbations that the budget allows, and those that are quieter than the budget by some dB.

    Args:
        clean: `(samples,)`, the speech.
        rate: The sample rate in Hz.
        snr: The least signal-to-noise ratio in dB; None for no such bound.
        mask: The most dB above the masking threshold of the speech (negative: below it); None for no such bound.

    Raises:
        InputError: Neither is given, one is not a number, or the speech is silence.
    """

    def __init__(self, clean: Tensor, rate: int, snr: float | None, mask: float | None) -> None:
        if snr is None and mask is None:
            raise InputError("Give the budget of the attack: snr=20, say, or mask=0, or both.")
        for name, value in (("snr", snr), ("mask", mask)):
            if value is not None:
                check_number(name, value, hint="It is in dB.")
        energy = float(clean.double().square().sum())
        if energy == 0:
            raise InputError("The recording is digital silence, so no perturbation is quieter than it.")
        self.snr, self.samples = snr, len(clean)
        self._radius = None if snr is None else (energy * 10 ** (-snr / 10)) ** 0.5
        self._limit = None if mask is None else masking_threshold(clean, rate) * 10 ** (mask / 20)
        # Frames overlap and the window leaks, so what is cut off at one point comes back from those around it. With
        # the least threshold of the neighbours, little does.
        self._least = None if self._limit is None else -max_pool2d(-self._limit[None], 3, 1, 1)[0]

    def project(self, perturbation: Tensor, quieter: float) -> Tensor:
        """Return the perturbation `(samples,)` made as quiet as the budget, and `quieter` dB more."""
        factor = 10 ** (-quieter / 20)
        if self._least is not None:
            for _ in range(_PROJECTIONS):
                values = spectrum(perturbation)
                scale = (factor * self._least / values.abs().clamp_min(1e-12)).clamp_max(1.0)
                perturbation = wave_of(values * scale, self.samples)
        if self._radius is not None:
            norm = float(perturbation.norm())
            perturbation = perturbation * min(1.0, factor * self._radius / max(norm, 1e-12))
        return perturbation

    def size(self, quieter: float) -> float:
        """Return the root mean square of the loudest perturbation that is allowed."""
        factor, sizes = 10 ** (-quieter / 20), []
        if self._radius is not None:
            sizes.append(self._radius / self.samples**0.5)
        if self._least is not None:
            turns = torch.linspace(0, 1e4, self._least.numel(), device=self._least.device).sin() * torch.pi
            loudest = wave_of(
                self._least * torch.polar(torch.ones_like(turns), turns).view_as(self._least), self.samples
            )
            sizes.append(float(loudest.square().mean().sqrt()))
        return factor * min(sizes)

    def above_mask(self, perturbation: Tensor) -> float | None:
        """Return the share of the spectrum where a perturbation is louder than its mask by 1 dB; None without one."""
        if self._limit is None:
            return None
        return float((spectrum(perturbation).abs() > self._limit * 10 ** (1 / 20)).double().mean())
