"""The tunings under the names for notebooks: `tunings.layers("last 3")` is an argument for `fine_tune`.

Each takes the arguments of the function of the same name in `adapt.tuning`, except the model and the data.
"""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Concatenate, ParamSpec

from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.models.model import Model
from adapt.training.auto import Auto
from adapt.tuning import bias_norm
from adapt.tuning import layers as _layers
from adapt.tuning import lora as _lora
from adapt.tuning import mix as _mix
from adapt.tuning import neurons as _neurons
from adapt.tuning import surgical as _surgical
from adapt.tuning.tuned import Tuned, Tuning

P = ParamSpec("P")


def _tuning(function: Callable[Concatenate[Model, TuningData | None, P], Tuned]) -> Callable[P, Tuning]:
    def bind(*args: P.args, **kwargs: P.kwargs) -> Tuning:
        if args and isinstance(args[0], Model):
            raise InputError(f"tunings.{function.__name__} must be called: give tunings.{function.__name__}(...).")
        # Report wrong arguments here, where they are given, and not when training starts.
        bound = signature(function).bind(None, None, *args, **kwargs)
        given = dict(list(bound.arguments.items())[2:])
        return partial(function, **given)

    bind.__name__, bind.__doc__ = function.__name__, function.__doc__
    return bind


full = _tuning(_layers.full)
layers = _tuning(_layers.layers)
head = _tuning(_layers.head)
neurons = _tuning(_neurons.neurons)
bias = _tuning(bias_norm.bias)
norm = _tuning(bias_norm.norm)
lora = _tuning(_lora.lora)
peft = _tuning(_lora.peft)
surgical = _tuning(_surgical.surgical)
mix = _tuning(_mix.mix)
auto = Auto
