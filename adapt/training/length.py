"""How long a run trains: a number of epochs, or of steps."""

from typing import Any

from adapt.errors import InputError


def check_length(epochs: Any, steps: Any = -1) -> None:
    """Check how long a run is to train.

    Args:
        epochs: The number of epochs; None for a default, and -1 for no limit, which needs `steps`.
        steps: The number of steps; None or -1 for no limit.

    Raises:
        InputError: a number is missing, of another type or too small: the schedule of the learning rate needs one.
    """
    unlimited = steps in (None, -1)
    allowed = epochs is None or (_is_count(epochs) and (epochs >= 1 or (epochs == -1 and not unlimited)))
    if not allowed:
        nothing = " 0 would train nothing: dry_run=true shows what a run costs." if epochs == 0 else ""
        raise InputError(f"trainer.max_epochs must be a number of epochs of at least 1; got {epochs!r}.{nothing}")
    if not unlimited and not (_is_count(steps) and steps >= 1):
        raise InputError(f"trainer.max_steps must be a number of steps of at least 1, or -1; got {steps!r}.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
