"""Surgical fine-tuning (Lee et al. 2022): the one block whose gradient is largest beside its weights trains."""

import json

from adapt.data.sample import Sample
from adapt.errors import InputError
from adapt.files import write_json
from adapt.introspect.loss_gradients import mean_gradient
from adapt.models.model import Model
from adapt.tuning.choice import best_layers, keep, kept
from adapt.tuning.layers import full, layers
from interventions.neurons import Neurons
from interventions.sites import find_sites

KEPT_RATES = "choice-rates.json"


def surgical(model: Model, examples: int | None = 64, sample: Sample | None = None) -> list[str]:
    """The parameters of the layer with the highest relative gradient norm.

    Raises:
        InputError: there is nothing to measure it on.
    """
    if found := kept(sample):
        return layers(model, found[1] or [])
    if sample is None or not sample.target:
        raise InputError("tuning=surgical measures gradients on training examples, and there are none.")
    few = sample.few(examples)
    (chosen,) = best_layers(model, relative_gradients(model, few), 1)
    every = Neurons.every([site for site in find_sites(model) if site.name in chosen.modules])
    said = f"by its relative gradient norm, measured on {len(few.target)} examples of the target"
    keep(sample, model, every, said, [chosen])
    return layers(model, [chosen.name])


def relative_gradients(model: Model, sample: Sample) -> dict[str, float]:
    """The norm of a layer's gradient of the target's mean loss over that of its weights, by the layer's name.

    All of a layer's parameters count, its norms and biases included; layers that nothing trains have none.
    """
    free = set(full(model))
    gradient = mean_gradient(model, sample, sorted(free))
    found = {}
    for layer in model.layers:
        own = [name for name in gradient if name.rpartition(".")[0] in layer.modules]
        if own:
            squares = [sum(float(t[n].detach().double().square().sum()) for n in own) for t in
                       (gradient, dict(model.named_parameters()))]  # fmt: skip
            found[layer.name] = (squares[0] / max(squares[1], 1e-30)) ** 0.5
    return found


def auto_rgn(model: Model, sample: Sample, examples: int = 64) -> dict[str, float]:
    """The factor of each layer's learning rate, by auto-RGN: its relative gradient norm over the largest.

    The layer of `surgical` has 1. Measured on the model as it comes, before any tuning. The factors are kept beside the
    choice, and read from there by whoever goes on with the run or helps with it.

    Raises:
        InputError: there is nothing to measure it on.
    """
    path = None if sample.kept is None else sample.kept.with_name(KEPT_RATES)
    if path is not None and path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    if not sample.target:
        raise InputError("rates=auto measures gradients on training examples, and there are none.")
    norms = relative_gradients(model, sample.few(examples))
    largest = max(norms.values()) or 1.0
    factors = {name: norm / largest for name, norm in norms.items()}
    if path is not None:
        write_json(path, factors)
    return factors
