"""The search for a blend: what is measured, in all families, and what its slopes say."""

import copy
import logging
from dataclasses import replace

import pytest
import torch

from adapt import read_pairs, read_splits
from adapt.blending.choice import Budget
from adapt.blending.evaluator import Evaluator
from adapt.blending.interpolate import Interpolation
from adapt.blending.search import FEW_FACTORS, search
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples
from adapt.models.state import weights
from interventions.bits import fingerprint


def noisy(model, scale=0.05, only=""):
    """A copy of a model with noise on its weights, or on those whose name has `only`."""
    changed, draw = copy.deepcopy(model), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in changed.named_parameters():
            if only in name and name not in model.never_trained:
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=scale)
    return changed.eval()


def family(request, name):
    """A model of a family, and examples for it."""
    loaded = load_model(str(request.getfixturevalue(name)))
    if name == "marian":
        data = read_pairs(validation=request.getfixturevalue("language")["validation"])
    else:
        data = read_splits(validation=request.getfixturevalue("speech")["low_validation"])
    return loaded.model, list(data.validation)


@pytest.mark.parametrize("name", ["base", "marian", "whisper"])
def test_measurements_equal_the_models_own_answers(request, name):
    model, examples = family(request, name)
    if name == "whisper":
        examples = examples[:3]
    adapted = noisy(model)
    line = Interpolation(model, adapted)
    evaluator = Evaluator(line, {"target": examples, "source": examples[:2]}, Loader())
    metric = model.task.metrics[0]
    sign = -1 if metric.higher else 1
    for factor, expected in ((0.0, model), (1.0, adapted), (0.5, line.model_at(0.5))):
        found = evaluator.measure(factor)
        texts = decode_examples(expected, model.task, examples, Loader())
        value = model.task.score(examples, texts).values()[metric.key]
        assert found.point.values["target"][metric.key] == pytest.approx(value)
        assert found.errors["target"] == pytest.approx(sign * value)
        low, high = found.point.intervals["target"]
        assert low <= value <= high or metric.higher
        assert sign * found.resamples["target"].mean() == pytest.approx(value, abs=(high - low))
        assert found.point.losses["target"] > 0
    assert evaluator.measure(0.0).point.changes["source"] == (0, 0)


def test_slopes_are_the_derivatives_of_the_loss(request):
    model, examples = family(request, "base")
    line = Interpolation(model, noisy(model, 0.02, "conv"))
    evaluator = Evaluator(line, {"target": examples, "source": examples[:4]}, Loader())
    before = fingerprint(weights(model.net))
    at = dict.fromkeys(line.layers, 0.5)
    slopes = evaluator.slopes(at)["target"]
    layer = max(slopes.layers, key=lambda name: abs(slopes.layers[name]))
    step = 0.02
    losses = [evaluator.measure(at | {layer: 0.5 + move}).point.losses["target"] for move in (-step, step)]
    assert (losses[1] - losses[0]) / (2 * step) == pytest.approx(slopes.layers[layer], rel=0.1)
    assert slopes.loss == pytest.approx(evaluator.measure(at).point.losses["target"], rel=1e-4)
    assert fingerprint(weights(model.net)) == before


@pytest.mark.slow
def test_a_budget_is_searched_by_bisection(request):
    model, examples = family(request, "base")
    line = Interpolation(model, noisy(model, 0.05, "conv"))
    front = search(line, {"target": examples, "source": examples}, Loader(), budget=Budget.of(1000), layers=False)
    assert [point.factor for point in front.points] == [0, 0.5, 0.6, 0.7, 0.8, 0.9, 1]  # all are within it
    strict = search(line, {"target": examples, "source": examples}, Loader(), budget=Budget.of(0), layers=False)
    assert len(strict.points) >= len(front.points)
    assert [point.factor for point in strict.points] == sorted(point.factor for point in strict.points)
    assert strict.point.changes["source"][1] <= 0


def test_nothing_to_search_on(request):
    model, examples = family(request, "base")
    with pytest.raises(InputError, match="there are no validation examples of the source"):
        search(Interpolation(model, noisy(model)), {"target": examples}, Loader())
    with pytest.raises(InputError, match="no weight differs from the base"):
        search(Interpolation(model, model), {"target": examples, "source": examples}, Loader())


def test_a_brief_search_tries_what_it_is_told(request, caplog):
    caplog.set_level(logging.INFO)
    model, examples = family(request, "base")
    line = Interpolation(model, noisy(model))
    sets = {"target": examples, "source": examples}
    front = search(line, sets, Loader(), layers=False, factors=FEW_FACTORS, examples=3)
    assert [point.factor for point in front.points] == list(FEW_FACTORS)
    told = [message.strip() for message in caplog.messages if message.startswith("  Factor ")]
    names = [one.partition(":")[0] for one in told]
    assert names == ["Factor 0", "Factor 0.5", "Factor 0.7", "Factor 0.85", "Factor 1"]
    assert all("WER target " in one and ", source " in one for one in told)
    kept, moved = (replace(front, chosen=number).shown("target") for number in (len(FEW_FACTORS) - 1, 2))
    assert "adapted" in kept and "blended" not in kept and "blended" in moved
    assert {point.kind for point in front.points} == {"single"} and front.examples == {"target": 3, "source": 3}
