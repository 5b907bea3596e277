"""Each method finds a direction that was put into the data, in one pass, however the data comes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from interventions.capture import capture
from interventions.intervene import intervene
from interventions.sites import Site, site_at
from interventions.steer_fit import MeanDifference, PairPCA, ProbeDirection, SteeringVectors

SITE = Site("layer", -1, 6, ())
OTHER = Site("conv", 1, 3, ())


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


def groups(number=400, units=6, seed=0):
    """Two groups that differ by a vector, in units of very different scale."""
    scale = torch.logspace(-1, 1, units)
    difference = draw(seed + 1, units) * scale
    return draw(seed + 2, number, units) * scale, draw(seed + 3, number, units) * scale + difference, difference


def test_the_mean_difference_is_that_of_all_rows_in_whatever_pieces_they_come():
    rows_0, rows_1, _ = groups()
    fitter = MeanDifference()
    for part in rows_1.split(33):
        fitter.update(SITE, part, 1)
    for part in rows_0[:150].split(7):
        fitter.update(SITE, part, 0)
    found = fitter.fit()
    torch.testing.assert_close(found[SITE], rows_1.mean(0) - rows_0[:150].mean(0))
    assert found.counts == (150, 400) and found.method == "mean difference"


@settings(max_examples=10)
@given(cut=st.integers(1, 399))
def test_fitters_of_two_processes_merge_into_one(cut):
    rows_0, rows_1, _ = groups()
    whole, first, second = MeanDifference(), MeanDifference(), MeanDifference()
    for fitter, part in ((whole, slice(None)), (first, slice(cut)), (second, slice(cut, None))):
        fitter.update(SITE, rows_0[part], 0)
        fitter.update(SITE, rows_1[part], 1)
    second.update(OTHER, torch.zeros(2, 3), 0)  # a site that only one of them saw
    second.update(OTHER, torch.ones(2, 3), 1)
    first.merge(second)
    torch.testing.assert_close(first.fit()[SITE], whole.fit()[SITE])
    assert first.fit()[OTHER].tolist() == [1, 1, 1] and first.fit().counts == (400, 400)


def test_sites_are_fitted_apart():
    fitter = MeanDifference()
    for site, value in ((SITE, 2.0), (OTHER, 3.0)):
        fitter.update(site, torch.zeros(4, site.units), 0)
        fitter.update(site, torch.full((4, site.units), value), 1)
    found = fitter.fit()
    assert found.sites == (SITE, OTHER)
    assert found[SITE].tolist() == [2] * 6 and found["conv"].tolist() == [3] * 3
    with pytest.raises(KeyError, match="'dense'.*layer, conv"):
        _ = found["dense"]


def test_pca_of_pairs_finds_what_is_common_to_pairs_that_differ_among_themselves():
    base, amount, direction = draw(0, 300, 6) * 5, draw(1, 300, 1), torch.nn.functional.normalize(draw(2, 6), dim=0)
    # The two of a pair differ along the direction, now more and now less, while sentences differ in everything.
    other = base + (amount + 1) * 2 * direction + draw(3, 300, 6) * 0.1
    fitter = PairPCA()
    for part in range(0, 300, 50):
        fitter.update(SITE, base[part : part + 50], other[part : part + 50])
    found = fitter.fit()[SITE]
    assert cosine(found, direction) > 0.999  # and not -0.999: it leads to group 1
    torch.testing.assert_close(found.norm(), ((amount + 1) * 2).square().mean().sqrt(), rtol=0.01, atol=0)


def test_pairs_that_all_differ_by_one_vector_give_that_vector():
    """What a PCA that takes off the mean of the differences could not find."""
    base, vector = draw(0, 20, 6), torch.tensor([1.0, -2, 0, 0, 3, 0])
    fitter = PairPCA()
    fitter.update(SITE, base, base + vector)
    torch.testing.assert_close(fitter.fit()[SITE], vector, atol=1e-5, rtol=1e-5)


def test_pairs_merge():
    base, other = draw(0, 40, 6), draw(1, 40, 6)
    whole, first, second = PairPCA(), PairPCA(), PairPCA()
    whole.update(SITE, base, other)
    first.update(SITE, base[:13], other[:13])
    second.update(SITE, base[13:], other[13:])
    first.merge(second)
    torch.testing.assert_close(first.fit()[SITE], whole.fit()[SITE])
    assert first.fit().counts == (40, 40)


def test_a_probe_finds_the_boundary_and_not_the_difference_of_means():
    """In correlated units the best boundary is at right angles to covariance^-1 times the difference (Fisher)."""
    mix = draw(5, 6, 6)
    noise, difference = torch.cat([draw(6, 4000, 6), draw(7, 4000, 6)]) @ mix, draw(8, 6)
    rows_0, rows_1 = noise[:4000], noise[4000:] + difference
    fisher = torch.linalg.solve(mix.T @ mix, difference)
    probe, mean = ProbeDirection(penalty=1e-6), MeanDifference()
    for fitter in (probe, mean):
        fitter.update(SITE, rows_0, 0)
        fitter.update(SITE, rows_1, 1)
    found = probe.fit()[SITE]
    assert cosine(found, fisher) > 0.99 > 0.9 > cosine(mean.fit()[SITE], fisher)
    torch.testing.assert_close(found.norm(), torch.tensor(1.0))


def test_a_probe_minimises_its_loss():
    """At the minimum, no step along any unit makes the loss smaller: checked by a second implementation."""
    rows_0, rows_1, _ = groups(60)
    probe = ProbeDirection(penalty=0.1)
    probe.update(SITE, rows_0, 0)
    probe.update(SITE, rows_1[:20], 1)
    rows = torch.cat([rows_0, rows_1[:20]]).double()
    spread = rows.std(0, correction=0)
    scaled = (rows - rows.mean(0)) / spread
    label = torch.tensor([0.0] * 60 + [1.0] * 20, dtype=torch.float64)
    share = torch.where(label > 0, 0.5 / 20, 0.5 / 60)
    weights = torch.zeros(7, dtype=torch.float64, requires_grad=True)
    for _ in range(50):  # Newton's method

        def loss(w):
            entropy = torch.nn.functional.binary_cross_entropy_with_logits(
                scaled @ w[:6] + w[6], label, reduction="none"
            )
            return (share * entropy).sum() + 0.05 * w[:6] @ w[:6]

        gradient = torch.autograd.functional.jacobian(loss, weights)
        curvature = torch.autograd.functional.hessian(loss, weights)
        weights = (weights - torch.linalg.solve(curvature, gradient)).detach()
    expected = weights[:6] / spread
    torch.testing.assert_close(probe.fit()[SITE], (expected / expected.norm()).float(), atol=1e-4, rtol=1e-3)


def test_a_probe_does_not_depend_on_the_scale_of_a_unit_but_to_undo_it():
    rows_0, rows_1, _ = groups(200)
    scale = torch.tensor([1.0, 100, 0.01, 1, 1, 1])
    found = []
    for factor in (torch.ones(6), scale):
        probe = ProbeDirection()
        probe.update(SITE, rows_0 * factor, 0)
        probe.update(SITE, rows_1 * factor, 1)
        found.append(probe.fit()[SITE] * factor)
    assert cosine(*found) > 1 - 1e-6


def test_a_dead_unit_gets_no_weight_and_spoils_nothing():
    rows_0, rows_1, _ = groups(100)
    for rows in (rows_0, rows_1):
        rows[:, 2] = 7.3
    probe = ProbeDirection()
    probe.update(SITE, rows_0, 0)
    probe.update(SITE, rows_1, 1)
    found = probe.fit()[SITE]
    assert found[2] == 0 and found.isfinite().all()


def test_a_probe_keeps_a_sample_of_a_fixed_size():
    """Drawn from the whole stream: its first half differs along one unit, and its second along another."""
    probe, early, late = ProbeDirection(keep=300), torch.zeros(6), torch.zeros(6)
    early[0], late[1] = 1.0, 1.0
    for part in range(40):
        for group in (0, 1):
            rows = draw(2 * part + group, 100, 6)
            probe.update(SITE, rows + group * 5 * (early if part < 20 else late), group)
    found = probe.fit()
    assert found.counts == (4000, 4000) and all(len(sample.result()["layer"]) == 300 for sample in probe._reservoirs)
    assert cosine(found[SITE], early + late) > 0.95


def test_a_probe_is_the_same_with_the_same_seed():
    rows_0, rows_1, _ = groups(300)
    found = []
    for seed in (1, 1, 2):
        probe = ProbeDirection(keep=50, seed=seed)
        for group, rows in enumerate((rows_0, rows_1)):
            for part in rows.split(70):
                probe.update(SITE, part, group)
        found.append(probe.fit()[SITE])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_vectors_turn_round_and_are_scaled_to_one():
    vectors = SteeringVectors((SITE,), {"layer": torch.tensor([3.0, 4, 0, 0, 0, 0])}, "", (1, 1))
    assert (-vectors)[SITE].tolist() == [-3, -4, 0, 0, 0, 0]
    torch.testing.assert_close(vectors.unit()[SITE], torch.tensor([0.6, 0.8, 0, 0, 0, 0]))
    steer = vectors.steer("layer", 2.0, strength=0.5)
    assert steer.site is SITE and steer.coefficient == 2 and steer.strength == 0.5
    assert torch.equal(steer.vector, vectors[SITE])


def test_a_control_is_as_long_and_points_elsewhere_and_depends_on_seed_and_site_alone():
    long = torch.zeros(500)
    long[0] = 5.0
    sites = (Site("a", -1, 500, ()), Site("b", -1, 500, ()))
    vectors = SteeringVectors(sites, {"a": long, "b": long}, "mean difference", (1, 1))
    control = vectors.random(3)
    for site in sites:
        assert float(control[site].norm()) == pytest.approx(5)
        assert abs(cosine(control[site], long)) < 0.2
    assert not torch.equal(control["a"], control["b"])
    alone = SteeringVectors(sites[1:], {"b": long}, "", (1, 1))
    assert torch.equal(alone.random(3)["b"], control["b"]) and not torch.equal(alone.random(4)["b"], control["b"])
    assert "random" in control.method


@pytest.mark.parametrize("make", [MeanDifference, ProbeDirection])
@pytest.mark.parametrize(
    ("rows", "group", "message"),
    [
        (torch.zeros(2, 6), 2, "0.*or 1.*got 2"),
        (torch.zeros(2, 5, 6), 0, r"\(number, 6\) without padding, got \(2, 5, 6\).*lengths"),
        (torch.zeros(2, 5), 0, r"got \(2, 5\)"),
        (torch.full((2, 6), float("inf")), 1, "'layer'.*not finite"),
    ],
)
def test_what_is_no_row_is_refused(make, rows, group, message):
    fitter = make()
    fitter.update(SITE, torch.zeros(1, 6), 0)
    fitter.update(SITE, torch.ones(1, 6), 1)
    with pytest.raises(ValueError, match=message):
        fitter.update(SITE, rows, group)
    assert fitter.fit().counts == (1, 1)


@pytest.mark.parametrize("make", [MeanDifference, ProbeDirection, PairPCA])
def test_nothing_gathered_is_an_error(make):
    with pytest.raises(ValueError, match="There are no activations"):
        make().fit()


@pytest.mark.parametrize("make", [MeanDifference, ProbeDirection])
def test_a_group_without_rows_is_an_error(make):
    fitter = make()
    fitter.update(SITE, torch.zeros(3, 6), 0)
    with pytest.raises(ValueError, match="'layer' there are 3 rows of group 0 and 0 of group 1"):
        fitter.fit()


def test_where_there_is_no_difference_there_is_no_direction():
    same = draw(0, 10, 6)
    pairs, probe = PairPCA(), ProbeDirection()
    pairs.update(SITE, same, same)
    with pytest.raises(ValueError, match="the rows of each pair are equal"):
        pairs.fit()
    for group in (0, 1):
        probe.update(SITE, torch.ones(4, 6), group)
    with pytest.raises(ValueError, match="no direction separates the groups"):
        probe.fit()
    with pytest.raises(ValueError, match="do not pair"):
        pairs.update(SITE, same, same[:5])
    with pytest.raises(ValueError, match="positive"):
        ProbeDirection(penalty=0)


@pytest.mark.parametrize("make", [MeanDifference, ProbeDirection])
def test_from_activations_to_a_steered_model(make):
    """Fitted through `capture`, where padding holds what it likes; steered, group 0 stands where group 1 stood."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(3, 6, 1), nn.ReLU(inplace=True))
    site = site_at(net, "0")
    lengths = torch.tensor([7, 3, 5])
    batches = [draw(group, 3, 3, 7) + group for group in (0, 1)]
    means, fitter = [], make()
    for group, batch in enumerate(batches):
        own = torch.cat([net[0](batch)[n, :, :length] for n, length in enumerate(lengths)], dim=1).detach()
        means.append(own.mean(1))
        for n, length in enumerate(lengths):
            batch[n, :, length:] = 1e3
        with torch.no_grad(), capture(net, site, fitter.for_group(group), lambda site: lengths):
            net(batch)
    found = fitter.fit()
    assert found.counts == (15, 15)
    if make is MeanDifference:
        torch.testing.assert_close(found[site], means[1] - means[0], atol=1e-5, rtol=1e-5)
    else:
        assert float(found[site] @ (means[1] - means[0])) > 0 and float(found[site].norm()) == pytest.approx(1)
    with torch.no_grad(), intervene(net, found.steer(site, 2.0)), capture(net, site) as acts:
        net(batches[0])
    torch.testing.assert_close(acts[site].mT, net[0](batches[0]).detach() + 2 * found[site][:, None])
