"""Error bars over folds have the right width, and nothing is significant if nothing changed."""

import pytest
import torch
from scipy.stats import t

from adapt.introspect.profiles.fitter import ProfilesFitter
from adapt.introspect.profiles.jackknife import jackknife, profile_change, profile_change_size, student_quantile
from interventions.sites import Site

SITE = Site("layer", -1, 2000, ())


def noise(seed, spread=1.0, moved=(), groups=("g:a", "g:b"), examples=64, steps=20):
    """Profiles of white noise; `groups` alternate by step, and units in `moved` are 3 higher in the second group."""
    draw = torch.Generator().manual_seed(seed)
    fitter = ProfilesFitter([SITE], ["all", *groups])
    for example in range(examples):
        x = spread * torch.randn(1, steps, SITE.units, generator=draw)
        members = torch.zeros(1, 1 + len(groups), steps)
        members[:, 0] = 1
        for step in range(steps):
            members[:, 1 + step % len(groups), step] = 1
        for unit in moved:
            x[0, 1 :: len(groups), unit] += 3
        fitter.update(SITE, fitter.membership(members, torch.tensor([example % 16])), x, torch.ones_like(x))
    return fitter.fit()


@pytest.mark.parametrize(
    ("share", "freedom", "value"),
    [(0.975, 1, 12.7062), (0.975, 15, 2.1314), (0.995, 15, 2.9467), (0.95, 4, 2.1318), (1 - 2.5e-6, 15, 6.9072)],
)
def test_student_quantiles(share, freedom, value):
    """Compared with tables; the last value is from a numerical integration."""
    assert student_quantile(share, freedom) == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("freedom", [1, 3, 15, 31])
@pytest.mark.parametrize("share", [0.5, 0.9, 0.975, 0.999])
def test_student_quantiles_invert_the_distribution(share, freedom):
    assert t.cdf(student_quantile(share, freedom), freedom) == pytest.approx(share, abs=1e-12)


def test_the_error_of_a_mean_is_right():
    estimate = jackknife(lambda p: {SITE: p.mean(SITE, ["all"])[0]}, noise(0, spread=2.0))
    assert estimate.degrees_of_freedom == 15
    wanted = 2.0 / (64 * 20) ** 0.5
    assert float(estimate.error[SITE].square().mean().sqrt()) == pytest.approx(wanted, rel=0.05)
    low, high = estimate.interval(0.95)[SITE]
    covered = float(((low < 0) & (high > 0)).double().mean())
    assert 0.93 < covered < 0.97


def test_planted_changes_are_found_and_no_others():
    before, after = noise(0), noise(1, moved=range(100, 120))
    change = profile_change(before, after, "g")
    assert list(change.significant(0.01)["layer"]) == list(range(100, 120))
    assert len(change.scores().top(20) & change.significant(0.01)) == 20
    assert change.value[SITE].shape == (2, 2000)
    moved = change.value[SITE][
        :, 100:120
    ]  # a difference of 3 between two groups is 1.5 on each side, in deviations of 1
    torch.testing.assert_close(moved[1], torch.full((20,), 1.5, dtype=torch.float64), atol=0.25, rtol=0)


def test_a_group_in_one_fold_is_left_out_of_changes():
    before, after = (noise(seed, moved=moved, groups=("g:a", "g:b", "g:c")) for seed, moved in ((0, ()), (1, range(5))))
    for profiles in (before, after):
        for total in profiles.sums["layer"].values():
            total[1:, profiles.groups.index("g:c")] = 0
    change = profile_change(before, after, "g")
    assert change.value[SITE].shape[0] == 2 and list(change.significant(0.01)["layer"]) == list(range(5))
    sizes = profile_change_size(before, after, "g")
    torch.testing.assert_close(sizes.value[SITE].float(), change.scores()[SITE].float())
    low, high = sizes.interval()[SITE]
    assert (low[:5] > 1).all() and (high[:5] < 2).all() and high.isfinite().all()


def test_nothing_changed():
    same = profile_change(noise(0), noise(0), "g")
    assert not len(same.significant(0.01)) and not same.scores()["layer"].any()
    assert not len(profile_change(noise(0), noise(1), "g").significant(0.01))  # other noise


def test_a_change_that_all_groups_share_does_not_count():
    before, after = noise(0), noise(0)
    sums = after.sums["layer"]
    sums["activation"] += 5 * sums["steps"].sum(0, keepdim=True)[..., None, None]
    sums["fold_activation"] += 5 * sums["steps"][..., None, None].float()
    assert float(profile_change(before, after, "g").scores()["layer"].max()) < 1e-9


def test_too_few_folds_and_nothing_in_common():
    with pytest.raises(ValueError, match="at least two folds; 1 of 16 have any"):
        jackknife(lambda p: {SITE: p.mean(SITE, ["all"])[0]}, noise(0, examples=1))
    with pytest.raises(ValueError, match="There is no common site where two groups of 'g'"):
        profile_change(noise(0), noise(0, groups=("g:c", "g:d")), "g")
    with pytest.raises(ValueError, match="16 and 1 folds"):
        jackknife(lambda a, b: {}, noise(0), noise(0).pooled())


def test_leaving_a_fold_out_keeps_the_variance_and_takes_its_activations():
    """A mean far from 0 must not disturb the variance, which is the difference of two large numbers."""
    draw = torch.Generator().manual_seed(3)
    x = 1000 + torch.randn(32, 20, SITE.units, generator=draw)
    x[:, :, 0] = 1000  # a neuron that never varies
    members = torch.ones(1, 2, 20)
    whole, others = (ProfilesFitter([SITE], ["all", "g:a"], 4) for _ in range(2))
    for example, own in enumerate(x):
        for fitter in (whole, others)[: 1 if example % 4 == 2 else 2]:
            fitter.update(SITE, fitter.membership(members, torch.tensor([example % 4])), own[None], own[None])
    profiles = whole.fit()
    found, wanted = profiles.without(2), others.fit().pooled()
    assert found.steps(SITE, "g:a") == wanted.steps(SITE, "g:a") == 24 * 20
    torch.testing.assert_close(found.mean(SITE, ["g:a"]), wanted.mean(SITE, ["g:a"]), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        found._within(SITE, ["g:a"]), profiles.pooled()._within(SITE, ["g:a"]), rtol=1e-6, atol=0
    )
    assert found._within(SITE, ["g:a"])[0] == 0
    for what in ("gradient", "product"):
        torch.testing.assert_close(found.mean(SITE, ["g:a"], what), profiles.mean(SITE, ["g:a"], what))


def test_a_group_that_is_in_the_left_out_fold_only_has_no_mean():
    fitter = ProfilesFitter([SITE], ["all"], 2)
    x = torch.full((1, 3, SITE.units), 0.1)
    fitter.update(SITE, fitter.membership(torch.ones(1, 1, 3), torch.tensor([1])), x, x)
    assert fitter.fit().without(1).mean(SITE, ["all"]).isnan().all()
