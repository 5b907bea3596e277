"""Detection of attacked recordings from inside, and by transformations."""

import numpy as np
import pytest
from tone_speech import RATE, tones

from adapt import load_model
from adapt.adversarial.detect import auroc, changed_answers, features, fit_detector, low_passed, requantised
from adapt.data.recording import Recording
from adapt.errors import InputError


def test_the_detector_separates_what_it_was_trained_on_and_is_at_chance_for_noise():
    draw = np.random.default_rng(0)
    attacked = np.arange(60) % 2 == 0
    values = draw.normal(size=(60, 4))
    values[:, 2] += 4 * attacked
    detector = fit_detector(values[:40], attacked[:40])
    assert auroc(detector.scores(values[40:]), attacked[40:]) > 0.9
    assert np.abs(detector.weights).argmax() == 2
    chance = [
        auroc(fit_detector(x[:40], attacked[:40]).scores(x[40:]), attacked[40:]) for x in draw.normal(size=(20, 60, 4))
    ]
    assert 0.35 < np.mean(chance) < 0.65
    with pytest.raises(InputError, match="recordings that were attacked and others"):
        fit_detector(values, [False] * 60)


def test_auroc():
    assert auroc(np.array([1, 2, 3, 4]), [False, False, True, True]) == 1
    assert auroc(np.array([1, 1, 1, 1]), [False, False, True, True]) == 0.5


def test_transformations():
    low, high = (np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE).astype(np.float32) for hertz in (1000, 6000))
    assert np.allclose(low_passed(low + high, RATE), low, atol=1e-4)
    assert np.abs(requantised(low, RATE) - low).max() <= 1 / 256 + 1e-6 and len(set(requantised(low, RATE))) <= 257


@pytest.mark.slow
@pytest.mark.parametrize("family", ["base", "whisper"])
def test_features_of_recordings(family, request):
    model = load_model(str(request.getfixturevalue(family))).model
    recordings = [Recording(tones(text), RATE) for text in ("bad cab", "abc dea")]
    found = features(model, recordings)
    assert found.shape[0] == 2 and found.shape[1] % 2 == 0 and np.isfinite(found).all()
    assert np.array_equal(found, features(model, recordings))
    assert np.allclose(features(model, recordings[1:])[0], found[1], atol=1e-4)


@pytest.mark.slow
def test_changed_answers(base):
    model = load_model(str(base)).model
    recordings = [Recording(tones("bad cab"), RATE)]
    assert changed_answers(model, recordings, lambda samples, rate: samples) == [0]
    assert changed_answers(model, recordings, lambda samples, rate: samples[::-1].copy()) > 0
