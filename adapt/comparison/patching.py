"""Activation patching: replace one layer's output by that of the same layer in another model, for the same input."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from adapt.progress import track
from interventions.capture import capture
from interventions.intervene import intervene
from interventions.patch import Patch
from interventions.sites import Site, site_at


@dataclass(frozen=True)
class PatchedLayer:
    """The mean loss on each set when one layer's activations are replaced by those of the other model.

    `into_after` is for the adapted model with the original model's activations, `into_before` for the reverse.
    """

    layer: str
    into_after: dict[str, float]
    into_before: dict[str, float]


def patch_layers(
    before: Model, after: Model, sets: Mapping[str, Sequence[Example]], loader: Loader
) -> tuple[list[PatchedLayer], dict[str, tuple[float, float]]]:
    """Exchange the activations of each layer between two models and measure the loss.

    Args:
        before: The original model.
        after: The adapted model, with the same vocabulary.
        sets: The examples of each set. Each must have a finite loss.
        loader: Makes batches of the examples.

    Returns:
        The losses with each layer patched, and the unpatched losses (before, after) by set.
    """
    models = {"before": before, "after": after}
    sums: dict[tuple[str, str, str], float] = {}  # (set, layer or "", model): the sum of the losses of all examples

    def add(name: str, layer: str, which: str, batch: Any) -> None:
        loss = float(after.task.loss(models[which], batch)) * len(batch.examples)
        sums[name, layer, which] = sums.get((name, layer, which), 0.0) + loss

    device = next(after.parameters()).device
    with eval_mode(before), eval_mode(after), torch.no_grad():
        first = next(iter(loader.evaluation(next(iter(sets.values()))[:1], after.reader)))
        layers = layers_called_once(after, lambda: after.task.loss(after, first.to(device)))
        for name, examples in sets.items():
            for batch in track(loader.evaluation(examples, after.reader), f"patching, {name}"):
                batch, activations = batch.to(device), {}
                for which, model in models.items():
                    with capture(model, list(layers.values())) as activations[which]:
                        add(name, "", which, batch)
                for layer, site in layers.items():
                    for which, other in (("after", "before"), ("before", "after")):
                        with intervene(models[which], Patch(site, activations[other][site])):
                            add(name, layer, which, batch)
    means = {key: total / len(sets[key[0]]) for key, total in sums.items()}
    patched = [
        PatchedLayer(
            layer,
            into_after={name: means[name, layer, "after"] for name in sets},
            into_before={name: means[name, layer, "before"] for name in sets},
        )
        for layer in layers
    ]
    return patched, {name: (means[name, "", "before"], means[name, "", "after"]) for name in sets}


def layers_called_once(model: Model, run: Callable[[], Any]) -> dict[str, Site]:
    """Return the layers that `run` calls exactly once, by name.

    Layers that consist of several modules are left out, and so are layers that are called more than once, such as an
    embedding that encoder and decoder share.
    """
    sites, calls, handles = {}, Counter[str](), []

    def counter(name: str) -> Callable[..., None]:
        return lambda *_: calls.update([name])

    for layer in model.layers:
        try:
            sites[layer.name] = site_at(model, layer.name)
        except ValueError:  # its parameters belong to several modules
            continue
        handles.append(model.get_submodule(layer.name).register_forward_hook(counter(layer.name)))
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return {name: site for name, site in sites.items() if calls[name] == 1}
