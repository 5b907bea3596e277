"""Do the diverging neurons cause errors? Shift them to the mean of the reference group, and decode again.

Divergence alone need not cause errors. So at one layer at a time, the diverging neurons are shifted by the mean
difference of the groups (within contents), and the examples of the group are decoded again. As a control, the same
number of other neurons of the layer, drawn at random, are shifted by as much. If errors fall with the first shift only,
the divergence caused errors. Layers are shifted one at a time because a shift at one layer also moves the layers above
it. Only the mean over contents is shifted: a neuron that is higher at one letter and lower at another keeps that
difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.introspect.bias.divergence import Divergence
from adapt.metrics import TextScores, paired_intervals
from adapt.models.inference import decode_examples
from adapt.models.model import Model
from adapt.progress import track
from interventions.intervene import intervene
from interventions.neurons import Neurons
from interventions.sites import Site
from interventions.steer import Steer

Intervals = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class ShiftEffect:
    """The metrics of a group with the diverging neurons of one site shifted, and with random neurons shifted.

    Args:
        site: The name of the site.
        neurons: The number of neurons that are shifted.
        values: The metrics with the diverging neurons shifted.
        difference: The 95 % intervals of each metric minus that of the unmodified model, paired by example.
        random: The metrics with random neurons shifted.
        random_difference: The intervals for random neurons.
    """

    site: str
    neurons: int
    values: dict[str, float]
    difference: Intervals
    random: dict[str, float]
    random_difference: Intervals


def measure_shifts(
    model: Model,
    examples: Sequence[Example],
    unmodified: TextScores,
    loader: Loader,
    neurons: Neurons,
    divergences: Mapping[Site, Divergence],
    seed: int = 0,
) -> list[ShiftEffect]:
    """Shift the diverging neurons of each site towards the reference, and decode the examples of the group.

    The output layer is left out, because its units are the output itself.

    Args:
        model: The model.
        examples: The examples of the group.
        unmodified: The scores of the unmodified model on these examples.
        loader: Makes the batches.
        neurons: The diverging neurons.
        divergences: The divergence at each site.
        seed: Seed of the random neurons.
    """
    effects = []
    sites = [site for site in neurons.used if site.name != model.sites[-1].name]
    for site in track(sites, "shifting neurons"):
        divergence, diverging = divergences[site], list(neurons[site])
        drawn = _random_units(site, diverging, seed)
        # Random neurons move by as many standard deviations as the diverging ones, each by its own.
        shift = -divergence.shift[diverging]
        scores, random_scores = (
            _decode(model, examples, loader, Steer(site, _vector(site, units, shift * divergence.spread[units])))
            for units in (diverging, drawn)
        )
        effects.append(
            ShiftEffect(
                site=site.name,
                neurons=len(diverging),
                values=scores.values(),
                difference=paired_intervals(unmodified, scores),
                random=random_scores.values(),
                random_difference=paired_intervals(unmodified, random_scores),
            )
        )
    return effects


def _random_units(site: Site, diverging: Sequence[int], seed: int) -> list[int]:
    # Draw from all units if too few others are left.
    others = [unit for unit in range(site.units) if unit not in set(diverging)]
    pool = torch.tensor(others if len(others) >= len(diverging) else range(site.units))
    draw = torch.Generator().manual_seed(seed)
    return pool[torch.randperm(len(pool), generator=draw)[: len(diverging)]].tolist()


def _vector(site: Site, units: Sequence[int], values: Tensor) -> Tensor:
    vector = torch.zeros(site.units, dtype=torch.float64)
    vector[list(units)] = values
    return vector.float()


def _decode(model: Model, examples: Sequence[Example], loader: Loader, steer: Steer) -> TextScores:
    with intervene(model, steer):
        texts = decode_examples(model, model.task, examples, loader, f"shifting {steer.site.name}")
    return model.task.score(examples, texts)
