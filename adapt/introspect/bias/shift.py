"""Do the neurons that part two groups matter? Move them, by their mean difference, to where the other group has them.

What parts two groups need not be what makes errors. So at one layer after another, the neurons that part are shifted
by the group's mean less the other's (within content), and the group's examples are answered anew; beside it, as many
other neurons of the layer, drawn at random, are shifted as far. If the errors fall by the one and not by the other, the
parting caused errors; a layer alone, because what is moved below is moved above as well. Only the mean over contents is
moved: where a neuron parts upwards at one letter and downwards at another, that stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.introspect.bias.divergence import Parting
from adapt.metrics import TextScores, paired_intervals
from adapt.models.inference import decode_examples
from adapt.models.model import Model
from adapt.progress import track
from interventions.intervene import intervene
from interventions.neurons import Neurons
from interventions.sites import Site
from interventions.steer import Steer


@dataclass(frozen=True)
class Moved:
    """A group's metrics with the neurons of one site moved, and with random ones; `difference` and `random_difference`
    are the 95 % intervals of each metric less what it is without, examples paired.
    """

    site: str
    neurons: int
    values: dict[str, float]
    difference: dict[str, tuple[float, float]]
    random: dict[str, float]
    random_difference: dict[str, tuple[float, float]]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def move_together(
    model: Model,
    examples: Sequence[Example],
    bare: TextScores,
    loader: Loader,
    neurons: Neurons,
    partings: Mapping[Site, Parting],
    seed: int = 0,
) -> list[Moved]:
    """Shift the `neurons` of each site towards the other group, and answer the group's `examples`; `bare` is how good
    the answers are without. The output layer is left out: its units are what is written.
    """
    found = []
    used = [site for site in neurons.used if site.name != model.sites[-1].name]
    for site in track(used, "moving neurons"):
        own, chosen = partings[site], list(neurons[site])
        far = -own.shift[chosen] * own.spread[chosen]
        others = [unit for unit in range(site.units) if unit not in set(chosen)]
        draw = torch.Generator().manual_seed(seed)
        pool = torch.tensor(others if len(others) >= len(chosen) else range(site.units))
        drawn = pool[torch.randperm(len(pool), generator=draw)[: len(chosen)]].tolist()
        # As far: in the standard deviations of the neurons that are moved.
        as_far = -own.shift[chosen] * own.spread[drawn]
        qualities = [
            _answered(model, examples, loader, Steer(site, _vector(site, units, by)))
            for units, by in ((chosen, far), (drawn, as_far))
        ]
        values, differences = zip(*((q.values(), paired_intervals(bare, q)) for q in qualities), strict=True)
        found.append(Moved(site.name, len(chosen), values[0], differences[0], values[1], differences[1]))
    return found


def _vector(site: Site, units: Sequence[int], by: Tensor) -> Tensor:
    vector = torch.zeros(site.units, dtype=torch.float64)
    vector[list(units)] = by
    return vector.float()


def _answered(model: Model, examples: Sequence[Example], loader: Loader, steer: Steer) -> TextScores:
    with intervene(model, steer):
        texts = decode_examples(model, model.task, examples, loader, f"moving {steer.site.name}")
    return model.task.evaluate([example.text for example in examples], texts)
