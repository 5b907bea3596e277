"""SpecAugment (Park et al. 2019): bands of frequency and spans of time are hidden while training."""

from torch import Tensor, nn

from adapt.errors import InputError


class SpecAugment(nn.Module):
    """Set random masks in features `(batch, features, time)` to 0, the mean of a normalised utterance.

    Each of `frequency_masks` hides up to `frequency_width` features, each of `time_masks` up to `time_width` steps (of
    10 ms), and never more than `time_share` of the batch's length.
    """

    def __init__(
        self,
        frequency_masks: int = 2,
        frequency_width: int = 8,
        time_masks: int = 2,
        time_width: int = 25,
        time_share: float = 0.2,
    ) -> None:
        super().__init__()
        from torchaudio.transforms import FrequencyMasking, TimeMasking

        if min(frequency_masks, frequency_width, time_masks, time_width) < 0 or not 0 < time_share <= 1:
            raise InputError("SpecAugment needs counts and widths of 0 or more, and a time_share above 0 and up to 1.")
        self.masks = nn.Sequential(
            *[FrequencyMasking(frequency_width, iid_masks=True) for _ in range(frequency_masks)],
            *[TimeMasking(time_width, iid_masks=True, p=time_share) for _ in range(time_masks)],
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with masks, the shape unchanged."""
        return self.masks(features.unsqueeze(1)).squeeze(1)  # masks differ by example only where there is a channel axis
