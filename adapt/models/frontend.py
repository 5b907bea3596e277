"""Features of waveforms: log mel, MFCC, or the waveform itself, normalised per utterance."""

from typing import Literal

import torch
from torch import Tensor, nn

from adapt.checks import check_count
from adapt.errors import InputError
from adapt.models.full_precision import full_precision
from adapt.models.waveform_gradient import no_grad_unless_wanted

Features = Literal["log_mel", "mfcc", "waveform"]
N_FFT, WINDOW, HOP = 512, 400, 160  # samples at 16 kHz: 25 ms windows every 10 ms
N_MELS = 40  # mel bands that the MFCC is computed from


class Frontend(nn.Module):
    """Compute features. Those of an utterance in a padded batch equal those of the utterance alone.

    The spectrogram pads with zeros (not by reflection), as a batch does; mean and deviation are computed over the valid
    frames only; frames after an utterance's end are zero.

    Args:
        features: "log_mel", "mfcc" or "waveform".
        n_features: The number of features per frame: mel bands, or coefficients of the MFCC; 1 for a waveform.
        sample_rate: In Hz.

    Raises:
        InputError: `features` is unknown, or does not allow that many features.
    """

    def __init__(self, features: Features = "log_mel", n_features: int = 40, sample_rate: int = 16_000) -> None:
        super().__init__()
        from torchaudio.transforms import MFCC, MelSpectrogram

        max_features = {"log_mel": N_FFT // 4, "mfcc": N_MELS, "waveform": 1}
        if features not in max_features:
            raise InputError(f"features must be log_mel, mfcc or waveform, got {features!r}.")
        check_count("n_features", n_features, 1, max_features[features])
        self.features, self.n_features, self.sample_rate = features, n_features, sample_rate
        mel = {"n_fft": N_FFT, "win_length": WINDOW, "hop_length": HOP, "pad_mode": "constant"}
        if features == "log_mel":
            self.transform = MelSpectrogram(sample_rate, n_mels=n_features, **mel)
        elif features == "mfcc":
            self.transform = MFCC(sample_rate, n_mfcc=n_features, log_mels=True, melkwargs={"n_mels": N_MELS, **mel})
        else:
            self.transform = nn.Identity()

    def steps(self, lengths: Tensor) -> Tensor:
        """Return the number of feature frames of each utterance from its number of samples; both are `(batch,)`."""
        return lengths if self.features == "waveform" else lengths // HOP + 1

    @no_grad_unless_wanted
    @full_precision
    def forward(self, audio: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the features of a batch.

        Args:
            audio: `(batch, samples)` in -1..1, zero after each utterance's end.
            lengths: `(batch,)` in samples.

        Returns:
            Features `(batch, features, time)`, and lengths `(batch,)` in frames of 10 ms (for a waveform, in samples).
        """
        if self.features == "waveform":
            values = audio.unsqueeze(1)
        else:
            values = self.transform(audio.float())
            if self.features == "log_mel":
                values = torch.log(values + 1e-6)
        steps = self.steps(lengths)
        mask = (torch.arange(values.shape[-1], device=values.device) < steps.unsqueeze(1)).unsqueeze(1)
        count = steps.view(-1, 1, 1)
        mean = (values * mask).sum(-1, keepdim=True) / count
        deviation = (((values - mean) * mask).square().sum(-1, keepdim=True) / count).sqrt()
        return (values - mean) / (deviation + 1e-3) * mask, steps
