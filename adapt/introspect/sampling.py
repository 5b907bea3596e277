"""Sample rows of activations: some valid steps of each example, or the mean over them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from adapt.data.loader import Batch
from adapt.introspect.activations import run, valid_lengths
from adapt.models.model import DecoderModel, Model
from interventions.capture import capture
from interventions.sites import Site, length_mask

Pick = Callable[[Site, Tensor], tuple[Tensor, Tensor]]
"""Chooses the steps to read at a site, from the number of valid steps of each example, `(batch,)`.

Returns the place in the batch and the step of each row, both `(rows,)`.
"""


def read_rows(model: Model, batch: Batch, sites: Sequence[Site], pick: Pick | None = None) -> dict[str, Tensor]:
    """Run the model on a batch, and return rows of activations, `(rows, units)` by site name.

    Without `pick` there is one row per example, the mean over its valid steps. A decoder reads the references.
    """
    steps = valid_lengths(model, batch)
    rows: dict[str, Tensor] = {}

    def sample(site: Site, x: Tensor) -> None:
        lengths = steps(site)
        if pick is None:
            mask = length_mask(lengths, x.shape[1]).unsqueeze(-1)
            rows[site.name] = (x * mask).sum(1) / lengths.unsqueeze(-1)
        else:
            places, times = pick(site, lengths)
            rows[site.name] = x[places, times]

    with capture(model, sites, sample):
        run(model, batch)
    return rows


def reads_text(model: Model, site: Site) -> bool:
    """Whether a step of the site is a token that a decoder reads, instead of a step of the model's input."""
    if not isinstance(model, DecoderModel):
        return False
    one = torch.ones(1, dtype=torch.long)
    # Long enough for any window, so the number of steps is not 0.
    counts = [int(model.valid_lengths(site, 100_000 * one, tokens * one)) for tokens in (1, 2)]
    return counts[0] != counts[1]


class Evenly:
    """A `Pick` of `count` `(batch,)` evenly spaced steps per example.

    Sites with different numbers of steps are read at the same relative positions in an example.
    """

    def __init__(self, count: Tensor) -> None:
        self.count = count
        self._cache: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}  # most sites have the same steps

    def __call__(self, site: Site, lengths: Tensor) -> tuple[Tensor, Tensor]:
        steps = tuple(lengths.tolist())
        if steps not in self._cache:
            count = self.count.to(lengths.device)
            places = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), count)
            numbers = torch.arange(len(places), device=lengths.device) - (count.cumsum(0) - count)[places]
            times = ((2 * numbers + 1) * lengths[places]).div(2 * count[places], rounding_mode="floor")
            self._cache[steps] = places, times
        return self._cache[steps]
