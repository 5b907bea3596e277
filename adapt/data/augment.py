"""SpecAugment (Park et al. 2019): bands of frequency and spans of time are hidden while training."""

from torch import Tensor, nn

from adapt.errors import InputError


class SpecAugment(nn.Module):
    """Set random masks in features `(batch, features, time)` to 0, the mean of a normalised utterance.

    Each of `frequency_masks` hides up to `frequency_width` features, and all together less than all of them; each of
    `time_masks` up to `time_width` steps (of 10 ms), and never more than `time_share` of the batch's length.
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
        if min(frequency_masks, frequency_width, time_masks, time_width) < 0 or not 0 < time_share <= 1:
            raise InputError("SpecAugment needs counts and widths of 0 or more, and a time_share above 0 and up to 1.")
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_width, self.time_share = time_masks, time_width, time_share

    def forward(self, features: Tensor) -> Tensor:
        """Return the features with masks, the shape unchanged."""
        from torchaudio.functional import mask_along_axis_iid

        masked = features.unsqueeze(1)  # masks differ by example only where there is a channel axis
        width = min(self.frequency_width, (features.shape[1] - 1) // max(1, self.frequency_masks))
        for _ in range(self.frequency_masks):
            masked = mask_along_axis_iid(masked, width, 0.0, axis=2)
        for _ in range(self.time_masks):
            masked = mask_along_axis_iid(masked, self.time_width, 0.0, axis=3, p=self.time_share)
        return masked.squeeze(1)
