"""Any pair of rates is resampled in bounded memory; the usual ones to the same bits as torchaudio."""

import numpy as np
import pytest
import torch
from torchaudio.transforms import Resample

from adapt.data import resampling
from adapt.data.resampling import MAX_FILTER_VALUES, filter_values, resample, resampled_length

RATES = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 37_800, 44_100, 48_000, 88_200, 96_000, 192_000]
SPEEDS = [0.5, 0.88, 0.9, 0.93, 0.94, 0.95, 1.05, 1.06, 1.1, 1.12, 2.0]
ODD = [(11_127, 16_000), (44_101, 16_000), (22_255, 16_000), (16_000, 15_999), (20_506, 22_050), (999_983, 16_000)]


def tone(rate, seconds=0.25):
    return torch.sin(2 * torch.pi * 300 * torch.arange(round(rate * seconds)) / rate) / 2


@pytest.mark.parametrize("target", [8_000, 16_000, 44_100])
def test_usual_rates_are_torchaudios_bits(target):
    for rate in set(RATES) - {target}:
        assert torch.equal(resample(tone(rate), rate, target), Resample(rate, target)(tone(rate)))


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_usual_speeds_are_torchaudios_bits(rate):
    for speed in SPEEDS:
        sped = round(rate * speed)
        assert torch.equal(resample(tone(rate), sped, rate), Resample(sped, rate)(tone(rate)))


@pytest.mark.parametrize(("rate", "target"), ODD)
def test_odd_rates_do_not_make_torchaudios_filter(monkeypatch, rate, target):
    assert filter_values(rate, target) > MAX_FILTER_VALUES
    monkeypatch.setattr(resampling, "_resampler", None)  # it would be called
    audio, expected = resample(tone(rate), rate, target), tone(target)
    assert audio.dtype == torch.float32 and len(audio) == resampled_length(len(tone(rate)), rate, target)
    assert abs(len(audio) - len(expected)) <= 1
    inner = slice(target // 50, len(expected) - target // 50)
    torch.testing.assert_close(audio[inner], expected[inner], atol=2e-4, rtol=0)
    assert torch.equal(audio, resample(tone(rate), rate, target))


def test_the_filter_of_every_pair_of_rates_is_bounded():
    """Without a bound, 11,127 to 16,000 Hz takes 178 million values, and several times this while they are made."""
    assert filter_values(11_127, 16_000) == 16_000 * (11_127 + 2 * 7)
    largest = max(filter_values(rate, target) for rate in RATES for target in RATES if rate != target)
    assert largest <= MAX_FILTER_VALUES
    # soxr is as good as torchaudio: noise up to half of the band comes back from another rate and back again
    noise = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32))
    smooth = resample(resample(noise, 16_000, 8_000), 8_000, 16_000)
    for rate in (22_255, 24_000):
        back = resample(resample(smooth, 16_000, rate), rate, 16_000)[1000:15_000]
        torch.testing.assert_close(back, smooth[1000:15_000], atol=2e-3, rtol=0)


@pytest.mark.parametrize(("rate", "target"), [*ODD[:5], (17_920, 16_000), (14_080, 16_000), (8_000, 16_000)])
def test_the_length_is_known_before(rate, target):
    for samples in (0, 1, 2, 5, 999, 4_321, 30_000):
        assert len(resample(torch.zeros(samples), rate, target)) == resampled_length(samples, rate, target)
