"""Change the sampling rate of audio, with a bound on the memory that this takes."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

# torchaudio's filter has one row per phase. It is used up to this number of values (8 MB while it is made): for all
# usual pairs of rates, and for speeds with two decimals at 8 and 16 kHz.
MAX_FILTER_VALUES = 1 << 20
_ZEROS = 6  # torchaudio's lowpass_filter_width: the zero crossings of the filter on each side
_ROLLOFF = 0.99  # torchaudio's rolloff: the cutoff, as a share of the Nyquist frequency


def resample(audio: Tensor, rate: int, target: int) -> Tensor:
    """Resample `(samples,)` audio from `rate` Hz to `target` Hz.

    torchaudio's windowed sinc does this for rates with a large common factor. It keeps a filter for each of `target`
    phases in lowest terms: 5 GB for 11,127 to 16,000 Hz. For such pairs, soxr's filter (high quality) is used instead.

    Returns:
        The audio, `(resampled_length(samples, rate, target),)`.
    """
    if rate == target or not len(audio):
        return audio
    if filter_values(rate, target) <= MAX_FILTER_VALUES:
        return _resampler(rate, target)(audio)
    import soxr

    made = soxr.resample(audio.numpy(), rate, target, quality="HQ")
    wanted = resampled_length(len(audio), rate, target)
    return torch.from_numpy(np.pad(made[:wanted], (0, max(0, wanted - len(made)))))


def resampled_length(samples: int, rate: int, target: int) -> int:
    """Return how many samples `resample` returns."""
    if rate == target:
        return samples
    divisor = math.gcd(rate, target)
    # As torchaudio computes it: in 32 bits, which matters for long audio.
    return int(torch.ceil(torch.as_tensor((target // divisor) * samples / (rate // divisor))))


def filter_values(rate: int, target: int) -> int:
    """Return how many values torchaudio's filter has for this pair of rates."""
    divisor = math.gcd(rate, target)
    old, new = rate // divisor, target // divisor
    width = math.ceil(_ZEROS * old / (min(old, new) * _ROLLOFF))
    return new * (2 * width + old)


@lru_cache(maxsize=16)
def _resampler(rate: int, target: int) -> torch.nn.Module:
    from torchaudio.transforms import Resample

    return Resample(rate, target)
