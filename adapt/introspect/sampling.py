"""Rows of activations: of each example a few of its own steps, or its mean, and never a padded one."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from adapt.data.loader import Batch
from adapt.introspect.activations import run, valid_lengths
from adapt.models.model import DecoderModel, Model
from interventions.capture import capture
from interventions.sites import Site, length_mask

Pick = Callable[[Site, Tensor], tuple[Tensor, Tensor]]
"""Which steps of a batch to read at a site, from how many are each example's own, `(batch,)`: the place in the batch
and the step of each row, both `(rows,)`.
"""


def read_rows(model: Model, batch: Batch, sites: Sequence[Site], pick: Pick | None = None) -> dict[str, Tensor]:
    """Run a batch once, and return `(rows, units)` by site name: the steps that `pick` names, or without it a row for
    each example, the mean over its own steps.

    Only these are copied, so that it costs little beside the pass. A decoder reads the references.
    """
    steps, rows = valid_lengths(model, batch), {}

    def keep(site: Site, x: Tensor) -> None:
        own = steps(site)
        if pick is None:
            mask = length_mask(own, x.shape[1]).unsqueeze(-1)
            rows[site.name] = (x * mask).sum(1) / own.unsqueeze(-1)
        else:
            places, times = pick(site, own)
            rows[site.name] = x[places, times]

    with capture(model, sites, keep):
        run(model, batch)
    return rows


def reads_text(model: Model, site: Site) -> bool:
    """Whether a step of the site is a token that a decoder reads, and not a step of the model's input."""
    if not isinstance(model, DecoderModel):
        return False
    one = torch.ones(1, dtype=torch.long)
    # As many samples as any window needs, so that the count of steps is not 0 for want of them.
    counts = [int(model.valid_lengths(site, 100_000 * one, tokens * one)) for tokens in (1, 2)]
    return counts[0] != counts[1]


class Evenly:
    """A `Pick`: `count` `(batch,)` of the own steps of each example, spread evenly over them.

    Sites with different step counts are so read at the same places of an example, each at its nearest step.
    """

    def __init__(self, count: Tensor) -> None:
        self.count = count
        self._found: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}  # most sites have the same steps

    def __call__(self, site: Site, own: Tensor) -> tuple[Tensor, Tensor]:
        steps = tuple(own.tolist())
        if steps not in self._found:
            count = self.count.to(own.device)
            places = torch.repeat_interleave(torch.arange(len(own), device=own.device), count)
            numbers = torch.arange(len(places), device=own.device) - (count.cumsum(0) - count)[places]
            times = ((2 * numbers + 1) * own[places]).div(2 * count[places], rounding_mode="floor")
            self._found[steps] = places, times
        return self._found[steps]
