"""Keep a Whisper's timestamps: some of its training examples have them in their targets.

Whisper was trained on both kinds of targets (Radford et al. 2022, section 2.3). A model that is tuned on texts without
timestamps forgets to write them, and with them long audio cannot be decoded sequentially, nor subtitles be timed.
"""

import logging

from adapt.checks import check_share
from adapt.errors import InputError
from adapt.models.model import Model, SpeechDecoderModel

SHARE = 0.5
log = logging.getLogger(__name__)


def timestamp_share(model: Model, asked: float | None) -> float:
    """Return the share of examples that are trained on targets with timestamps.

    Args:
        model: The model.
        asked: The share; None for half if the model writes timestamps.

    Raises:
        InputError: a share is asked for, but the model has no timestamps; or it is out of range.
    """
    if asked is not None:
        check_share("timestamps", asked, zero=True, one=True)
    if isinstance(model, SpeechDecoderModel) and model.writes_timestamps:
        return SHARE if asked is None else asked
    if asked:
        raise InputError(
            f"timestamps={asked}: this model writes no timestamps, only a Whisper with tokens such as <|0.00|> does. "
            "Leave it out."
        )
    return 0.0


def set_timestamps(model: Model, share: float) -> None:
    """Set the share of examples that a model is trained on with timestamps."""
    if isinstance(model, SpeechDecoderModel):
        model.timestamps = share
