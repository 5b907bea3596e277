"""Whisper's log-mel spectrogram in differentiable operations, equal to that of WhisperFeatureExtractor."""

from typing import Any

import torch
from torch import Tensor, nn


def whisper_features(audio: Tensor, lengths: Tensor, extractor: Any) -> Tensor:
    """Return the features of a batch, with a gradient with respect to the audio.

    Args:
        audio: `(batch, samples)` in -1..1, zero after each utterance's end.
        lengths: `(batch,)` in samples.
        extractor: The model's feature extractor, whose window and mel filters are used.

    Returns:
        `(batch, bands, frames)`, of the whole window of the network.
    """
    valid = torch.arange(audio.shape[1], device=audio.device) < lengths.unsqueeze(1)
    x = (audio.float() * valid)[:, : extractor.n_samples]
    x = nn.functional.pad(x, (0, extractor.n_samples - x.shape[1]))
    window = torch.hann_window(extractor.n_fft, device=x.device)
    spectrum = torch.stft(x, extractor.n_fft, extractor.hop_length, window=window, return_complex=True)[..., :-1]
    power = spectrum.real.square() + spectrum.imag.square()  # the gradient of abs() would be undefined at 0
    filters = torch.as_tensor(extractor.mel_filters, dtype=torch.float32, device=x.device)
    logs = (filters.T @ power).clamp_min(1e-10).log10()
    logs = torch.maximum(logs, logs.amax((1, 2), keepdim=True) - 8.0)
    return (logs + 4.0) / 4.0
