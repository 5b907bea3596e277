"""The masking threshold: how loud a perturbation may be at each time and frequency so that speech hides it.

The model is that of MPEG-1 as Lin and Abdulla (2015) describe it and Qin et al. (2019, arXiv 1903.10346, appendix A)
use it against speech recognisers; Schönherr et al. (2018, arXiv 1808.05665) use the one of MP3. The power of the
speech is normalised so that its loudest point has 96 dB. Local peaks mask their surroundings, less so upwards and
downwards on the Bark scale, and nothing is heard below the absolute threshold of hearing.
"""

import torch
from torch import Tensor

FFT, HOP = 2048, 512  # samples; 128 and 32 ms at 16 kHz
_PEAK = 96.0  # dB of the loudest point of the speech
_WIDTH = 0.5  # Bark; a smaller peak within this distance of a larger one does not mask


def masking_threshold(wave: Tensor, rate: int) -> Tensor:
    """Return the largest magnitude of the spectrum of a perturbation that the speech masks.

    Args:
        wave: `(samples,)`, the speech, at least one sample that is not 0.
        rate: The sample rate in Hz.

    Returns:
        `(bins, frames)`, in the units of `spectrum(wave)`.
    """
    power = spectrum(wave).abs().square().double() * (8 / 3)  # 8 / 3 compensates for the Hann window's loss
    levels = 10 * (power / power.max()).clamp_min(1e-20).log10() + _PEAK  # (bins, frames), dB
    frequencies = torch.arange(len(levels), dtype=torch.float64) * rate / FFT
    bark = 13 * (0.00076 * frequencies).atan() + 3.5 * (frequencies / 7500).square().atan()
    quiet = _threshold_of_hearing(frequencies)
    found = torch.stack([_frame_threshold(frame, bark, quiet) for frame in levels.T.cpu()], 1)  # (bins, frames), power
    return (found * 10 ** (-_PEAK / 10) * power.max().cpu() / (8 / 3)).sqrt().float().to(wave.device)


def spectrum(wave: Tensor) -> Tensor:
    """Return the spectrum of a wave `(samples,)`, complex `(bins, frames)`."""
    window = torch.hann_window(FFT, device=wave.device)
    return torch.stft(wave, FFT, HOP, window=window, pad_mode="constant", return_complex=True)


def wave_of(values: Tensor, samples: int) -> Tensor:
    """Return the wave `(samples,)` whose spectrum is nearest to `values`, complex `(bins, frames)`."""
    return torch.istft(values, FFT, HOP, window=torch.hann_window(FFT, device=values.device), length=samples)


def _threshold_of_hearing(frequencies: Tensor) -> Tensor:
    """Return the absolute threshold of hearing at frequencies in Hz, in dB (Terhardt 1979)."""
    kilo = frequencies.clamp_min(20.0) / 1000
    return 3.64 * kilo**-0.8 - 6.5 * (-0.6 * (kilo - 3.3).square()).exp() + 1e-3 * kilo**4


def _frame_threshold(level: Tensor, bark: Tensor, quiet: Tensor) -> Tensor:
    """Return the power that is masked in one frame `(bins,)`, from the levels in dB, `(bins,)`."""
    inner = level[1:-1]
    peaks = 1 + ((inner > level[:-2]) & (inner >= level[2:]) & (inner > quiet[1:-1])).nonzero().flatten()
    near = (bark[peaks].unsqueeze(1) - bark[peaks]).abs() < _WIDTH
    largest = torch.where(near, level[peaks], -torch.inf).amax(1) if len(peaks) else level[peaks]
    peaks = peaks[level[peaks] >= largest]
    around = torch.stack([level[peaks + offset] for offset in (-1, 0, 1)])
    maskers = 10 * (10 ** (around / 10)).sum(0).log10()  # (maskers,), dB
    distance = bark - bark[peaks].unsqueeze(1)  # (maskers, bins), Bark
    slope = -27 + 0.37 * (maskers - 40).clamp_min(0)
    spread = torch.where(distance < 0, 27 * distance, slope.unsqueeze(1) * distance)
    masked = (maskers - 6.025 - 0.275 * bark[peaks]).unsqueeze(1) + spread
    return 10 ** (quiet / 10) + (10 ** (masked / 10)).sum(0)
