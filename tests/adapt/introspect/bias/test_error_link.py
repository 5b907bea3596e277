"""Links with errors: none is seen in noise, not even where one example is far off and read badly; a planted one is."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from adapt.introspect.bias.divergence import compare
from adapt.introspect.bias.error_link import Link, LinkSums
from adapt.introspect.bias.projection import Along
from adapt.introspect.bias.sums import ContentSums
from interventions.sites import Site

UNITS, CONTENTS, STEPS = 400, 3, 24


class Read(NamedTuple):
    """A group's `link`, and for comparison `errors` and y `(examples, units)` by directions with the example itself."""

    link: Link
    with_itself: Tensor
    errors: Tensor

    def students(self):
        """The correlation as it would be told by these, by its own Student's t."""
        from scipy.stats import pearsonr

        return pearsonr(self.with_itself.numpy(), self.errors.unsqueeze(1).numpy(), axis=0, alternative="greater")


def read(examples, folds, far=0.0, shift=0.0, link=0.0, seed=0, speakers=0.0, together=False):
    """A group of so many `examples`, and as many others, in all of whose neurons it is noise but for this:

    they are `shift` higher; the first example is `far` off, up at some contents and down at others, and is read worst;
    neurons are `link` higher in wrong examples; and each fold is a speaker, who has something of their own in each
    neuron, times `speakers`, and is read as well or as badly in all examples.
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
    parting = compare(sums, site, [0], [1])
    along, found = Along(sums, parting, 0), LinkSums(UNITS, folds)
    for number, own in enumerate(fold.tolist()):
        found.add(along(x[number], contents[number], own).mean(0), float(errors[number]), own)
    mean, direction = parting.means[0][contents[0]], parting.difference[contents[0]]
    with_itself = ((x[:examples].double() - mean) * direction).mean(1)
    return Read(found.link(parting.squared, together), with_itself, errors.double())


def share(p, level):
    return float((p <= level).double().mean())


@pytest.mark.parametrize(("examples", "folds"), [(20, 20), (60, 30), (200, 32)])
@pytest.mark.parametrize("far", [0.0, 3.0])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_noise_goes_with_no_errors(examples, folds, far, shift):
    """Whether neurons part or not: as often back as along, p no smaller than it ought to be, 0 in intervals."""
    for together in (False, True):
        found = [read(examples, folds, far, shift, seed=seed, together=together).link for seed in range(3)]
        p, correlation = (torch.cat([getattr(own, name) for own in found]) for name in ("p", "correlation"))
        assert abs(float(correlation.mean())) < 0.07 and 0.4 < float((correlation > 0).double().mean()) < 0.6
        assert share(p, 0.05) < 0.07 and share(p, 0.01) < 0.015 and share(p, 0.001) < 0.003
    ends = [own.interval(unit) for own in found for unit in range(UNITS)]
    assert sum(low <= 0 <= high for low, high in ends) >= 0.9 * len(ends)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_an_example_in_its_own_direction_would_flatter(shift):
    """What this guards against: of the same noise, a direction and a p that know of no folds name many neurons."""
    found = read(20, 20, far=3.0, shift=shift)
    told = found.students()
    assert told.statistic.mean() > 0.15 and (told.pvalue <= 0.001).mean() > 0.1
    assert abs(float(found.link.correlation.mean())) < 0.1 and float(found.link.p.min()) > 0.001


@pytest.mark.parametrize(("examples", "folds", "link"), [(24, 24, 2.0), (60, 30, 1.5), (200, 32, 1.0)])
def test_what_goes_with_errors_is_found(examples, folds, link):
    for together in (False, True):
        found = read(examples, folds, shift=0.5, link=link, together=together)
        assert share(found.link.p, 0.05) > 0.9
    # The shift says which way, with or without one example: nothing is lost.
    assert (found.link.correlation - torch.from_numpy(found.students().statistic)).abs().mean() < 0.05
    middle = found.link.correlation.mean()
    ends = torch.tensor([found.link.interval(unit) for unit in range(UNITS)])
    assert float(((ends[:, 0] < middle) & (middle < ends[:, 1])).double().mean()) > 0.85 and middle > 0.3
    back = read(examples, folds, shift=0.5, link=-link).link
    assert torch.allclose(back.correlation.mean(), -middle, atol=0.1) and share(back.p, 0.5) < 0.05


def test_many_examples_of_a_speaker_are_one():
    """What 24 speakers do by chance, ten times each, names no neurons where it is told that they belong together."""
    alone, both = (read(240, 24, shift=0.5, speakers=1.0, together=together).link for together in (False, True))
    assert torch.equal(alone.correlation, both.correlation)
    assert share(alone.p, 0.001) > 0.1
    assert share(both.p, 0.05) < 0.08 and share(both.p, 0.001) < 0.005


def test_products_are_summed_as_written():
    draw = torch.Generator().manual_seed(0)
    y, e = 2 + torch.randn(30, 5, generator=draw, dtype=torch.float64), torch.rand(30, generator=draw).double()
    sums = LinkSums(5, 10)
    for number in range(30):
        sums.add(y[number], float(e[number]), number % 10)
    each = (y - y.mean(0)) * (e - e.mean()).unsqueeze(1)
    for together, own in ((False, each), (True, each.view(3, 10, 5).sum(0))):
        total, squares, count = sums._products(sums.y, sums.e, together)
        assert torch.allclose(total, own.sum(0)) and torch.allclose(squares, own.square().sum(0)) and count == len(own)


def test_a_fold_says_nothing_of_its_own_direction():
    """What a fold's examples do, in either group, changes nothing of their own direction; what another's do, does."""
    draw = torch.Generator().manual_seed(0)
    site = Site("conv", 1, 4, ())
    x, contents = torch.randn(40, 6, 4, generator=draw), torch.arange(6) % 2
    cells = torch.arange(40) // 20 * 10 + torch.arange(40) % 10

    def along(*moved):
        sums, own = ContentSums([site], 2, 10, ["all", "letter:a", "letter:b"]), x.clone()
        own[list(moved)] += 5
        members = torch.nn.functional.one_hot(contents, 2).mT.float().expand(40, -1, -1)
        sums.update(site, cells, members, torch.tensor([1, 2]).expand(40, -1), own)
        parting = compare(sums, site, [0], [1])
        return parting.spread * Along(sums, parting, 0)(x[3], contents, 3)

    assert torch.allclose(along(), along(3, 13), atol=1e-5)
    assert not torch.allclose(along(), along(4), atol=0.1)


def test_from_few_errors_nothing_is_told():
    sums = LinkSums(3, 20)
    for number in range(20):
        sums.add(torch.full((3,), float(number)), float(number >= 16), number)
    assert sums.link(torch.ones(3), False).p.tolist() == [1.0] * 3  # 4 with errors, all of them the farthest
    sums.add(torch.full((3,), 20.0), 1.0, 0)
    link = sums.link(torch.ones(3), False)
    assert float(link.p.max()) < 0.05 and link.wrong == 5 and link.examples == 21
    dead = LinkSums(3, 20)
    for number in range(20):
        dead.add(torch.tensor([0.1, 0.0, -7.0]), float(number % 2), number)
    link = dead.link(torch.ones(3), False)
    assert link.p.tolist() == [1.0] * 3 and link.correlation.tolist() == [0.0] * 3
