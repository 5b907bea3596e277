"""Conductance and internal influence: how much of a word's log-probability flows through each neuron.

    found = conductance(model, example, word)
    found.conductance.top(20)             # the neurons that carry most of it

All layers share one path from the baseline to the input. Each batch of points on it takes one forward and one backward
pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.introspect.attribution.network_input import Baseline, network_input, word_score
from adapt.introspect.attribution.words import Word, single_batch
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from interventions.gradients import capture_gradients
from interventions.neurons import Scores
from interventions.sites import Site


@dataclass(frozen=True, eq=False)
class Conductance:
    """Conductance and internal influence of each neuron for one word, summed over time.

    If all of the input passes through a layer, the conductance of its neurons adds up to `score - baseline`.

    Attributes:
        word: The word.
        conductance: The conductance of each neuron.
        influence: The internal influence of each neuron.
        score: The log-probability of the word for the input.
        baseline: The log-probability of the word for the baseline.
        gaps: The completeness error by site: the error of a path with few steps, plus what bypasses the site (such as
            a residual connection).
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
) -> Conductance:
    """Compute conductance (Dhamdhere et al. 2018) and internal influence (Leino et al. 2018).

    Let `x_k` be points on the path from the baseline to the input, `F` the score of the word, and `y_j` the output of
    neuron `j`. Conductance is the sum over `k` of `dF/dy_j` times the change of `y_j` from `x_k` to `x_{k+1}`, with the
    mean of the gradients at both ends (the trapezoidal rule, whose error falls with the square of `steps`). Influence
    is the mean of `dF/dy_j` along the path.

    Args:
        model: The model.
        example: The example that the model reads.
        word: One of the words that `output_words` returns.
        sites: The sites; None: the default sites of the model.
        baseline: The baseline, as in `adapt.introspect.attribution.attribution.attribute`.
        steps: Number of steps of the path.
        at_once: Number of steps per batch; affects time and memory only.
    """
    sites = list(model.sites if sites is None else sites)
    sums = {site.name: torch.zeros(2, site.units, dtype=torch.float64) for site in sites}

    def add(site: Site, y: Tensor, gradient: Tensor) -> None:
        y, gradient = y.float(), gradient.float()
        middle = (gradient[1:] + gradient[:-1]) / 2
        sums[site.name][0] += ((y[1:] - y[:-1]) * middle).flatten(0, -2).sum(0, dtype=torch.float64).cpu()
        sums[site.name][1] += middle.flatten(0, -2).sum(0, dtype=torch.float64).cpu() / steps

    batch = single_batch(model, example)
    with eval_mode(model):
        entry = network_input(model, batch)
        run = word_score(model, batch, entry, word)
        low, high = entry.baseline(baseline), entry.x
        shares = torch.linspace(0, 1, steps + 1).tolist()
        scores: list[float] = []
        for first in range(0, steps, at_once):
            points = shares[first : first + at_once + 1]  # the last point of a batch is the first of the next
            x = torch.cat([low + share * (high - low) for share in points])
            with capture_gradients(model, sites, add):
                values = run(x)
                values.sum().backward()
            scores += values.tolist()
    rise = scores[-1] - scores[0]
    return Conductance(
        word,
        Scores({site: sums[site.name][0] for site in sites}),
        Scores({site: sums[site.name][1] for site in sites}),
        scores[-1],
        scores[0],
        {site.name: rise - float(sums[site.name][0].sum()) for site in sites},
    )
