"""The topographic loss follows its formula, and lays units out during training."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from adapt.introspect.topography.loss import TopographicLoss
from adapt.introspect.topography.quality import morans_i
from interventions.freeze import freeze_all_but
from interventions.neurons import Neurons
from interventions.rows import train_rows
from interventions.sites import Site, find_sites


def network(units=36):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(6, units, 5), nn.ReLU(), nn.Conv1d(units, 4, 1))


@pytest.mark.parametrize("units", [2, 7, 12, 16])
@pytest.mark.parametrize("radius", [1, 1.5, 2.3])
def test_the_loss_is_the_weighted_mean_over_all_pairs_of_neighbours(units, radius):
    net = network(units).double()
    loss = TopographicLoss(net, find_sites(net, "0"), 3.0, radius)
    cells = [divmod(unit, math.ceil(math.sqrt(units))) for unit in range(units)]
    weight = net[0].weight.flatten(1)
    total = weights = 0.0
    for i in range(units):
        for j in range(units):
            apart = math.dist(cells[i], cells[j])
            if i != j and apart <= radius:
                total = total + (1 - F.cosine_similarity(weight[i], weight[j], dim=0)) / apart
                weights += 1 / apart
    expected = 3 * total / weights
    torch.testing.assert_close(loss(), expected)
    assert loss.smoothness()["0"] == pytest.approx(1 - expected.item() / 3)
    given, wanted = (torch.autograd.grad(value, net[0].weight)[0] for value in (loss(), expected))
    torch.testing.assert_close(given, wanted)


def test_it_is_a_mean_over_sites_and_has_no_other_gradient():
    net = network()
    sites = find_sites(net)
    both = TopographicLoss(net, sites)()
    alone = [TopographicLoss(net, [site])() for site in sites]
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2)
    both.backward()
    assert net[0].weight.grad.any() and net[0].bias.grad is None
    # The gradient does not change the length of weights.
    torch.testing.assert_close((net[0].weight.grad * net[0].weight).sum((1, 2)), torch.zeros(36), atol=1e-7, rtol=0)


def test_equal_units_and_zero_weights():
    net = network(9)
    loss = TopographicLoss(net, find_sites(net, "0"))
    with torch.no_grad():
        net[0].weight[:] = net[0].weight[:1]
    assert loss().item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        net[0].weight[:] = 0
    loss().backward()
    assert loss().item() == 1 and torch.isfinite(net[0].weight.grad).all()


def test_a_layer_is_laid_out_during_training_and_its_twin_is_not():
    """With four classes of noise in different bands, both networks learn, and one has similar neighbours."""
    torch.manual_seed(0)
    labels = torch.arange(64) % 4
    x = torch.randn(64, 6, 20) + 2 * torch.eye(4, 6)[labels].unsqueeze(-1)
    nets = {"laid out": network(), "twin": None}
    nets["twin"] = copy.deepcopy(nets["laid out"])
    found = {}
    for name, net in nets.items():
        loss = TopographicLoss(net, find_sites(net, "0"), strength=1.0)
        points, start = loss.points("0"), loss.smoothness()["0"]
        optimizer = torch.optim.Adam(net.parameters(), 0.01)
        for _ in range(60):
            error = F.cross_entropy(net(x).mean(2), labels)
            (error + loss() if name == "laid out" else error).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            right = float((net(x).mean(2).argmax(1) == labels).float().mean())
            acts = torch.relu(net[0](x)).mean(2)
            profiles = torch.stack([acts[labels == group].mean(0) for group in range(4)], 1) - acts.mean(0)[:, None]
        found[name] = morans_i(points, profiles).mean()
        assert abs(start) < 0.1 and right > 0.9
        assert (loss.smoothness()["0"] > 0.6) == (name == "laid out")
    assert found["laid out"] > 0.4 and abs(found["twin"]) < 0.25


def test_sites_that_cannot_be_laid_out_are_refused():
    net = network()
    sites = find_sites(net)
    with pytest.raises(ValueError, match="There is no site"):
        TopographicLoss(net, [])
    with pytest.raises(ValueError, match=r"'1' \(ReLU\) is not a linear layer"):
        TopographicLoss(net, [Site("1", 1, 36, ())])
    with pytest.raises(ValueError, match="of 35 units"):
        TopographicLoss(net, [Site("0", 1, 35, ())])
    with pytest.raises(ValueError, match="'0' has only one unit"):
        TopographicLoss(network(1), find_sites(network(1), "0"))
    for strength, radius in ((-1, 1.5), (math.nan, 1.5), (1, 0.5)):
        with pytest.raises(ValueError, match="strength must be at least 0 and radius at least 1"):
            TopographicLoss(net, sites, strength, radius)
    for cells in (range(35), [0] * 36, range(1, 37)):
        with pytest.raises(ValueError, match="36 units need 36 different cells of a 6 x 6 grid"):
            TopographicLoss(net, sites[:1], cells={"0": cells})
    net[0].requires_grad_(False)
    with pytest.raises(ValueError, match="The weight of '0' does not train"):
        TopographicLoss(net, sites[:1])


@pytest.mark.parametrize("units", [7, 16])
def test_units_may_have_any_cells(units):
    net = network(units)
    cells = torch.randperm(units + (units == 7) * 2)[:units].tolist()  # two of 3 x 3 cells are empty
    loss = TopographicLoss(net, find_sites(net, "0"), cells={"0": cells})
    places = torch.tensor([divmod(cell, math.ceil(math.sqrt(units))) for cell in cells])
    apart = torch.cdist(places.double(), places.double())
    near = torch.where((apart > 0) & (apart <= 1.5), 1 / apart, 0)
    weight = net[0].weight.detach().flatten(1)
    cosines = F.cosine_similarity(weight[:, None], weight[None], dim=2)
    assert loss().item() == pytest.approx(1 - float((near * cosines).sum() / near.sum()), abs=1e-6)
    assert loss.cells == {"0": cells}
    shown = (loss.points("0") * (math.ceil(math.sqrt(units)) - 1)).round().tolist()
    assert shown == [[column, row] for row, column in places.tolist()]


def test_only_rows_that_train_have_gradients():
    net, whole = network(), network()
    (site,) = find_sites(net, "0")
    (expected,) = torch.autograd.grad(TopographicLoss(whole, [site])(), whole[0].weight)
    freeze_all_but(net, train_rows(net, Neurons({site: [3, 4, 20]})))
    loss = TopographicLoss(net, [site])
    loss().backward()
    torch.testing.assert_close(net[0].rows.grad, expected[[3, 4, 20]])
    assert all(parameter.grad is None for parameter in net.parameters() if parameter is not net[0].rows)
    before = loss().item()
    with torch.no_grad():
        net[0].rows.sub_(net[0].rows.grad)
    assert loss().item() < before  # the loss reads the new rows


def test_it_is_exact_under_autocast():
    net = network()
    loss = TopographicLoss(net, find_sites(net, "0"))
    exact = loss()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(), exact)
    loss = TopographicLoss(net.bfloat16(), find_sites(net, "0"))
    loss().backward()
    assert loss().dtype == torch.float32 and loss().item() == pytest.approx(exact.item(), abs=1e-3)
    assert net[0].weight.grad.dtype == torch.bfloat16
