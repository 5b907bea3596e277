"""What a tuning may change: all of a model, some of its layers, or its output layer.

A tuning is a function of a model and a `TuningData` of the data that says which parameters train, by name.
"""

from collections.abc import Sequence

import torch

from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.models.model import Model
from adapt.tuning.choice import best_layers, keep, kept, layer_scores, score
from interventions.neurons import Neurons
from interventions.sites import Layer, choose_layers, find_sites


def full(model: Model, sample: TuningData | None = None) -> list[str]:
    """Every parameter."""
    return [name for name, _ in model.named_parameters() if name not in model.never_trained]


def layers(
    model: Model,
    layers: str | int | Sequence[str | int] = "middle",
    choose: str | None = None,
    amount: float | int = 0.2,
    examples: int | None = 64,
    seed: int = 0,
    sample: TuningData | None = None,
) -> list[str]:
    """The parameters of the layers that `interventions.sites.choose_layers` finds: their weights, biases and norms.

    With `choose`, a way to score neurons as in `adapt.tuning.choice.score`, `layers` is not looked at: those whose
    neurons have the highest mean score are taken, from the best on, as far as `amount` goes: a share of the model's
    weights (a float), or a number of layers (an int). Layers chosen by "random" are drawn evenly.

    Raises:
        InputError: a part of the choice names no layer, scores cannot be had, or the amount pays for no layer.
    """
    try:
        if choose is None:
            chosen = choose_layers(model.layers, layers)
        elif found := kept(sample):
            chosen = choose_layers(model.layers, found[1])
        else:
            chosen = _best(model, choose, amount, examples, seed, sample)
    except ValueError as error:
        raise InputError(f"tuning.layers: {error}") from None
    modules = {module for layer in chosen for module in layer.modules}
    return [name for name in full(model) if name.rpartition(".")[0] in modules]


def head(model: Model, sample: TuningData | None = None) -> list[str]:
    """The output layer."""
    return layers(model, [model.head])


def _best(
    model: Model, choose: str, amount: float | int, examples: int | None, seed: int, sample: TuningData | None
) -> list[Layer]:
    if choose == "weight":
        raise ValueError("choose=weight compares neurons with their own layer, and cannot rank layers. Take another.")
    if choose == "random":  # a mean of random numbers would be near to 0.5 in large layers, and small ones would win
        drawn = torch.rand(len(model.layers), generator=torch.Generator().manual_seed(seed)).tolist()
        ranking = dict(zip((layer.name for layer in model.layers), drawn, strict=True))
        said = f"at random (seed {seed})"
    else:
        scores, said = score(model, choose, sample, seed=seed, examples=examples)
        ranking = layer_scores(model, scores)
    free = {name.rpartition(".")[0] for name in full(model)}
    trainable = [layer for layer in model.layers if free & set(layer.modules)]
    chosen = best_layers(model, ranking, amount, trainable)
    held = {module for layer in chosen for module in layer.modules}
    keep(sample, model, Neurons.every([site for site in find_sites(model) if site.name in held]), said, chosen)
    return chosen
