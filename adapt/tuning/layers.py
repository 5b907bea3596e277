"""Train the whole model, some of its layers, or its output layer."""

from collections.abc import Sequence

import torch

from adapt.data.selection import Selection
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.models.model import Model
from adapt.tuning.selection import best_layers, layer_scores, score, select
from adapt.tuning.tuned import Tuned
from interventions.neurons import Neurons
from interventions.sites import choose_layers, find_sites


def full(model: Model, data: TuningData | None = None) -> Tuned:
    """Train every parameter, except those that the model's authors keep fixed, and the statistics of batch norms."""
    return Tuned(trainable_names(model))


def trainable_names(model: Model) -> tuple[str, ...]:
    """Return the names of all parameters that training would change."""
    return tuple(name for name, _ in model.named_parameters() if name not in model.never_trained)


def layers(
    model: Model,
    data: TuningData | None = None,
    layers: str | int | Sequence[str | int] = "middle",
    choose: str | None = None,
    top: float | int = 0.2,
    examples: int | None = 64,
    seed: int = 0,
) -> Tuned:
    """Train the weights, biases and norms of some layers, and the running statistics of their batch norms.

    Args:
        model: The model to train.
        data: Training examples, needed by `choose`.
        layers: Layer numbers, names, globs, "first 3", "decoder last 2", "middle", or a list of these.
        choose: A measure that scores neurons (`adapt.tuning.selection.score`). The layers with the highest mean scores
            are trained, and `layers` is ignored. With "random", layers are drawn with equal probability.
        top: For `choose`: a share of the model's weights (float) or a number of layers (int).
        examples: For `choose`: the maximum number of target examples, and of source examples, that are read.
        seed: For `choose="random"`.

    Returns:
        The parameters of these layers, and the selection if `choose` was given.

    Raises:
        InputError: an item of `layers` matches no layer, the measure fails, or every layer is larger than `top` allows.
    """
    if isinstance(layers, Sequence) and not layers and choose is None:
        raise InputError("layers is empty: name at least one layer, such as 'last 2'.")
    selection = None
    try:
        if choose is None:
            chosen = choose_layers(model.layers, layers)
        else:
            saved = None if data is None else data.selections.get("")
            selection = saved or _select(model, data, choose, top, examples, seed)
            chosen = choose_layers(model.layers, list(selection.layers or ()))
    except ValueError as error:
        raise InputError(f"layers: {error}") from None
    modules = {module for layer in chosen for module in layer.modules}
    return Tuned.of([name for name in trainable_names(model) if name.rpartition(".")[0] in modules], selection)


def head(model: Model, data: TuningData | None = None) -> Tuned:
    """Train the output layer."""
    return layers(model, data, [model.head])


def _select(
    model: Model, data: TuningData | None, choose: str, top: float | int, examples: int | None, seed: int
) -> Selection:
    if choose == "weight":
        raise ValueError("choose=weight ranks neurons within their layer and cannot rank layers. Give another measure.")
    if choose == "random":  # means of random scores are near 0.5 for large layers, so small layers would win
        drawn = torch.rand(len(model.layers), generator=torch.Generator().manual_seed(seed)).tolist()
        ranking = dict(zip((layer.name for layer in model.layers), drawn, strict=True))
        reason = f"at random (seed {seed})"
    else:
        scores, reason = score(model, choose, data, seed=seed, examples=examples)
        ranking = layer_scores(model, scores)
    free = {name.rpartition(".")[0] for name in trainable_names(model)}
    trainable = [layer for layer in model.layers if free & set(layer.modules)]
    chosen = best_layers(model, ranking, top, trainable)
    modules = {module for layer in chosen for module in layer.modules}
    neurons = Neurons.every([site for site in find_sites(model) if site.name in modules])
    return select(model, neurons, reason, chosen)
