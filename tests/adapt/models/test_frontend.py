"""Features of a padded batch are those of each utterance alone, with mean 0 and deviation 1."""

import pytest
import torch

from adapt.errors import InputError
from adapt.models.frontend import HOP, Frontend

SIZES = {"log_mel": 20, "mfcc": 13, "waveform": 1}


@pytest.fixture(params=SIZES)
def frontend(request):
    return Frontend(request.param, SIZES[request.param])


def noise(*samples):
    draw = torch.Generator().manual_seed(0)
    audio = [torch.randn(n, generator=draw) * 0.2 + 0.1 for n in samples]
    return torch.nn.utils.rnn.pad_sequence(audio, batch_first=True), torch.tensor(samples)


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 399, 400, 1600, 2047])
def test_shape_and_steps(frontend, samples):
    features, steps = frontend(*noise(samples))
    expected = samples if frontend.features == "waveform" else samples // HOP + 1
    assert features.shape == (1, SIZES[frontend.features], expected) and steps.tolist() == [expected]
    assert torch.isfinite(features).all()


def test_padding_is_invisible(frontend):
    audio, lengths = noise(3200, 1000, 1601)
    together, steps = frontend(audio, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, own = frontend(audio[row : row + 1, :length], lengths[row : row + 1])
        assert own == steps[row]
        torch.testing.assert_close(together[row, :, : steps[row]], alone[0], atol=1e-4, rtol=1e-4)
        assert not together[row, :, steps[row] :].any()


def test_mean_and_deviation_of_an_utterances_own_frames(frontend):
    audio, lengths = noise(3200, 1700)
    features, steps = frontend(audio, lengths)
    for row, own in zip(features, steps.tolist(), strict=True):
        torch.testing.assert_close(row[:, :own].mean(1), torch.zeros(len(row)), atol=1e-4, rtol=0)
        torch.testing.assert_close(row[:, :own].std(1, correction=0), torch.ones(len(row)), atol=0.02, rtol=0)


def test_loudness_does_not_matter(frontend):
    audio, lengths = noise(3200)
    quiet, loud = frontend(audio, lengths)[0], frontend(audio * 3, lengths)[0]
    torch.testing.assert_close(quiet, loud, atol=0.05, rtol=0)


def test_silence_is_near_zero(frontend):
    features, _ = frontend(torch.zeros(1, 1600), torch.tensor([1600]))
    assert features.abs().max() < 0.1


def test_the_waveform_passes_unfiltered():
    audio, lengths = noise(500)
    features, _ = Frontend("waveform", 1)(audio, lengths)
    expected = (audio - audio.mean()) / audio.std(correction=0)
    torch.testing.assert_close(features[:, 0], expected, atol=0.02, rtol=0.01)


def test_features_carry_no_gradient(frontend):
    audio, lengths = noise(800)
    assert not frontend(audio.requires_grad_(), lengths)[0].requires_grad


@pytest.mark.parametrize(
    ("features", "n_features"),
    [("video", 40), ("", 40), (None, 40), ("waveform", 40), ("mfcc", 41), ("log_mel", 0), ("mfcc", 0), ("log_mel", -1)],
)
def test_what_cannot_be_computed_is_an_input_error(features, n_features):
    with pytest.raises(InputError):
        Frontend(features, n_features)
