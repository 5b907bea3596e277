"""Where a clean and an attacked recording part inside a network, and which layer carries the attack.

Each layer's activations of the attacked recording are compared with those of the clean one. Then a tenth of a layer's
units, those that moved most, get the clean activations while the network reads the attacked recording (activation
patching: Vig et al. 2020; Meng et al. 2022). Patching a whole layer of a chain of layers always restores the answer, so
it would tell nothing. What counts is how much of the loss of the clean answer a few units restore. The controls are as
many random units, and the activations of the noise of the same size instead of the clean ones.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.adversarial.result import Attacked
from adapt.checks import check_share
from adapt.comparison.patching import layers_called_once
from adapt.data.kinds import with_text
from adapt.data.loader import Batch, collate
from adapt.data.recording import Recording
from adapt.models.devices import device_of
from adapt.models.eval_mode import eval_mode
from adapt.models.model import Model
from interventions.capture import capture
from interventions.intervene import intervene
from interventions.neurons import Neurons
from interventions.patch import Patch
from interventions.sites import Site


@dataclass(frozen=True)
class PartedLayer:
    """A layer's part in an attack.

    Shares restored are of the rise of the clean answer's loss: 1 restores it, 0 changes nothing.

    Attributes:
        layer: The name of the layer.
        distance: The distance of the attacked activations from the clean ones, as a share of the norm of these.
        noise_distance: The same for noise of the same energy and spectrum.
        units: How many units are patched.
        moved: The units that moved most, most first.
        restored: The share that clean activations of these units restore.
        restored_random: The share that clean activations of as many random units restore.
        restored_noise: The share that the noise's activations of the units that moved most restore.
    """

    layer: str
    distance: float
    noise_distance: float
    units: int
    moved: tuple[int, ...]
    restored: float | None
    restored_random: float | None
    restored_noise: float | None


@dataclass(frozen=True)
class Parting:
    """Where clean and attacked part.

    Attributes:
        layers: The layers, from input to output.
        clean_loss: The loss of the clean answer for the clean recording.
        attacked_loss: The same for the attacked recording.
        carrier: The layer whose units restore most; None if the attack does not raise the loss.
    """

    layers: tuple[PartedLayer, ...]
    clean_loss: float
    attacked_loss: float
    carrier: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON data."""
        return {**vars(self), "layers": [vars(layer) for layer in self.layers]}


def part(model: Model, attacked: Attacked, share: float = 0.1, seed: int = 0) -> Parting:
    """Compare the clean and the attacked recording layer by layer, and patch clean activations back.

    It keeps the activations of one layer at a time, of three recordings.

    Args:
        model: The attacked model.
        attacked: The result of `attack`.
        share: The share of a layer's units that is patched, at least one unit.
        seed: The seed of the random units.

    Raises:
        InputError: `share` is not a share.
    """
    check_share("share", share, one=True)
    batches = {name: _batch(model, attacked, getattr(attacked, name)) for name in ("clean", "samples", "noisy")}
    draw = torch.Generator().manual_seed(seed)

    def loss(batch: Batch) -> float:
        return float(model.task.loss(model, batch))

    with eval_mode(model), torch.no_grad():
        sites = layers_called_once(model, lambda: loss(batches["clean"]))
        before, after = loss(batches["clean"]), loss(batches["samples"])
        rise = after - before
        layers = []
        for name, site in sites.items():
            seen = {which: _activations(model, site, batch) for which, batch in batches.items()}
            difference = seen["samples"] - seen["clean"]
            count = max(1, round(share * site.units))
            moved = difference.flatten(0, -2).norm(dim=0).argsort(descending=True, stable=True)[:count].tolist()
            chosen = torch.randperm(site.units, generator=draw)[:count].tolist()
            restored: list[float | None] = []
            for source, units in (("clean", moved), ("clean", chosen), ("noisy", moved)):
                with intervene(model, Patch(site, seen[source], Neurons({site: units}))):
                    patched = loss(batches["samples"])
                restored.append((after - patched) / rise if rise > 0 else None)
            layers.append(
                PartedLayer(
                    name, _relative(difference, seen["clean"]), _relative(seen["noisy"] - seen["clean"], seen["clean"]),
                    count, tuple(moved), *restored,
                )
            )  # fmt: skip
    carrier = max(layers, key=lambda own: own.restored or 0.0).layer if layers and rise > 0 else None
    return Parting(tuple(layers), before, after, carrier)


def _batch(model: Model, attacked: Attacked, samples: np.ndarray) -> Batch:
    # The text is the clean answer, whose loss is measured.
    example = with_text(Recording(samples, attacked.rate, extra=dict(attacked.language)), attacked.before)
    return collate([(example, model.reader.read(example))]).to(device_of(model))


def _activations(model: Model, site: Site, batch: Batch) -> Tensor:
    with capture(model, site) as seen:
        model.task.loss(model, batch)
    return seen[site]


def _relative(difference: Tensor, clean: Tensor) -> float:
    return float(difference.norm() / clean.norm().clamp_min(1e-12))
