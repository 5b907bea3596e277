"""The options of training that the model's family fills in, because the caller gave none (`adapt/models/recipe.py`)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from adapt.models.factors import factor_method
from adapt.models.model import Model
from adapt.models.recipe import Kind, scratch_rate
from interventions.row_modules import RowModule

_HEAD_SHARE = 0.05  # an output layer with more of the weights counts as whole weights
_ROW_SHARE = 0.5  # so do rows with more of them
_TRAINS: dict[Kind, str] = {
    "weights": "whole weights", "rows": "chosen neurons", "factors": "added factors", "vectors": "biases or norms",
    "head": "the output layer",
}  # fmt: skip


@dataclass(frozen=True)
class Defaults:
    """The options that a recipe filled in.

    Attributes:
        family: The family of models.
        trains: What trains, in words; the learning rate depends on it.
        options: The values, by the names that the caller knows: "optimizer.lr" or "learning_rate".
    """

    family: str
    trains: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """One sentence for the log and the report; empty if nothing was filled in."""
        if not self.options:
            return ""
        return f"Defaults of {self.family} for {self.trains}: {', '.join(map(_written, self.options.items()))}."


def _written(option: tuple[str, Any]) -> str:
    name, value = option
    shown = f"[{','.join(f'{one:g}' for one in value)}]" if isinstance(value, (tuple, list)) else value
    return f"{name}={shown:g}" if isinstance(shown, float) else f"{name}={shown}"


def recipe_options(model: Model, examples: int, scratch: bool = False) -> dict[str, Any]:
    """Return what a model's recipe says for this many training examples, by name. The rate depends on what trains."""
    recipe = model.recipe
    batches = {"speeds": list(recipe.speeds)} if model.reads_audio else {"batch_tokens": recipe.batch_tokens}
    return {
        "epochs": recipe.number_of_epochs(examples),
        "schedule": recipe.schedule,
        "warmup": recipe.scratch_warmup if scratch else recipe.warmup,
        **batches,
    }


def kind_of(model: Model, names: Iterable[str]) -> Kind:
    """Return what the trained parameters are. If they are of several kinds, it is the one with the lowest rate.

    Args:
        model: The model, with the rows or factors that a tuning added.
        names: The names of the parameters that train.
    """
    names = list(names)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    factors = tuple(f"{name}." for name, module in model.named_modules() if factor_method(module) is not None)
    rows = {
        f"{place}.{own}" for place, module in model.named_modules() if isinstance(module, RowModule)
        for own, _ in module.named_parameters(recurse=False) if own not in ("weight", "bias")
    }  # fmt: skip
    total = sum(parameter.numel() for name, parameter in model.named_parameters() if name not in rows)
    head = next((layer.modules for layer in model.layers if layer.name == model.head), ())
    size = sum(parameters[name].numel() for name in names)
    if size <= _HEAD_SHARE * total and all(name.rpartition(".")[0] in head for name in names):
        return "head"

    def kind(name: str) -> Kind:
        if name.startswith(factors):
            return "factors"
        if name in rows:
            return "rows" if size <= _ROW_SHARE * total else "weights"
        return "vectors" if parameters[name].dim() < 2 else "weights"

    order: tuple[Kind, ...] = ("weights", "rows", "factors", "vectors")
    found = {kind(name) for name in names}
    return next(one for one in order if one in found)


def default_rate(model: Model, names: Iterable[str], scratch: bool = False) -> float:
    """Return the highest learning rate for training these parameters; `scratch`: from random weights."""
    size = sum(parameter.numel() for parameter in model.parameters())
    return scratch_rate(size) if scratch else model.recipe.learning_rate(kind_of(model, names), size)


def what_trains(model: Model, names: Iterable[str]) -> str:
    """Return in words what kind of parameters these are."""
    return _TRAINS[kind_of(model, names)]


def lacks_rate(optimizer: Callable[..., Any]) -> bool:
    """Return whether a function that makes an optimizer was given `lr=None`, which asks for the family's own."""
    return getattr(optimizer, "keywords", {}).get("lr", 0.0) is None


def with_rate(optimizer: Callable[..., Any], rate: float) -> Callable[..., Any]:
    """Return the function with a learning rate."""
    return partial(optimizer, lr=rate)
