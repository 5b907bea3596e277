"""The masking threshold."""

import math

import pytest
import torch

from adapt.adversarial.masking import FFT, masking_threshold, spectrum, wave_of

RATE = 16_000


def test_a_tone_masks_its_neighbours_upwards_more_than_downwards():
    bin_ = 128  # 1 kHz
    wave = 0.5 * torch.sin(2 * math.pi * bin_ * RATE / FFT * torch.arange(RATE) / RATE)
    limit = masking_threshold(wave, RATE)
    frame = limit[:, limit.shape[1] // 2]
    levels = 20 * (frame / spectrum(wave).abs().max()).log10()
    # The three bins of the peak have 1.76 dB more than its middle; z = 8.5 Bark at 1 kHz.
    assert float(levels[bin_]) == pytest.approx(1.76 - 6.025 - 0.275 * 8.5, abs=0.2)
    assert levels[bin_ + 60] > levels[bin_ - 60]
    assert levels[bin_] > levels[bin_ + 20] > levels[bin_ + 60]


def test_the_threshold_follows_the_loudness_of_the_recording():
    wave = torch.randn(RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    assert torch.allclose(masking_threshold(wave / 10, RATE), masking_threshold(wave, RATE) / 10, rtol=1e-3)


def test_a_spectrum_comes_back_as_its_wave():
    wave = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(wave_of(spectrum(wave), 5000), wave, atol=1e-4)
