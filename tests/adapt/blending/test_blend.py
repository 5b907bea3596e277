"""Blending existing models: one with its base, several into one, and what is refused."""

import copy
from dataclasses import replace

import pytest
import torch

from adapt import BlendedModel, InputError, Splits, blend, load_model, read_splits
from adapt.models.adaptation_files import save_adaptation
from adapt.models.factors import add_factors, merge_factors
from adapt.models.model_files import save_model
from adapt.models.state import weights
from adapt.models.swap import apply
from interventions.bits import fingerprint
from interventions.sites import find_sites


def adaptation(base, folder, seed, lora=False):
    """Save an adaptation with noise on all weights, or by LoRA on one."""
    loaded = load_model(str(base))
    model = copy.deepcopy(loaded.model)
    draw, factors = torch.Generator().manual_seed(seed), ()
    with torch.no_grad():
        if lora:
            for name in add_factors(model, [find_sites(model)[2].name], "LORA", {"r": 2}):
                parameter = model.get_parameter(name)
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
            factors = merge_factors(model).factors
        else:
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.02)
    save_adaptation(folder / "adaptation", loaded, model.eval(), factors)
    return str(folder)


@pytest.fixture(scope="module")
def models(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapted")
    return [adaptation(base, folder / name, seed) for seed, name in enumerate(("one", "other"))]


def state(model):
    return weights(model.model.net)


def test_one_model_is_interpolated_with_its_base(base, models, tmp_path):
    made = blend(models[0], factor=0.5)
    old, new, half = (state(one) for one in (load_model(str(base)), load_model(models[0]), made))
    for name, tensor in half.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (old[name] + new[name]) / 2)
    made.save(tmp_path)
    again = load_model(str(tmp_path))
    assert again.fingerprint == made.fingerprint
    assert again.header["blend"]["factor"] == 0.5
    model = load_model(str(base)).model  # an adaptation like any other: applied to its base, and removed
    before = fingerprint(weights(model.net))
    with apply(model, str(tmp_path)) as applied:
        assert applied.fingerprint == made.fingerprint
    assert fingerprint(weights(model.net)) == before
    assert blend(models[0]).fingerprint == load_model(models[0]).fingerprint
    assert blend(models[0], factor=0).fingerprint == load_model(str(base)).fingerprint


def test_a_blended_lora_is_stored_as_a_lora(base, tmp_path):
    given = adaptation(base, tmp_path / "lora", 0, lora=True)
    blend(given, factor=0.5).save(tmp_path / "half")
    again = load_model(str(tmp_path / "half"))
    assert again.header["tensors"] == []
    assert again.header["factors"][0]["options"]["lora_alpha"] == 4.0  # 8 by default


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, lambda old, one, other: (one + other) / 2),
        ({"weights": [3, 1]}, lambda old, one, other: (3 * one + other) / 4),
        ({"method": "arithmetic"}, lambda old, one, other: old + 0.4 * (one + other - 2 * old)),
        ({"method": "arithmetic", "factor": 1}, lambda old, one, other: one + other - old),
        ({"method": "dare", "density": 1.0, "factor": 1}, lambda old, one, other: one + other - old),
    ],
    ids=["soup", "weighted soup", "arithmetic", "sum", "dare"],
)
def test_several_models_become_one(base, models, options, expected, tmp_path):
    made = blend(models, **options)
    old, one, other, merged = (state(each) for each in (load_model(str(base)), *map(load_model, models), made))
    name = find_sites(made.model)[1].rows[0].removeprefix("net.")
    torch.testing.assert_close(merged[name], expected(old[name], one[name], other[name]))
    made.save(tmp_path)
    assert load_model(str(tmp_path)).fingerprint == made.fingerprint


def test_fisher_and_statistics_need_data(base, models, speech):
    splits = read_splits(train=speech["high_validation"], source_train=speech["low_validation"])
    made = blend(models[0], method="fisher", splits=splits)
    old, new, merged = (state(one) for one in (load_model(str(base)), load_model(models[0]), made))
    name = find_sites(made.model)[1].rows[0].removeprefix("net.")
    share = (merged[name] - old[name]) / (new[name] - old[name])
    assert float(share.min()) >= 0
    assert float(share.max()) <= 1.001
    assert float(share.std()) > 0.1  # each weight has a factor of its own
    with pytest.raises(InputError, match="method=fisher measures .* give data.train="):
        blend(models[0], method="fisher")
    with pytest.raises(InputError, match="strength=0 to leave the base out"):
        blend(models[0], method="fisher", splits=Splits(train=splits.train))
    with pytest.raises(InputError, match="statistics=recompute needs training data"):
        blend(models[0], statistics="recompute")
    again = state(blend(models[0], statistics="recompute", splits=splits))
    assert any(not torch.equal(again[name], new[name]) for name in new if "running" in name)


@pytest.mark.slow
def test_the_factor_is_searched_on_validation_data(models, speech):
    splits = read_splits(validation=speech["high_validation"], source_validation=speech["low_validation"],
                         test=speech["high_test"], source_test=speech["low_test"])  # fmt: skip
    made = blend(models[0], factor="auto", splits=splits)
    assert isinstance(made, BlendedModel)
    assert made.front.examples == {"target": 8, "source": 8}
    assert [point.factor for point in made.front.points[:7]] == [0, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    kept = blend(models[0], forget=0, splits=splits).front  # noise gains nothing
    assert kept.chosen == 0 or kept.point.changes["source"][1] <= 0


def test_the_search_compares_as_the_result_is_compared(models, speech, monkeypatch):
    seen = []

    def search(line, *_, **__):
        seen.append(line.adapted.task.normaliser)
        raise InputError("seen")

    monkeypatch.setattr("adapt.blending.blend.search", search)
    splits = read_splits(validation=speech["high_validation"], source_validation=speech["low_validation"])
    styled = replace(splits, validation=tuple(replace(one, text=f"{one.text}.") for one in splits.validation))
    for given in (splits, styled):
        with pytest.raises(InputError, match="seen"):
            blend(models[0], factor="auto", splits=given)
    assert seen[0] is None and seen[1] is not None


def test_what_is_refused(base, models, tmp_path):
    one = load_model(str(base))
    save_model(tmp_path / "whole.safetensors", one.model)
    changed = copy.deepcopy(one.model)
    with torch.no_grad():
        next(changed.parameters()).add_(0.1)
    save_model(tmp_path / "other" / "model.safetensors", changed)
    foreign = adaptation(tmp_path / "other", tmp_path / "foreign", 3)
    for given, options, message in (
        ([models[0], foreign], {}, r"are adaptations of different bases .* Blend adaptations of one base"),
        ([models[0]], {"base": str(tmp_path / "other")}, "belongs to another base"),
        ([str(tmp_path / "whole.safetensors")], {"factor": 0.5}, "is a whole model, not an adaptation"),
        ([models[0], "us-english"], {"base": str(base)}, "have different shapes or alphabets"),
        (models, {"method": "interpolate"}, "method=interpolate blends one model with its base; got 2"),
        (models, {"method": "mean"}, "method must be"),
        (models, {"weights": [1]}, "weights must be one number of 0 or more for each of the 2 models"),
        (models, {"density": 0.5}, "density is for method=ties and dare, not soup"),
        (models, {"method": "ties", "density": 0}, "density"),
        ([], {}, "models is empty"),
        (models, {"factor": 2}, r"factor must be a number from 0"),
        (models, {"factor": "half"}, r"factor must be a number from 0"),
        (models, {"factor": "auto"}, "factor=auto needs validation data of the target"),
        (models, {"factor": 0.5, "forget": 1}, "leave out factor=0.5"),
    ):
        with pytest.raises(InputError, match=message):
            blend(given, **options)
