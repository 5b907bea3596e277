"""Attacks: the model writes another text, within the budget, as it reads a 16-bit file."""

import numpy as np
import pytest
import soundfile
import torch
from tone_speech import RATE, tones

from adapt import load_model
from adapt.adversarial.attack import attack, hear, noise_like, quantised
from adapt.adversarial.bounds import Bound, snr_of
from adapt.adversarial.parting import part
from adapt.data.recording import Recording
from adapt.errors import InputError

SPOKEN, TARGET = "bad cab", "bad cad"


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


@pytest.fixture(scope="module")
def recording():
    return Recording(tones(SPOKEN), RATE, name="take")


@pytest.fixture(scope="module")
def attacked(loaded, recording):
    return attack(loaded.model, recording, TARGET, snr=10, steps=150)


@pytest.mark.slow
def test_the_target_is_written_within_the_budget(loaded, attacked, tmp_path):
    assert attacked.success and (attacked.before, attacked.after) == (SPOKEN, TARGET)
    assert attacked.snr >= 10 and attacked.snr == pytest.approx(
        snr_of(torch.from_numpy(attacked.clean), torch.from_numpy(attacked.samples) - torch.from_numpy(attacked.clean))
    )
    # Through a file and the ordinary path.
    soundfile.write(tmp_path / "take.wav", attacked.samples, attacked.rate, subtype="PCM_16")
    assert loaded.transcribe([tmp_path / "take.wav"]) == [TARGET]
    assert attacked.losses[attacked.found_at - 1] < attacked.losses[0]


@pytest.mark.slow
def test_noise_as_loud_changes_nothing(attacked):
    assert attacked.noise == SPOKEN and attacked.noise != attacked.after
    noise = attacked.noisy.astype(float) - attacked.clean
    energies = [np.square(values).sum() for values in (noise, attacked.samples.astype(float) - attacked.clean)]
    assert energies[0] == pytest.approx(energies[1], rel=0.05)


@pytest.mark.slow
def test_the_quietest_success_is_kept(loaded, recording, attacked):
    first = attack(loaded.model, recording, TARGET, snr=10, steps=attacked.found_at - 1)
    assert not first.success or first.snr <= attacked.snr


@pytest.mark.slow
def test_the_seed_reproduces_it_and_weights_are_left_alone(loaded, recording):
    state = {name: own.clone() for name, own in loaded.model.state_dict().items()}
    trained = [own.requires_grad for own in loaded.model.parameters()]
    one, two, other = (attack(loaded.model, recording, snr=20, steps=12, seed=seed) for seed in (3, 3, 4))
    assert one.losses == two.losses and np.array_equal(one.samples, two.samples)
    assert one.losses != other.losses
    assert all(torch.equal(state[name], own) for name, own in loaded.model.state_dict().items())
    assert [own.requires_grad for own in loaded.model.parameters()] == trained


@pytest.mark.slow
def test_without_a_target_any_other_answer_counts(loaded, recording):
    found = attack(loaded.model, recording, snr=5, steps=60)
    assert found.success and found.target is None and found.after != found.before == SPOKEN


@pytest.mark.slow
def test_a_budget_that_does_not_suffice_fails_openly(loaded, recording):
    found = attack(loaded.model, recording, TARGET, snr=90, steps=5)
    assert not found.success and found.after != TARGET and found.found_at is None
    assert "no success" in found.summary()
    # A change below half of a 16-bit step is no change at all, however well it works in floats.
    assert not found.perturbation.any() or found.snr >= 80


@pytest.mark.slow
def test_progress_can_stop_and_cancel(loaded, recording):
    told = []

    def stop(step):
        told.append(step)
        return step.number == 4

    assert len(attack(loaded.model, recording, TARGET, steps=50, progress=stop).losses) == 4
    assert [step.number for step in told] == [1, 2, 3, 4] and told[0].steps == 50 and told[0].snr is None

    def cancel(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attack(loaded.model, recording, TARGET, steps=50, progress=cancel)
    assert not loaded.model.training or loaded.model.training  # the model still answers
    assert hear(loaded.model, quantised(torch.from_numpy(recording.samples)), recording) == SPOKEN


@pytest.mark.slow
@pytest.mark.parametrize("family", ["wav2vec2", "whisper"])
def test_other_families(family, request):
    """Random networks: any other answer, with a gradient through their features."""
    model = load_model(str(request.getfixturevalue(family))).model
    recording = Recording(tones("abc dab"), RATE)
    before = hear(model, quantised(torch.from_numpy(recording.samples)), recording)
    target = None if before.strip() else "ab"
    found = attack(model, recording, target, snr=0, steps=3)
    assert len(found.losses) == 3 and found.perturbation.any() and found.before == before


@pytest.mark.slow
def test_the_mask_bounds_the_spectrum(loaded, recording):
    found = attack(loaded.model, recording, snr=None, mask=0, steps=10)
    assert found.above_mask is not None and found.above_mask < 0.05
    assert found.snr > 10


@pytest.mark.slow
def test_parting(loaded, attacked):
    found = part(loaded.model, attacked, share=1.0)
    assert len(found.layers) == 11 and found.attacked_loss > found.clean_loss
    for layer in found.layers:
        # A chain of layers: all units of any layer restore the answer.
        assert layer.restored == pytest.approx(1, abs=1e-3) and layer.units == len(layer.moved)
        assert 0 < layer.noise_distance < layer.distance
    few = part(loaded.model, attacked, share=0.05)
    assert few.carrier == max(few.layers, key=lambda own: own.restored).layer
    best = next(layer for layer in few.layers if layer.layer == few.carrier)
    assert best.restored > best.restored_random


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "bad xyz"}, "cannot be written: the text contains 'x', 'y', 'z'"),
        ({"target": "  "}, "The target text is empty"),
        ({"target": SPOKEN}, "the model writes 'bad cab' already"),
        ({"target": "abcde " * 40}, "output steps"),
        ({"snr": None}, "Give the budget of the attack"),
        ({"snr": float("nan")}, "snr must be a number"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"seconds": 0}, "seconds must be a number above 0"),
    ],
)
def test_refusals(loaded, recording, options, message):
    with pytest.raises(InputError, match=message):
        attack(loaded.model, recording, **options)


def test_silence_long_recordings_and_text_models_are_refused(loaded, marian):
    with pytest.raises(InputError, match="digital silence"):
        attack(loaded.model, Recording(np.zeros(RATE, dtype=np.float32), RATE))
    with pytest.raises(InputError, match="longer than what the model reads at once"):
        attack(loaded.model, Recording(np.zeros(RATE * 61, dtype=np.float32), RATE))
    with pytest.raises(InputError, match="reads text"):
        attack(load_model(str(marian)).model, Recording(tones("ab"), RATE))


def test_noise_has_the_spectrum_of_the_perturbation():
    wave = torch.sin(torch.arange(4000) * 0.3)
    noise = noise_like(wave, 0)
    assert float(noise.norm()) == pytest.approx(float(wave.norm()), rel=1e-4)
    peaks = [int(torch.fft.rfft(own).abs().argmax()) for own in (wave, noise)]
    assert peaks[0] == peaks[1] and not torch.allclose(noise, wave, atol=0.1)


def test_bounds():
    clean = torch.from_numpy(tones("abc"))
    loud = torch.randn(len(clean), generator=torch.Generator().manual_seed(0))
    bound = Bound(clean, RATE, snr=20, mask=None)
    assert snr_of(clean, bound.project(loud, 0)) == pytest.approx(20, abs=1e-3)
    assert snr_of(clean, bound.project(loud, 6)) == pytest.approx(26, abs=1e-3)
    quiet = bound.project(loud, 40)
    assert torch.equal(bound.project(quiet, 0), quiet)
    assert bound.size(0) == pytest.approx(float(bound.project(loud, 0).square().mean().sqrt()), rel=1e-3)
    masked = Bound(clean, RATE, snr=None, mask=0)
    assert masked.above_mask(loud) > 0.5 > 0.1 > masked.above_mask(masked.project(loud, 0))
    both = Bound(clean, RATE, snr=60, mask=0)
    assert snr_of(clean, both.project(loud, 0)) >= 60 - 1e-3
