"""Every kind of probe finds the unit that encodes a class, and rankings follow the published formulas."""

import math

import pytest
import torch

from adapt.introspect.probes.linear import earliest_use, linear
from adapt.introspect.probes.precision import average_precision, iou
from adapt.introspect.probes.probe import METHODS
from adapt.introspect.probes.probeless import probeless


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def planted(rows=400, units=40, classes=3, size=2.5, seed=0):
    """Standardised noise, with a higher unit 7 + z in class z."""
    labels = torch.arange(rows) % classes
    x = noise(rows, units, seed=seed)
    for label in range(classes):
        x[labels == label, 7 + label] += size
    return (x - x.mean(0)) / x.std(0), labels


@pytest.mark.parametrize("method", METHODS)
def test_the_unit_that_encodes_a_class_has_the_highest_score_and_predicts_it(method):
    x, labels = planted()
    found = METHODS[method](x, labels, 3)
    assert found.scores.shape == (40,) and found.by_class.shape == (3, 40)
    assert set(found.scores.topk(3).indices.tolist()) == {7, 8, 9}
    if method == "probeless":  # the distance between two class means is symmetric
        assert {7, 8, 9} == set(found.by_class.topk(3).indices.flatten().tolist())
    assert found.by_class.argmax(1).tolist() == [7, 8, 9]
    held_out, held_out_labels = planted(seed=1)
    accuracy = float((found.predict(held_out) == held_out_labels).float().mean())
    assert accuracy > 0.8


@pytest.mark.parametrize("method", METHODS)
def test_a_unit_that_is_low_in_a_class_encodes_it_too(method):
    x, labels = planted(classes=2)
    found = METHODS[method](-x, labels, 2)
    assert set(found.scores.topk(2).indices.tolist()) == {7, 8}
    assert float((found.predict(-planted(classes=2, seed=1)[0]) == labels).float().mean()) > 0.85


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_unit_scores_nothing_and_nothing_is_random(method):
    x, labels = planted()
    x[:, 3] = 0
    first, again = (METHODS[method](x, labels, 3) for _ in range(2))
    assert torch.equal(first.scores, again.scores) and first.scores.isfinite().all() and first.by_class.isfinite().all()
    assert first.scores[3] == first.scores.min() or abs(float(first.scores[3])) < 0.01


@pytest.mark.parametrize("method", ["linear", "gaussian", "probeless", "average_precision"])
def test_a_rare_class_has_the_same_weight(method):
    x, labels = planted(rows=3000)
    rare = labels != 2
    rare[(labels == 2).nonzero()[:30]] = True
    found = METHODS[method](x[rare], labels[rare], 3)
    held_out, held_out_labels = planted(rows=3000, seed=1)
    right = found.predict(held_out) == held_out_labels
    assert min(float(right[held_out_labels == label].float().mean()) for label in range(3)) > 0.6


def test_probeless_is_the_published_formula():
    x, labels = noise(90, 11), torch.arange(90) % 4
    means = [x[labels == label].mean(0) for label in range(4)]
    whole, each = torch.zeros(11), torch.zeros(4, 11)
    for a in range(4):
        for b in range(4):
            each[a] += (means[a] - means[b]).abs()
            if a < b:
                whole += (means[a] - means[b]).abs()
    found = probeless(x, labels, 4)
    torch.testing.assert_close(found.scores, whole)
    torch.testing.assert_close(found.by_class, each)
    assert found.scores.argsort(descending=True).tolist() == whole.argsort(descending=True).tolist()


def test_the_ranking_by_weights_follows_the_paper():
    """It is the union over classes of the shortest prefixes with p % of the weights, for p from 0 to 100."""
    mass = noise(4, 30).abs() ** 3
    rows = [sorted(((float(value), unit) for unit, value in enumerate(row)), reverse=True) for row in mass]
    order: list[int] = []
    for p in range(1, 401):
        for row in rows:
            needed, so_far = p / 400 * sum(value for value, _ in row), 0.0
            for value, unit in row:
                if so_far >= needed:
                    break
                so_far += value
                order += [unit] * (unit not in order)
    scores = earliest_use(mass)
    assert sorted(order) == list(range(30)) and float(scores.max()) == 1
    # Within a step of p, units are in the order of the classes.
    assert all(scores[a] >= scores[b] - 1 / 400 for a, b in zip(order, order[1:], strict=False))


def test_a_stronger_penalty_leaves_fewer_weights_and_the_strongest_none():
    x, labels = planted(rows=150, units=10)
    found = linear(x, labels, 3, strength=0.05)
    sparse = linear(x, labels, 3, strength=0.4)
    assert int((sparse.by_class > 0).sum()) < int((found.by_class > 0).sum())
    assert float(linear(x, labels, 3, strength=1.0).by_class.sum()) == pytest.approx(0, abs=1e-3)


def objective(x, labels, weight, bias, l1, l2):
    loss = torch.nn.functional.cross_entropy(x @ weight.T + bias, labels)
    return float(loss + l1 * weight.abs().sum() + l2 / 2 * weight.square().sum())


def test_the_linear_probe_reaches_the_minimum_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    from adapt.introspect.probes import linear as module

    x, labels = planted(rows=240, units=12)
    weight, bias = module._minimise(x, labels, 3, 0.1, 0.5)
    wanted = torch.nn.functional.one_hot(labels, 3).float()
    least = ((1 / 3 - wanted).T @ x / len(x)).abs().max() / 0.5
    l1 = l2 = float(0.1 * 0.5 * least)
    peer = LogisticRegression(solver="saga", l1_ratio=0.5, C=1 / (len(x) * (l1 + l2)), max_iter=5000, tol=1e-7)
    peer.fit(x.numpy(), labels.numpy())
    theirs = objective(x, labels, torch.tensor(peer.coef_).float(), torch.tensor(peer.intercept_).float(), l1, l2)
    assert objective(x, labels, weight, bias, l1, l2) == pytest.approx(theirs, rel=1e-3)


def test_average_precision_equals_that_of_scikit_learn_with_ties():
    from sklearn.metrics import average_precision_score

    x, labels = (
        noise(120, 6).mul(2).round().clamp(min=0),
        torch.arange(120) % 3,
    )  # half of the values are 0, as after a ReLU
    high = torch.tensor([[average_precision_score(labels == z, own) for own in x.T] for z in range(3)])
    low = torch.tensor([[average_precision_score(labels == z, -own) for own in x.T] for z in range(3)])
    expected = (torch.maximum(high, low) - 1 / 3) / (2 / 3)
    torch.testing.assert_close(average_precision(x, labels, 3).by_class, expected.float(), atol=1e-5, rtol=0)


def test_iou_of_a_small_example():
    x = torch.tensor([[9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0]]).T
    labels = torch.tensor([0, 0, 1, 0, 1, 1, 1, 1, 1, 1])
    # Class 0: the mask has three rows, two of which are in the class of three; chance is 3 / 17.
    assert float(iou(x, labels, 2).by_class[0]) == pytest.approx((2 / 4 - 3 / 17) / (1 - 3 / 17))
    assert float(iou(x, (x[:, 0] < 6).long(), 2).scores) == pytest.approx(1)


def test_the_gaussian_probe_selects_units_that_add_information():
    """Of two redundant units and an independent one, the second redundant unit adds nothing."""
    labels = torch.arange(2000) % 4
    x = 0.05 * noise(2000, 6)
    x[:, 1] += labels % 2
    x[:, 2] += labels % 2
    x[:, 4] += labels // 2
    x = (x - x.mean(0)) / x.std(0)
    found = METHODS["gaussian"](x, labels, 4, most=2)
    assert found.scores[[1, 2, 4]].tolist() == pytest.approx([1, 1, 1], abs=0.01)
    assert found.scores[[0, 3, 5]].abs().max() < 0.02
    assert float((found.predict(x) == labels).float().mean()) > 0.99
    one = METHODS["gaussian"](x, labels, 4, most=1)
    assert float((one.predict(x) == labels).float().mean()) == pytest.approx(0.5, abs=0.05)
    exact = math.log2(4)
    assert found.scores.max() <= exact
