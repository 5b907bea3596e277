"""Links with errors: planted ones are found, and noise has none, even with an outlier that has many errors."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from adapt.introspect.bias.divergence import group_divergence
from adapt.introspect.bias.error_link import ErrorLink, ErrorLinkSums
from adapt.introspect.bias.projection import Projection
from adapt.introspect.bias.sums import ContentSums
from interventions.sites import Site

UNITS, CONTENTS, STEPS = 400, 3, 24


class Read(NamedTuple):
    """The link of a group, its `errors`, and projections `(examples, units)` on directions that include the example."""

    link: ErrorLink
    with_itself: Tensor
    errors: Tensor

    def students(self):
        """Return the correlation of the latter with errors, with its own Student's t."""
        from scipy.stats import pearsonr

        return pearsonr(self.with_itself.numpy(), self.errors.unsqueeze(1).numpy(), axis=0, alternative="greater")


def read(examples, folds, far=0.0, shift=0.0, link=0.0, seed=0, speakers=0.0, together=False):
    """Link a group of `examples` with errors, compared with as many other examples. All neurons are noise.

    Neurons of the group are `shift` higher. The first example is an outlier by `far`, with a sign that varies by
    content, and has the most errors. Neurons are `link` higher in examples with errors. With `speakers`, each fold is a
    speaker with an offset of this size in each neuron, and the same error rate in all examples.
    """
    draw = torch.Generator().manual_seed(seed)
    fold = torch.arange(examples) % folds
    errors = torch.where(torch.rand(examples, generator=draw) < 0.4, 0.5 * torch.rand(examples, generator=draw), 0.0)
    errors[0] = 1.0 if far else errors[0]
    errors = errors[fold] if speakers else errors
    contents = torch.arange(STEPS).remainder(CONTENTS).expand(2 * examples, -1)
    x = torch.randn(2 * examples, STEPS, UNITS, generator=draw)
    x += 0.3 * torch.randn(2 * examples, 1, UNITS, generator=draw)
    x[:examples] += speakers * torch.randn(folds, 1, UNITS, generator=draw)[fold]
    x[0] += far * torch.randn(CONTENTS, UNITS, generator=draw).sign()[contents[0]]
    x[:examples] += shift + link * (errors - errors.mean()).view(-1, 1, 1)
    site = Site("conv", 1, UNITS, ())
    sums = ContentSums([site], 2, folds, ["all", *(f"letter:{n}" for n in range(CONTENTS))])
    members = torch.nn.functional.one_hot(contents, CONTENTS).mT.float()
    sums.update(site, torch.cat([fold, fold + folds]), members, torch.arange(1, 4).expand(2 * examples, -1), x)
    divergence = group_divergence(sums, site, [0], [1])
    project, found = Projection(sums, divergence, 0), ErrorLinkSums(UNITS, folds)
    for number, own in enumerate(fold.tolist()):
        found.add(project(x[number], contents[number], own).mean(0), float(errors[number]), own)
    mean, direction = divergence.means[0][contents[0]], divergence.difference[contents[0]]
    with_itself = ((x[:examples].double() - mean) * direction).mean(1)
    return Read(found.link(divergence.squared_distance, together), with_itself, errors.double())


def share(p, level):
    return float((p <= level).double().mean())


@pytest.mark.parametrize(("examples", "folds"), [(20, 20), (60, 30), (200, 32)])
@pytest.mark.parametrize("far", [0.0, 3.0])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_noise_is_not_linked_to_errors(examples, folds, far, shift):
    """With or without divergence, correlations have either sign, p is not too small, and intervals include 0."""
    for together in (False, True):
        found = [read(examples, folds, far, shift, seed=seed, together=together).link for seed in range(3)]
        p, correlation = (torch.cat([getattr(own, name) for own in found]) for name in ("p", "correlation"))
        assert abs(float(correlation.mean())) < 0.07 and 0.4 < float((correlation > 0).double().mean()) < 0.6
        assert share(p, 0.05) < 0.07 and share(p, 0.01) < 0.015 and share(p, 0.001) < 0.003
    ends = [own.interval(unit) for own in found for unit in range(UNITS)]
    assert sum(low <= 0 <= high for low, high in ends) >= 0.9 * len(ends)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_directions_that_include_the_example_are_biased(shift):
    """Without folds, the same noise gives many false links."""
    found = read(20, 20, far=3.0, shift=shift)
    biased = found.students()
    assert biased.statistic.mean() > 0.15 and (biased.pvalue <= 0.001).mean() > 0.1
    assert abs(float(found.link.correlation.mean())) < 0.1 and float(found.link.p.min()) > 0.001


@pytest.mark.parametrize(("examples", "folds", "link"), [(24, 24, 2.0), (60, 30, 1.5), (200, 32, 1.0)])
def test_planted_links_are_found(examples, folds, link):
    for together in (False, True):
        found = read(examples, folds, shift=0.5, link=link, together=together)
        assert share(found.link.p, 0.05) > 0.9
    # The shift gives the direction, so leaving out an example loses nothing.
    assert (found.link.correlation - torch.from_numpy(found.students().statistic)).abs().mean() < 0.05
    middle = found.link.correlation.mean()
    ends = torch.tensor([found.link.interval(unit) for unit in range(UNITS)])
    assert float(((ends[:, 0] < middle) & (middle < ends[:, 1])).double().mean()) > 0.85 and middle > 0.3
    back = read(examples, folds, shift=0.5, link=-link).link
    assert torch.allclose(back.correlation.mean(), -middle, atol=0.1) and share(back.p, 0.5) < 0.05


def test_examples_of_a_speaker_are_not_independent():
    """With ten examples of each of 24 speakers, only sums by speaker give no false links."""
    alone, both = (read(240, 24, shift=0.5, speakers=1.0, together=together).link for together in (False, True))
    assert torch.equal(alone.correlation, both.correlation)
    assert share(alone.p, 0.001) > 0.1
    assert share(both.p, 0.05) < 0.08 and share(both.p, 0.001) < 0.005


def test_products_follow_their_formula():
    draw = torch.Generator().manual_seed(0)
    y, e = 2 + torch.randn(30, 5, generator=draw, dtype=torch.float64), torch.rand(30, generator=draw).double()
    sums = ErrorLinkSums(5, 10)
    for number in range(30):
        sums.add(y[number], float(e[number]), number % 10)
    each = (y - y.mean(0)) * (e - e.mean()).unsqueeze(1)
    for together, own in ((False, each), (True, each.view(3, 10, 5).sum(0))):
        total, squares, count = sums._products(sums.y, sums.e, together)
        assert torch.allclose(total, own.sum(0)) and torch.allclose(squares, own.square().sum(0)) and count == len(own)


def test_a_fold_does_not_affect_its_own_direction():
    """The examples of a fold, in either group, do not change its direction; those of other folds do."""
    draw = torch.Generator().manual_seed(0)
    site = Site("conv", 1, 4, ())
    x, contents = torch.randn(40, 6, 4, generator=draw), torch.arange(6) % 2
    cells = torch.arange(40) // 20 * 10 + torch.arange(40) % 10

    def project(*moved):
        sums, own = ContentSums([site], 2, 10, ["all", "letter:a", "letter:b"]), x.clone()
        own[list(moved)] += 5
        members = torch.nn.functional.one_hot(contents, 2).mT.float().expand(40, -1, -1)
        sums.update(site, cells, members, torch.tensor([1, 2]).expand(40, -1), own)
        divergence = group_divergence(sums, site, [0], [1])
        return divergence.spread * Projection(sums, divergence, 0)(x[3], contents, 3)

    assert torch.allclose(project(), project(3, 13), atol=1e-5)
    assert not torch.allclose(project(), project(4), atol=0.1)


def test_few_errors_give_no_links():
    sums = ErrorLinkSums(3, 20)
    for number in range(20):
        sums.add(torch.full((3,), float(number)), float(number >= 16), number)
    assert sums.link(torch.ones(3), False).p.tolist() == [1.0] * 3  # 4 with errors, all of them the largest
    sums.add(torch.full((3,), 20.0), 1.0, 0)
    link = sums.link(torch.ones(3), False)
    assert float(link.p.max()) < 0.05 and link.wrong == 5 and link.examples == 21
    dead = ErrorLinkSums(3, 20)
    for number in range(20):
        dead.add(torch.tensor([0.1, 0.0, -7.0]), float(number % 2), number)
    link = dead.link(torch.ones(3), False)
    assert link.p.tolist() == [1.0] * 3 and link.correlation.tolist() == [0.0] * 3
