"""Detect attacked recordings from inside: a logistic regression on what each layer does with a recording.

    detector = fit_detector(features(model, recordings), attacked)
    detector.scores(features(model, others))

An attack fits the waveform to the network very closely, so a small change of the waveform moves the activations of an
attacked recording more than those of others. The features of a recording are, for each layer, how far its activations
move when the recording is low-passed, and when noise is added, as shares of their norm (in logarithms). Nobody needs to
know the clean recording. The rivals need no training: they compare the answer with that to the changed recording
(Yang et al. 2019, arXiv 1809.10875, for such transformations).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adapt.comparison.patching import layers_called_once
from adapt.data.kinds import with_text
from adapt.data.loader import collate
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.metrics import error_rates
from adapt.models.devices import answering, device_of
from adapt.models.model import Model
from interventions.capture import capture

_CUTOFF = 4000.0  # Hz of the low-pass filter
_NOISE = 30.0  # dB below the speech
_BITS = 8  # of the re-quantisation


def low_passed(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return samples `(samples,)` without what is above 4 kHz."""
    values = np.fft.rfft(samples)
    values[np.fft.rfftfreq(len(samples), 1 / rate) > _CUTOFF] = 0
    return np.fft.irfft(values, len(samples)).astype(np.float32)


def requantised(samples: np.ndarray, rate: int) -> np.ndarray:
    """Return samples `(samples,)` in 8 bits."""
    steps = 1 << (_BITS - 1)
    return (np.round(samples * steps) / steps).astype(np.float32)


def _noisy(samples: np.ndarray, rate: int) -> np.ndarray:
    # Always the same noise, so that a recording always has the same features.
    noise = np.random.default_rng(0).standard_normal(len(samples))
    scale = np.linalg.norm(samples) / np.linalg.norm(noise) * 10 ** (-_NOISE / 20)
    return (samples + scale * noise).astype(np.float32)


def features(model: Model, recordings: Sequence[Recording]) -> np.ndarray:
    """Return the features of recordings at the model's rate, `(recordings, 2 * layers)`."""
    rows = []
    for recording in recordings:
        own = _layers(model, recording)
        changed = [_layers(model, _changed(recording, change)) for change in (low_passed, _noisy)]
        pairs = [(own[name], other[name]) for other in changed for name in own]
        rows.append([float(((a - b).norm() / a.norm().clamp_min(1e-9)).clamp_min(1e-9).log()) for a, b in pairs])
    return np.array(rows)


@dataclass(frozen=True, eq=False)
class Detector:
    """A detector of attacked recordings: `weights` on the standardised features, `(features,)`, and a bias."""

    mean: np.ndarray
    deviation: np.ndarray
    weights: np.ndarray
    bias: float

    def scores(self, values: np.ndarray) -> np.ndarray:
        """Return the log-odds that recordings were attacked, `(recordings,)`, from their features."""
        return (values - self.mean) / self.deviation @ self.weights + self.bias


def fit_detector(values: np.ndarray, attacked: Sequence[bool]) -> Detector:
    """Fit a detector.

    Args:
        values: `(recordings, features)`, as `features` returns them.
        attacked: Which of the recordings were attacked.

    Raises:
        InputError: All or none of them were.
    """
    from sklearn.linear_model import LogisticRegression

    labels = np.asarray(attacked, dtype=bool)
    if labels.all() or not labels.any():
        raise InputError("A detector needs recordings that were attacked and others that were not.")
    mean, deviation = values.mean(0), values.std(0) + 1e-9
    fitted = LogisticRegression(C=0.1, max_iter=1000, class_weight="balanced").fit((values - mean) / deviation, labels)
    return Detector(mean, deviation, fitted.coef_[0], float(fitted.intercept_[0]))


def changed_answers(
    model: Model, recordings: Sequence[Recording], change: Callable[[np.ndarray, int], np.ndarray]
) -> np.ndarray:
    """Return how much the answers change with the recordings, as character error rates, `(recordings,)`."""
    rates = []
    for recording in recordings:
        own, other = (model.task.normalise(_text(model, one)) for one in (recording, _changed(recording, change)))
        rates.append(error_rates([own or "-"], [other]).values()["cer"])
    return np.array(rates)


def auroc(scores: np.ndarray, attacked: Sequence[bool]) -> float:
    """Return the area under the ROC curve: how often an attacked recording scores higher than another one."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(np.asarray(attacked, dtype=int), scores))


def _changed(recording: Recording, change: Callable[[np.ndarray, int], np.ndarray]) -> Recording:
    samples = change(recording.samples, recording.sample_rate)
    return Recording(samples, recording.sample_rate, extra=recording.extra)


def _text(model: Model, recording: Recording) -> str:
    batch = collate([(recording, model.reader.read(recording))]).to(device_of(model))
    with answering(model):
        return model.task.decode(model, batch)[0]


def _layers(model: Model, recording: Recording) -> dict[str, Tensor]:
    """Return the activations of each layer; a decoder reads nothing but its start."""
    example = with_text(recording, "")
    batch = collate([(example, model.reader.read(recording))]).to(device_of(model))
    with answering(model):
        sites = layers_called_once(model, lambda: model.task.loss(model, batch))
        with capture(model, list(sites.values())) as seen:
            model.task.loss(model, batch)
        return {name: torch.as_tensor(seen[site]).float() for name, site in sites.items()}
