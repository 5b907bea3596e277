"""Surgical fine-tuning (Lee et al. 2022): train the one layer with the largest gradient relative to its weights."""

from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.introspect.loss_gradients import mean_gradient
from adapt.models.model import Model
from adapt.tuning.layers import layers, trainable_names
from adapt.tuning.selection import best_layers, select
from adapt.tuning.tuned import Tuned
from interventions.neurons import Neurons
from interventions.sites import find_sites


def surgical(model: Model, data: TuningData | None = None, examples: int | None = 64) -> Tuned:
    """Train the layer with the largest relative gradient norm, measured on `examples` target examples.

    Raises:
        InputError: there are no training examples to measure it on.
    """
    selection = None if data is None else data.selections.get("")
    if selection is None:
        if data is None or not data.target:
            raise InputError("tuning=surgical measures gradients on training examples, and there are none.")
        few = data.subset(examples)
        (chosen,) = best_layers(model, relative_gradients(model, few), 1)
        neurons = Neurons.every([site for site in find_sites(model) if site.name in chosen.modules])
        reason = f"by its relative gradient norm, measured on {len(few.target)} examples of the target"
        selection = select(model, neurons, reason, [chosen])
    return Tuned.of(layers(model, layers=list(selection.layers or ())).names, selection)


def relative_gradients(model: Model, data: TuningData) -> dict[str, float]:
    """Return, by layer name, the gradient norm of the mean target loss divided by the norm of the layer's weights.

    All parameters of a layer count, also biases and those of norms. Layers without trainable parameters are left out.
    """
    gradient = mean_gradient(model, data, sorted(trainable_names(model)))
    parameters = dict(model.named_parameters())
    norms: dict[str, float] = {}
    for layer in model.layers:
        names = [name for name in gradient if name.rpartition(".")[0] in layer.modules]
        if names:
            of_gradient, of_weights = (
                sum(float(tensors[name].detach().double().square().sum()) for name in names)
                for tensors in (gradient, parameters)
            )
            norms[layer.name] = (of_gradient / max(of_weights, 1e-30)) ** 0.5
    return norms


def auto_rgn(model: Model, data: TuningData, examples: int = 64) -> dict[str, float]:
    """Return a learning-rate factor per layer: its relative gradient norm divided by the largest one (auto-RGN).

    The layer that `surgical` would train has factor 1. Call it on the base, before a tuning changes the model.

    Raises:
        InputError: there are no training examples to measure it on.
    """
    if not data.target:
        raise InputError("rates=auto measures gradients on training examples, and there are none.")
    norms = relative_gradients(model, data.subset(examples))
    largest = max(norms.values()) or 1.0
    return {name: norm / largest for name, norm in norms.items()}
