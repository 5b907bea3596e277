"""SpecAugment (Park et al. 2019): random masks over frequency bands and time spans during training."""

from torch import Tensor, nn

from adapt.checks import check_counts, check_share


class SpecAugment(nn.Module):
    """Mask random parts of features `(batch, features, time)` with 0, the mean of a normalised utterance.

    Args:
        frequency_masks: the number of frequency masks.
        frequency_width: the largest width of a frequency mask, in features. It is reduced where the masks together
            could otherwise hide every feature.
        time_masks: the number of time masks.
        time_width: the largest width of a time mask, in steps of 10 ms.
        time_share: the largest width of a time mask, as a share of the batch's padded length.

    Raises:
        InputError: a count or width is not a whole number of at least 0, or `time_share` is not from 0 to 1.
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
        check_counts(0, frequency_masks=frequency_masks, frequency_width=frequency_width)
        check_counts(0, time_masks=time_masks, time_width=time_width)
        check_share("time_share", time_share, one=True)
        self.frequency_masks, self.frequency_width = frequency_masks, frequency_width
        self.time_masks, self.time_width, self.time_share = time_masks, time_width, time_share

    def forward(self, features: Tensor) -> Tensor:
        """Return the masked features, in the same shape."""
        from torchaudio.functional import mask_along_axis_iid

        masked = features.unsqueeze(1)  # torchaudio draws separate masks per example only with a channel axis
        width = min(self.frequency_width, (features.shape[1] - 1) // max(1, self.frequency_masks))
        for _ in range(self.frequency_masks):
            masked = mask_along_axis_iid(masked, width, 0.0, axis=2)
        for _ in range(self.time_masks):
            masked = mask_along_axis_iid(masked, self.time_width, 0.0, axis=3, p=self.time_share)
        return masked.squeeze(1)
