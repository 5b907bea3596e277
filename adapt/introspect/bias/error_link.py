"""Link a group's divergence with its errors: within the group, are examples that diverge further recognised worse?

A neuron that only marks the group diverges equally in all its examples, whatever their errors. So for each example of
the group and each diverging neuron, let y be the mean over steps of the projection onto the divergence, estimated from
all other folds (`adapt.introspect.bias.projection`). The link is the correlation of y with the error rate e over the
examples of the group. Both y and e come from this group alone, so differences from other groups play no part.

Significance: without a link, (y - mean y) (e - mean e) could have either sign, however far some examples are from the
rest. So in a one-sample t-test of these products no single example decides, unlike in the t-test of a correlation. If
several examples are of one speaker, the products are first summed by fold, which holds whole speakers.

Where it is known at which steps the model errs (`adapt.introspect.profiles.groups.ByCorrectness`), steps are compared
too: how much larger the projection is at wrong letters or tokens than at correct ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.introspect.activations import valid_lengths
from adapt.introspect.bias.divergence import Divergence
from adapt.introspect.bias.projection import Projection
from adapt.introspect.bias.sums import ContentSums
from adapt.introspect.profiles.groups import ByCorrectness, Grouping
from adapt.introspect.profiles.jackknife import student_quantile
from adapt.introspect.profiles.read import batches_of, forward, membership
from adapt.introspect.profiles.trace import time_base_of
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from interventions.capture import capture
from interventions.sites import Site

MIN_WRONG = 5  # examples with errors that a test needs; with fewer, one or two would decide
_MAX_CORRELATION = 1 - 1e-12


@dataclass(frozen=True, eq=False)
class ErrorLink:
    """Correlations of the projection with errors at a site.

    Args:
        correlation: The correlation, `(units,)`; 0 if either side does not vary.
        error: The jackknife standard error of its inverse hyperbolic tangent (Fisher's z), `(units,)`.
        p: The probability of a correlation at least as high if there were no link, `(units,)`; 1 with too few errors.
        examples: The number of examples.
        wrong: The number of examples with errors.
        degrees_of_freedom: The number of folds minus one.
        excess: The projection at wrong steps minus that at correct steps, as a share of the distance of the groups,
            `(units,)`; NaN if unknown.
        excess_error: The jackknife standard error of `excess`, `(units,)`; NaN if unknown.
    """

    correlation: Tensor
    error: Tensor
    p: Tensor
    examples: int
    wrong: int
    degrees_of_freedom: int
    excess: Tensor
    excess_error: Tensor

    def interval(self, unit: int) -> tuple[float, float]:
        """Return the 95 % confidence interval of the correlation at a neuron."""
        if self.degrees_of_freedom < 2:
            return -1.0, 1.0
        z = math.atanh(float(self.correlation[unit].clamp(-_MAX_CORRELATION, _MAX_CORRELATION)))
        half = student_quantile(0.975, self.degrees_of_freedom) * float(self.error[unit])
        return math.tanh(z - half), math.tanh(z + half)


def link_errors(
    model: Model,
    examples: Sequence[Example],
    errors: Sequence[float],
    loader: Loader,
    contents: Sequence[Grouping],
    groups: Sequence[int],
    folds: Sequence[int],
    sums: ContentSums,
    by_speaker: bool,
    divergences: Mapping[int, Sequence[Divergence]],
) -> dict[int, dict[Site, ErrorLink]]:
    """Link the divergences of each group with the errors of its examples, with one forward pass per batch.

    Args:
        model: The model.
        examples: The examples; those of groups without divergences are not read.
        errors: The error rate of each example.
        loader: Makes the batches.
        contents: The groupings by content for which `sums` were computed.
        groups: The index of each example's group.
        folds: The fold of each example.
        sums: The sums of activations from which the divergences were computed.
        by_speaker: Whether the examples of a fold belong together, because they are of the same speakers.
        divergences: The divergences of each group, by the index of the group.

    Returns:
        For the index of each group, its links by site.
    """
    chosen = [number for number, group in enumerate(groups) if group in divergences]
    sites = list({divergence.site: None for several in divergences.values() for divergence in several})
    if not chosen:
        return {}
    projections = {(g, d.site): Projection(sums, d, g) for g, several in divergences.items() for d in several}
    link_sums = {key: ErrorLinkSums(key[1].units, max(folds) + 1) for key in projections}
    correct = ByCorrectness()
    with eval_mode(model), torch.no_grad():
        batches = batches_of(model, [examples[number] for number in chosen], loader, "errors")
        for places, batch in batches:
            numbers = [chosen[place] for place in places]
            with capture(model, sites) as acts:
                trace, _ = forward(model, batch, numbers)
            steps = valid_lengths(model, batch)
            for site in sites:
                lengths, time_base = steps(site).tolist(), time_base_of(model, site)
                members = membership(contents, trace, time_base, lengths, acts[site].shape[1])
                for row, number in enumerate(numbers):
                    key = groups[number], site
                    if key not in projections:
                        continue
                    # Which of the divergence's contents each step has, (contents, time); other steps do not count.
                    has = members[row, projections[key].places].cpu()
                    used = has.any(0)
                    if not used.any():
                        continue
                    x, content = acts[site][row].float().cpu()[used], has[:, used].int().argmax(0)
                    projected = projections[key](x, content, folds[number])
                    link_sums[key].add(projected.mean(0), errors[number], folds[number])
                    verdict = correct.label(trace, time_base, row, lengths[row])
                    if verdict is not None:  # padding has no content, so `used` is False there
                        link_sums[key].add_steps(projected, verdict[used[: lengths[row]]], folds[number])
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for each in link_sums.values():
            each.all_reduce(next(model.parameters()).device)
    return {
        group: {d.site: link_sums[group, d.site].link(d.spread * d.squared_distance, by_speaker) for d in several}
        for group, several in divergences.items()
    }


class ErrorLinkSums:
    """Sums over the examples of a group, where y is the projection of an example and e is its error rate.

    y       (folds, 3, units)   of y, y * y and y * e
    e       (folds, 4)          of 1, e, e * e and whether there are errors
    higher  (3, units)          of y * e * e, y * y * e and y * y * e * e, over all folds
    steps   (folds, 2, units)   of the projections of wrong and of correct steps
    count   (folds, 2)          the number of these steps
    """

    def __init__(self, units: int, folds: int) -> None:
        self.y = torch.zeros(folds, 3, units, dtype=torch.float64)
        self.e = torch.zeros(folds, 4, dtype=torch.float64)
        self.higher = torch.zeros(3, units, dtype=torch.float64)
        self.steps = torch.zeros(folds, 2, units, dtype=torch.float64)
        self.count = torch.zeros(folds, 2, dtype=torch.float64)

    def add(self, y: Tensor, e: float, fold: int) -> None:
        """Add an example with projection `y` `(units,)` and error rate `e`."""
        self.y[fold] += torch.stack([y, y * y, y * e])
        self.e[fold] += torch.tensor([1.0, e, e * e, e != 0], dtype=torch.float64)
        self.higher += torch.stack([y * e * e, y * y * e, y * y * e * e])

    def add_steps(self, projected: Tensor, verdict: Tensor, fold: int) -> None:
        """Add the projections of steps `(steps, units)`; `verdict` `(steps,)` is 0 if wrong, 1 if correct, or NONE."""
        for correct in (0, 1):
            self.steps[fold, correct] += projected[verdict == correct].sum(0)
            self.count[fold, correct] += int((verdict == correct).sum())

    def all_reduce(self, device: torch.device) -> None:
        """Add up the sums of all processes, in place, over the `device` on which they communicate."""
        for total in (self.y, self.e, self.higher, self.steps, self.count):
            moved = total.to(device)
            torch.distributed.all_reduce(moved)
            total.copy_(moved)

    def link(self, distance: Tensor, by_speaker: bool) -> ErrorLink:
        """Return the link.

        `distance` `(units,)` is the distance of the groups in the units of the projection; `by_speaker` is as in
        `link_errors`.
        """
        used = self.e[:, 0] > 0
        y, e, folds = self.y[used], self.e[used], int(used.sum())
        whole = _correlation(y.sum(0), e.sum(0))
        without = _correlation(y.sum(0) - y, e.sum(0) - e).atanh()
        error = ((folds - 1) / max(1, folds) * (without - without.mean(0)).square().sum(0)).sqrt()
        examples, wrong = (int(self.e[:, place].sum()) for place in (0, 3))
        p = torch.ones_like(whole)
        if wrong >= MIN_WRONG and folds > 2:
            p = _upper_tail(*self._products(y, e, by_speaker)).where(whole != 0, 1)
        return ErrorLink(whole, error, p, examples, wrong, folds - 1, *self._excess(distance))

    def _products(self, y: Tensor, e: Tensor, by_speaker: bool) -> tuple[Tensor, Tensor, int]:
        """Return the sums of products (y - mean y) (e - mean e) and of their squares, `(units,)`, and their count."""
        count = float(e[:, 0].sum())
        mean_y, mean_e = y[:, 0].sum(0) / count, e[:, 1].sum() / count
        products = y[:, 2] - mean_y * e[:, 1:2] - mean_e * y[:, 0] + e[:, :1] * mean_y * mean_e
        if by_speaker:
            return products.sum(0), products.square().sum(0), len(products)
        (sum_y, sum_yy, sum_ye), (_, sum_e, sum_ee, _) = y.sum(0), e.sum(0)
        squares = self.higher[2] - 2 * mean_e * self.higher[1] + mean_e**2 * sum_yy
        squares = squares - 2 * mean_y * (self.higher[0] - 2 * mean_e * sum_ye + mean_e**2 * sum_y)
        squares = squares + mean_y**2 * (sum_ee - mean_e * sum_e)
        rounding = 1e-14 * float(sum_ee) * sum_yy
        return products.sum(0), squares.clamp_min(rounding), int(count)

    def _excess(self, distance: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of wrong steps minus that of correct ones, divided by `distance`, and its jackknife error."""

        def excess(steps: Tensor, count: Tensor) -> Tensor:  # NaN without steps
            mean = steps / count.unsqueeze(-1)
            return (mean[..., 0, :] - mean[..., 1, :]) / distance

        folds = len(self.steps)
        without = excess(self.steps.sum(0) - self.steps, self.count.sum(0) - self.count)
        error = ((folds - 1) / folds * (without - without.mean(0)).square().sum(0)).sqrt()
        return excess(self.steps.sum(0), self.count.sum(0)), error


def _correlation(y: Tensor, e: Tensor) -> Tensor:
    """Return the correlation of y with e from sums `(..., 3, units)` and `(..., 4)`; 0 if either does not vary."""
    count = e[..., :1].clamp_min(1)
    mean_y, mean_e = y[..., 0, :] / count, e[..., 1:2] / count
    variance_y, variance_e = y[..., 1, :] / count - mean_y.square(), e[..., 2:3] / count - mean_e.square()
    varies = (variance_y > 1e-12 * (y[..., 1, :] / count)) & (variance_e > 1e-12 * (e[..., 2:3] / count))
    spread = (variance_y * variance_e).where(varies, 1).sqrt()
    correlation = ((y[..., 2, :] / count - mean_y * mean_e) / spread).where(varies, 0)
    return correlation.clamp(-_MAX_CORRELATION, _MAX_CORRELATION)


def _upper_tail(total: Tensor, squares: Tensor, count: int) -> Tensor:
    """Return the p-value of a sum of `count` products above 0, by a one-sided one-sample t-test.

    `squares` is the sum of the squared products.
    """
    from scipy.special import stdtr

    effective = total.square() / squares.clamp_min(1e-300)  # the number of equal products with this sum, up to `count`
    t = total.sign() * (effective * (count - 1) / (count - effective).clamp_min(1e-9)).sqrt()
    return torch.from_numpy(stdtr(count - 1, -t.numpy()))
