"""Which of a group's neurons go with its errors: within the group, the further an example parts, the worse it is read.

A neuron that merely knows who speaks parts alike in all examples of the group, well read or not. So for each example of
the group, and each neuron that parts, let y be how far the example is along the parting: the mean over its steps of the
activation less the group's mean for that content, times the parting's difference for that content. What is told is the
correlation of y with the example's error rate, over the group's examples. Both are of the group alone, so that what
parts it from others has no part in it.

Where it is known at which steps the model errs (`adapt.introspect.groups.ByCorrectness`), the same is told of steps:
how much further along the parting a neuron is at letters or tokens that are written wrong than at those written right.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.inference import eval_mode
from adapt.introspect.activations import own_steps
from adapt.introspect.groups import ByCorrectness, Grouping, clock_of
from adapt.introspect.parting import Parting
from adapt.introspect.read_profiles import batches_of, forward, group_names, membership
from adapt.models.model import Model
from interventions.capture import capture
from interventions.sites import Site

FEWEST_WRONG = 5  # examples with errors: from fewer, one or two of them would decide


@dataclass(frozen=True, eq=False)
class Link:
    """Correlations with errors at a site, `(units,)`, over so many examples, of which `wrong` have errors; 0 where
    either does not vary.

    `further` is how much further apart steps that are written wrong are than those written right, as a share of how far
    apart the groups are, and `further_error` its jackknife standard error; NaN where that is not known.
    """

    correlation: Tensor
    examples: int
    wrong: int
    further: Tensor
    further_error: Tensor

    @property
    def p(self) -> Tensor:
        """How often chance gets a correlation as high or higher, `(units,)`, by Student's t; 1 from too few errors."""
        from scipy.special import stdtr

        if self.wrong < FEWEST_WRONG:
            return torch.ones_like(self.correlation)
        freedom = self.examples - 2
        r = self.correlation.clamp(-1 + 1e-12, 1 - 1e-12)
        return torch.from_numpy(stdtr(freedom, (-r * (freedom / (1 - r * r)).sqrt()).numpy()))

    def interval(self, unit: int) -> tuple[float, float]:
        """The 95 % interval of a correlation (Fisher's z)."""
        if self.examples < 4:
            return -1.0, 1.0
        z = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, float(self.correlation[unit]))))
        far = 1.96 / math.sqrt(self.examples - 3)
        return math.tanh(z - far), math.tanh(z + far)


def link_errors(
    model: Model,
    examples: Sequence[Example],
    errors: Sequence[float],
    loader: Loader,
    contents: Sequence[Grouping],
    groups: Sequence[int],
    folds: Sequence[int],
    partings: Mapping[int, Sequence[Parting]],
) -> dict[int, dict[Site, Link]]:
    """The links of each group's partings (by the group's number) with its examples' errors; one forward pass a batch.

    `groups` and `folds` have a number for each example; examples of groups without partings are not read.
    """
    chosen = [number for number, group in enumerate(groups) if group in partings]
    sites = list({own.site: None for found in partings.values() for own in found})
    if not chosen:
        return {}
    names = group_names(contents)
    tables = {
        (group, own.site): (_rows(own, names), own.difference.float(), (own.means[0]).float())
        for group, found in partings.items()
        for own in found
    }
    sums = {key: _Sums(key[1].units, max(folds) + 1) for key in tables}
    correct = ByCorrectness()
    with eval_mode(model), torch.no_grad():
        batches = batches_of(model, [examples[number] for number in chosen], loader, "errors")
        for numbers, batch in batches:
            own_numbers = [chosen[number] for number in numbers]
            with capture(model, sites) as acts:
                seen, _ = forward(model, batch, own_numbers)
            steps = own_steps(model, batch)
            for site in sites:
                lengths, clock = steps(site).tolist(), clock_of(model, site)
                members = membership(contents, seen, clock, lengths, acts[site].shape[1])
                for row, number in enumerate(own_numbers):
                    if (groups[number], site) not in tables:
                        continue
                    rows, direction, mean = tables[groups[number], site]
                    # (own contents, time) -> the content of each step, and nothing of steps that have none of these.
                    inside = members[row, rows].to(acts[site])
                    if not inside.any():
                        continue
                    at = inside.any(0)
                    content = inside[:, at].argmax(0)
                    from_mean = acts[site][row, at].float() - mean.to(acts[site].device)[content]
                    along = (from_mean * direction.to(from_mean)[content]).double().cpu()
                    sums[groups[number], site].add(along.mean(0), errors[number])
                    verdict = correct.label(seen, clock, row, lengths[row])
                    if verdict is not None:
                        own = at[: lengths[row]].cpu()  # no step behind has a content
                        sums[groups[number], site].add_steps(along, verdict[own], folds[number])
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for own in sums.values():
            own.all_reduce()
    found: dict[int, dict[Site, Link]] = {}
    for group, several in partings.items():
        for parting in several:
            distance = parting.spread * parting.squared
            found.setdefault(group, {})[parting.site] = sums[group, parting.site].link(distance)
    return found


def _rows(parting: Parting, names: Sequence[str]) -> list[int]:
    return [names.index(content) for content in parting.contents]


class _Sums:
    """Sums for a correlation of one number with each of several: of y, y * y and y * e, `(units,)`, and of e; and by
    fold, over steps written wrong and right.
    """

    def __init__(self, units: int, folds: int) -> None:
        self.steps = torch.zeros(folds, 2, units, dtype=torch.float64)
        self.count = torch.zeros(folds, 2, dtype=torch.float64)
        self.y = torch.zeros(3, units, dtype=torch.float64)
        self.e = torch.zeros(4, dtype=torch.float64)  # how many, of e, of e * e, how many have errors

    def add(self, y: Tensor, e: float) -> None:
        self.y += torch.stack([y, y * y, y * e])
        self.e += torch.tensor([1.0, e, e * e, e != 0], dtype=torch.float64)

    def add_steps(self, along: Tensor, verdict: Tensor, fold: int) -> None:
        """`along` `(steps, units)`; `verdict` `(steps,)` is 0 where the model errs, 1 where it does not, else less."""
        for right in (0, 1):
            self.steps[fold, right] += along[verdict == right].sum(0)
            self.count[fold, right] += int((verdict == right).sum())

    def all_reduce(self) -> None:
        for total in (self.y, self.e, self.steps, self.count):
            torch.distributed.all_reduce(total)

    def link(self, distance: Tensor) -> Link:
        count = max(1.0, float(self.e[0]))
        mean, of_e = self.y[0] / count, float(self.e[1]) / count
        variance = (self.y[1] / count - mean.square()).clamp_min(0)
        variance = variance.where(variance > 1e-12 * (self.y[1] / count), 0)
        spread = variance.sqrt() * math.sqrt(max(0.0, float(self.e[2]) / count - of_e**2))
        correlation = ((self.y[2] / count - mean * of_e) / spread.where(spread > 0, 1)).where(spread > 0, 0)
        return Link(correlation.clamp(-1, 1), int(self.e[0]), int(self.e[3]), *self._further(distance))

    def _further(self, distance: Tensor) -> tuple[Tensor, Tensor]:
        """Steps written wrong less those written right, over `distance` `(units,)`, and its jackknife error."""

        def figure(steps: Tensor, count: Tensor) -> Tensor:  # 0 steps: NaN
            mean = steps / count.unsqueeze(-1)
            return (mean[..., 0, :] - mean[..., 1, :]) / distance

        folds = len(self.steps)
        without = figure(self.steps.sum(0) - self.steps, self.count.sum(0) - self.count)
        error = ((folds - 1) / folds * (without - without.mean(0)).square().sum(0)).sqrt()
        return figure(self.steps.sum(0), self.count.sum(0)), error
