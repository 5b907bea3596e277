"""The options of a loader, checked without torch."""

from collections.abc import Sequence
from typing import Any

from adapt.checks import check_count, check_number, is_number
from adapt.errors import InputError

SLOWEST, FASTEST = 0.25, 4.0  # the limits of speed perturbation: beyond, speech is not speech any more


def check_loader(
    *,
    batch_seconds: Any = None,
    batch_tokens: Any = 1000,
    batch_size: Any = None,
    speeds: Any = (1.0,),
    workers: Any = 0,
    memory: Any = None,
) -> None:
    """Check the options of `adapt.data.loader.Loader`, which explains them. Raises InputError."""
    for name, size in (("batch_seconds", batch_seconds), ("memory", memory)):
        if size is not None:
            check_number(name, size, minimum=0)
    check_number("batch_tokens", batch_tokens, minimum=0)
    check_count("workers", workers)
    if batch_size is not None:
        check_count("batch_size", batch_size, 1)
    listed = list_of(speeds)
    if not listed or not all(is_number(speed) and SLOWEST <= speed <= FASTEST for speed in listed):
        raise InputError(
            f"speeds must be numbers from {SLOWEST} to {FASTEST}, such as [0.9, 1.0, 1.1], or [1.0] for none; got "
            f"{speeds}."
        )


def list_of(speeds: float | Sequence[float]) -> list[Any]:
    """Return the speeds as a list; a single one is a list of one."""
    return [speeds] if isinstance(speeds, (int, float, str)) else list(speeds)
