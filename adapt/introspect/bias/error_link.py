"""Which of a group's neurons go with its errors: within the group, the further an example parts, the worse it is read.

A neuron that merely knows who speaks parts alike in all examples of the group, well read or not. So for each example of
the group, and each neuron that parts, let y be how far the example is along the parting, the mean over its steps, by
what all other folds say of the parting (`adapt.introspect.bias.projection`). What is told is the correlation of y with the
example's error rate e, over the group's examples. Both are of the group alone, so that what parts it from others has no
part in it.

How far chance gets: where errors do not go with y, (y - mean y) (e - mean e) might as well have the other sign,
however much farther off some examples are than others. Student's t of these products about 0 thus lets no single
example decide, as a correlation's own t does. Where several examples are one speaker's, the products are first summed
by fold, which holds whole speakers.

Where it is known at which steps the model errs (`adapt.introspect.profiles.groups.ByCorrectness`), the same is told of steps:
how much further along the parting a neuron is at letters or tokens that are written wrong than at those written right.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.introspect.activations import valid_lengths
from adapt.introspect.bias.divergence import Parting
from adapt.introspect.bias.projection import Along
from adapt.introspect.bias.sums import ContentSums
from adapt.introspect.profiles.groups import ByCorrectness, Grouping, clock_of
from adapt.introspect.profiles.jackknife import student_quantile
from adapt.introspect.profiles.read import batches_of, forward, membership
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from interventions.capture import capture
from interventions.sites import Site

FEWEST_WRONG = 5  # examples with errors: from fewer, one or two of them would decide
_ALL = 1 - 1e-12  # a correlation as high as any


@dataclass(frozen=True, eq=False)
class Link:
    """Correlations with errors at a site, `(units,)`, over so many examples, of which `wrong` have errors; 0 where
    either does not vary.

    `p` is how often chance gets as high, `(units,)`; 1 from too few errors. `error` is the jackknife standard error of
    the correlation's inverse hyperbolic tangent (Fisher's z), over `freedom` + 1 folds.

    `further` is how much further apart steps that are written wrong are than those written right, as a share of how far
    apart the groups are, and `further_error` its jackknife standard error; NaN where that is not known.
    """

    correlation: Tensor
    error: Tensor
    p: Tensor
    examples: int
    wrong: int
    freedom: int
    further: Tensor
    further_error: Tensor

    def interval(self, unit: int) -> tuple[float, float]:
        """The 95 % interval of a correlation."""
        if self.freedom < 2:
            return -1.0, 1.0
        z = math.atanh(float(self.correlation[unit].clamp(-_ALL, _ALL)))
        far = student_quantile(0.975, self.freedom) * float(self.error[unit])
        return math.tanh(z - far), math.tanh(z + far)


def link_errors(
    model: Model,
    examples: Sequence[Example],
    errors: Sequence[float],
    loader: Loader,
    contents: Sequence[Grouping],
    groups: Sequence[int],
    folds: Sequence[int],
    sums: ContentSums,
    together: bool,
    partings: Mapping[int, Sequence[Parting]],
) -> dict[int, dict[Site, Link]]:
    """The links of each group's partings (by the group's number) with its examples' errors; one forward pass a batch.

    `groups` and `folds` have a number for each example; `sums` are those of the same examples, groups, folds and
    contents that the partings are of. `together` says that examples of a fold belong together, as those of a speaker
    do. Examples of groups without partings are not read.
    """
    chosen = [number for number, group in enumerate(groups) if group in partings]
    sites = list({own.site: None for found in partings.values() for own in found})
    if not chosen:
        return {}
    parted = {(group, own.site): Along(sums, own, group) for group, found in partings.items() for own in found}
    found_of = {key: LinkSums(key[1].units, max(folds) + 1) for key in parted}
    correct = ByCorrectness()
    with eval_mode(model), torch.no_grad():
        batches = batches_of(model, [examples[number] for number in chosen], loader, "errors")
        for numbers, batch in batches:
            own_numbers = [chosen[number] for number in numbers]
            with capture(model, sites) as acts:
                seen, _ = forward(model, batch, own_numbers)
            steps = valid_lengths(model, batch)
            for site in sites:
                lengths, clock = steps(site).tolist(), clock_of(model, site)
                members = membership(contents, seen, clock, lengths, acts[site].shape[1])
                for row, number in enumerate(own_numbers):
                    key = groups[number], site
                    if key not in parted:
                        continue
                    # (own contents, time) -> the content of each step, and nothing of steps that have none of these.
                    inside = members[row, parted[key].places].cpu()
                    if not inside.any():
                        continue
                    at = inside.any(0)
                    x = acts[site][row].float().cpu()[at]
                    along = parted[key](x, inside[:, at].int().argmax(0), folds[number])
                    found_of[key].add(along.mean(0), errors[number], folds[number])
                    verdict = correct.label(seen, clock, row, lengths[row])
                    if verdict is not None:  # no step behind has a content
                        found_of[key].add_steps(along, verdict[at[: lengths[row]]], folds[number])
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for own in found_of.values():
            own.all_reduce(next(model.parameters()).device)
    found: dict[int, dict[Site, Link]] = {}
    for group, several in partings.items():
        for parting in several:
            distance = parting.spread * parting.squared
            found.setdefault(group, {})[parting.site] = found_of[group, parting.site].link(distance, together)
    return found


class LinkSums:
    """Sums over a group's examples: by fold of y, y * y and y * e, `(folds, 3, units)`, and of 1, e, e * e and whether
    there are errors, `(folds, 4)`; over all of y * e * e, y * y * e and y * y * e * e, `(3, units)`; and by fold over
    steps written wrong and right.
    """

    def __init__(self, units: int, folds: int) -> None:
        self.steps = torch.zeros(folds, 2, units, dtype=torch.float64)
        self.count = torch.zeros(folds, 2, dtype=torch.float64)
        self.y = torch.zeros(folds, 3, units, dtype=torch.float64)
        self.e = torch.zeros(folds, 4, dtype=torch.float64)
        self.higher = torch.zeros(3, units, dtype=torch.float64)

    def add(self, y: Tensor, e: float, fold: int) -> None:
        """An example that is `y` `(units,)` along, and has error rate `e`."""
        self.y[fold] += torch.stack([y, y * y, y * e])
        self.e[fold] += torch.tensor([1.0, e, e * e, e != 0], dtype=torch.float64)
        self.higher += torch.stack([y * e * e, y * y * e, y * y * e * e])

    def add_steps(self, along: Tensor, verdict: Tensor, fold: int) -> None:
        """`along` `(steps, units)`; `verdict` `(steps,)` is 0 where the model errs, 1 where it does not, else less."""
        for right in (0, 1):
            self.steps[fold, right] += along[verdict == right].sum(0)
            self.count[fold, right] += int((verdict == right).sum())

    def all_reduce(self, device: torch.device) -> None:
        """What all processes have seen, in each of them; on the `device` that they speak to each other from."""
        for total in (self.y, self.e, self.higher, self.steps, self.count):
            moved = total.to(device)
            torch.distributed.all_reduce(moved)
            total.copy_(moved)

    def link(self, distance: Tensor, together: bool) -> Link:
        """What the sums say; `distance` `(units,)` is how far apart the groups are, in what `along` is told in, and
        `together` as in `link_errors`.
        """
        used = self.e[:, 0] > 0
        y, e, folds = self.y[used], self.e[used], int(used.sum())
        whole = _correlation(y.sum(0), e.sum(0))
        without = _correlation(y.sum(0) - y, e.sum(0) - e).atanh()
        error = ((folds - 1) / max(1, folds) * (without - without.mean(0)).square().sum(0)).sqrt()
        examples, wrong = (int(self.e[:, place].sum()) for place in (0, 3))
        p = torch.ones_like(whole)
        if wrong >= FEWEST_WRONG and folds > 2:
            p = _p(*self._products(y, e, together)).where(whole != 0, 1)
        return Link(whole, error, p, examples, wrong, folds - 1, *self._further(distance))

    def _products(self, y: Tensor, e: Tensor, together: bool) -> tuple[Tensor, Tensor, int]:
        """The sum of (y - mean y) (e - mean e) and that of their squares, `(units,)`, and how many there are."""
        count = float(e[:, 0].sum())
        mean, of_e = y[:, 0].sum(0) / count, e[:, 1].sum() / count
        products = y[:, 2] - mean * e[:, 1:2] - of_e * y[:, 0] + e[:, :1] * mean * of_e
        if together:
            return products.sum(0), products.square().sum(0), len(products)
        (one, two, cross), (_, errors, squares, _) = y.sum(0), e.sum(0)
        far = self.higher[2] - 2 * of_e * self.higher[1] + of_e**2 * two
        far = far - 2 * mean * (self.higher[0] - 2 * of_e * cross + of_e**2 * one)
        far = far + mean**2 * (squares - of_e * errors)
        return products.sum(0), far.clamp_min(1e-14 * float(squares) * two), int(count)  # less is rounding

    def _further(self, distance: Tensor) -> tuple[Tensor, Tensor]:
        """Steps written wrong less those written right, over `distance` `(units,)`, and its jackknife error."""

        def figure(steps: Tensor, count: Tensor) -> Tensor:  # 0 steps: NaN
            mean = steps / count.unsqueeze(-1)
            return (mean[..., 0, :] - mean[..., 1, :]) / distance

        folds = len(self.steps)
        without = figure(self.steps.sum(0) - self.steps, self.count.sum(0) - self.count)
        error = ((folds - 1) / folds * (without - without.mean(0)).square().sum(0)).sqrt()
        return figure(self.steps.sum(0), self.count.sum(0)), error


def _correlation(y: Tensor, e: Tensor) -> Tensor:
    """Of y with e, from sums `(..., 3, units)` and `(..., 4)`; 0 where either does not vary."""
    count = e[..., :1].clamp_min(1)
    mean, of_e = y[..., 0, :] / count, e[..., 1:2] / count
    variance, of_errors = y[..., 1, :] / count - mean.square(), e[..., 2:3] / count - of_e.square()
    varies = (variance > 1e-12 * (y[..., 1, :] / count)) & (of_errors > 1e-12 * (e[..., 2:3] / count))
    spread = (variance * of_errors).where(varies, 1).sqrt()
    return ((y[..., 2, :] / count - mean * of_e) / spread).where(varies, 0).clamp(-_ALL, _ALL)


def _p(total: Tensor, squares: Tensor, count: int) -> Tensor:
    """How often chance gets as high a sum of `count` numbers, of which `squares` are the squares summed, by Student's t
    about 0.
    """
    from scipy.special import stdtr

    same = total.square() / squares.clamp_min(1e-300)  # of how many, all alike, the sum might be: `count` at most
    t = total.sign() * (same * (count - 1) / (count - same).clamp_min(1e-9)).sqrt()
    return torch.from_numpy(stdtr(count - 1, -t.numpy()))
