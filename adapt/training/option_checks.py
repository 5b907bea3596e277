"""Checks of the options of training that need no model. They import no torch, so that a mistake is reported at once."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, get_args

from adapt.blending.choice import check_blend
from adapt.checks import check_choice, check_count, check_number, check_share
from adapt.data.replay import check_replay
from adapt.errors import InputError
from adapt.models.recipe import Schedule

# In other precisions the weights themselves have another type: frozen ones would not keep their bits, and inputs do not
# fit them.
PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
_SHORT = ("32", "16", "bf16")  # Lightning's short names of these
_OTHERS = ("bf16-true", "16-true", "64-true", "64", "transformer-engine", "transformer-engine-float16")
_UNITS = {"s": 1, "m": 60, "h": 3600}


def check_options(
    *,
    schedule: Any = None,
    warmup: Any = None,
    layer_decay: Any = 1.0,
    unfreeze: Any = None,
    replay: Any = None,
    patience: Any = None,
    monitor: Any = None,
    blend: Any = "off",
    forget: Any = None,
    timestamps: Any = None,
    checkpoint_every: Any = None,
) -> None:
    """Check options of `adapt.training.prepare.prepare`, which explains them. Raises InputError if one cannot be."""
    if schedule is not None:
        check_choice("schedule", schedule, get_args(Schedule))
    if warmup is not None:
        check_share("warmup", warmup, zero=True)
    check_number("layer_decay", layer_decay, minimum=0)
    for name, count in (("unfreeze", unfreeze), ("patience", patience)):
        if count is not None:
            check_count(name, count, 1)
    if replay is not None:
        check_replay(replay)
    if monitor is not None and not str(monitor).startswith("val_"):
        raise InputError(f"monitor={monitor} is not measured in training. Give val_loss, or a metric such as val_wer.")
    check_blend(blend, forget)
    if timestamps is not None:
        check_share("timestamps", timestamps, zero=True, one=True)
    Every.of(checkpoint_every)


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


def check_precision(asked: Any) -> None:
    """Check the precision of training.

    Args:
        asked: Lightning's name or number of it; None for 32 bits.

    Raises:
        InputError: there is no such precision, or it would change the type of the weights.
    """
    if asked is None or str(asked) in (*PRECISIONS, *_SHORT):
        return
    why = "would change the type of all weights, frozen ones included" if str(asked) in _OTHERS else "is unknown"
    raise InputError(
        f"trainer.precision={asked} {why}. Give 32-true, or bf16-mixed or 16-mixed, which compute in 16 bits and keep "
        "the weights in 32."
    )


@dataclass(frozen=True)
class Every:
    """How often a checkpoint is written within an epoch: after so many steps of the optimizer, or so much time.

    Attributes:
        steps: The number of steps; 0 for none.
        time: The time; None for none.
    """

    steps: int = 0
    time: timedelta | None = None

    @classmethod
    def of(cls, value: Any) -> "Every | None":
        """Read the option `checkpoint_every`: None, a number of steps, or a time such as "90s", "10m" or "2h".

        Raises:
            InputError: it is none of these.
        """
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return cls(steps=value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smh])", value) if isinstance(value, str) else None
        if found is None or float(found[1]) <= 0:
            raise InputError(
                f"checkpoint_every={value} is not possible. Give a number of steps, such as 500, a time, such as 90s, "
                "10m or 2h, or null for one checkpoint per epoch."
            )
        return cls(time=timedelta(seconds=float(found[1]) * _UNITS[found[2]]))
