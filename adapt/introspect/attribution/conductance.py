"""Through which neurons the input made a word: conductance and internal influence of all layers at once.

    found = conductance(model, example, word)
    found.conductance.top(20, None)       # the neurons that carried most of it

Every layer is read on one path from the baseline to the input, in one pass forward and one backward for each batch of
its points, where methods that are asked for one layer at a time walk it once a layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.introspect.attribution.attribution import Baseline, Word, entrance, one_batch, score_of
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from interventions.gradients import capture_gradients
from interventions.neurons import Scores
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class Conducted:
    """`conductance` and `influence` of each neuron, summed over time, for one word.

    A layer that all of the input goes through conducts all of it: its neurons' sum is the `score` (a log-probability)
    less that of the `baseline`. `gaps` says by site how far it is from that: the error of a path with so few steps, and
    what goes past the site (a residual connection).
    """

    word: Word
    conductance: Scores
    influence: Scores
    score: float
    baseline: float
    gaps: dict[str, float]


def conductance(
    model: Model,
    example: Example,
    word: Word,
    sites: Sequence[Site] | None = None,
    baseline: Baseline = "even",
    steps: int = 32,
    at_once: int = 8,
) -> Conducted:
    """Conductance (Dhamdhere et al. 2018) and internal influence (Leino et al. 2018) at the sites (None: all default
    ones) for one of the words that `adapt.introspect.attribution.attribution.written` returns.

    On a path of points `x_k` from the baseline to the input, with `F` the score of the word and `y_j` what neuron `j`
    puts out: the conductance is the sum over `k` of `dF/dy_j` times the change of `y_j` from `x_k` to `x_{k+1}`, the
    gradient being the mean of both ends (trapezoids, whose error falls with the square of `steps`); the influence is
    the mean of `dF/dy_j` along the path.
    """
    sites = list(model.sites if sites is None else sites)
    sums = {site.name: torch.zeros(2, site.units, dtype=torch.float64) for site in sites}

    def add(site: Site, y: Tensor, gradient: Tensor) -> None:
        y, gradient = y.float(), gradient.float()
        middle = (gradient[1:] + gradient[:-1]) / 2
        sums[site.name][0] += ((y[1:] - y[:-1]) * middle).flatten(0, -2).sum(0, dtype=torch.float64).cpu()
        sums[site.name][1] += middle.flatten(0, -2).sum(0, dtype=torch.float64).cpu() / steps

    batch = one_batch(model, example)
    with eval_mode(model):
        place = entrance(model, batch)
        run = score_of(model, batch, place, word)
        low, high = place.baseline(baseline), place.x
        shares = torch.linspace(0, 1, steps + 1).tolist()
        scores: list[float] = []
        for first in range(0, steps, at_once):
            points = shares[first : first + at_once + 1]  # the last of a batch is the first of the next
            x = torch.cat([low + share * (high - low) for share in points])
            with capture_gradients(model, sites, add):
                found = run(x)
                found.sum().backward()
            scores += found.tolist()
    score, bare = scores[-1], scores[0]  # at the path's ends
    return Conducted(
        word,
        Scores({site: sums[site.name][0] for site in sites}),
        Scores({site: sums[site.name][1] for site in sites}),
        score,
        bare,
        {site.name: score - bare - float(sums[site.name][0].sum()) for site in sites},
    )
