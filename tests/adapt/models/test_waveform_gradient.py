"""Gradients with respect to the waveform, through features that equal the real ones."""

import pytest
import torch
from tone_speech import tones

from adapt import load_model
from adapt.models.waveform_gradient import waveform_gradient
from adapt.models.whisper_features import whisper_features


@pytest.mark.slow
def test_whisper_features_equal_those_of_the_extractor(whisper):
    model = load_model(str(whisper)).model
    waves = [torch.from_numpy(tones(text)) for text in ("abc dab", "ce")]
    audio = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    lengths = torch.tensor([len(wave) for wave in waves])
    audio[1, lengths[1] :] = 0.3  # what lies after an utterance's end is not read
    extractor = model.processor.feature_extractor
    real = extractor([wave.numpy() for wave in waves], sampling_rate=16_000, return_tensors="pt")["input_features"]
    assert torch.allclose(whisper_features(audio, lengths, extractor), real, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["base", "wav2vec2", "whisper"])
def test_the_gradient_is_that_of_the_loss(family, request):
    """Along the gradient, the output changes as finite differences say; without the block there is no gradient."""
    model = load_model(str(request.getfixturevalue(family))).model.double().eval()
    wave = torch.from_numpy(tones("abc dab")).double().unsqueeze(0)
    lengths = torch.tensor([wave.shape[1]])

    def output(x):
        if family == "whisper":
            return model.float()(x.float(), lengths, torch.tensor([model.encode("ab")])).log_softmax(-1)[..., 5].sum()
        return model(x, lengths).log_probs[..., 1].sum()

    trained = [own.requires_grad for own in model.parameters()]
    with waveform_gradient(model):
        x = wave.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(output(x), x)
        assert not any(own.requires_grad for own in model.parameters())
        step = 2e-5 * gradient / gradient.norm()
        rise = (output(wave + step) - output(wave - step)) / 2
    assert float(rise) == pytest.approx(float((gradient * step).sum()), rel=0.1)
    assert [own.requires_grad for own in model.parameters()] == trained
    x = wave.clone().requires_grad_(True)
    (unused,) = torch.autograd.grad(output(x), x, allow_unused=True)
    assert unused is None or family == "wav2vec2" and not unused.any()
