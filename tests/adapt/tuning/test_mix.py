"""`tuning=mix`: the union of what parts train, counted exactly, and overlaps that are none refused with both names."""

from functools import partial

import pytest
import torch

from adapt.data.loader import Loader
from adapt.data.pairs import Pair
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.introspect.weights.change import weight_change
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.factors import merge_factors
from adapt.models.state import model_fingerprint
from adapt.tuning.bias_norm import bias, norm
from adapt.tuning.layers import head, layers
from adapt.tuning.lora import lora, peft
from adapt.tuning.mix import mix
from adapt.tuning.neurons import neurons
from interventions.freeze import freeze_all_but
from interventions.rows import merge_rows


@pytest.fixture
def model(marian):
    return load_model(str(marian)).model


NEURONS = partial(neurons, choose="random", per_site=True)
UPPER = partial(NEURONS, sites="*.encoder.layers.1.*", top=2)
DECODER = partial(lora, layers="decoder", r=2)


def test_rows_of_the_upper_encoder_lora_in_the_decoder_and_the_head_whole(model, marian, tmp_path):
    base = load_model(str(marian))
    names = mix(model, parts={"decoder": DECODER, "rows": UPPER, "head": head}).names
    freeze_all_but(model, names)
    free = {name for name, own in model.named_parameters() if own.requires_grad}
    assert free == set(names)
    kinds = {name.rpartition(".")[2] if ".lora_" not in name else "factor" for name in names}
    assert kinds == {"rows", "row_bias", "factor", "weight"} and "net.model.shared.weight" in names
    assert all(".decoder." in name for name in names if ".lora_" in name)
    assert all(".encoder.layers.1." in name for name in names if name.endswith(("rows", "row_bias")))
    numbers = sum(own.numel() for own in model.parameters() if own.requires_grad)
    with torch.no_grad():
        for own in model.parameters():
            if own.requires_grad:
                own.add_(torch.randn(own.shape), alpha=0.1)
    rows, merged = {name: len(units) for name, units in merge_rows(model).items()}, merge_factors(model)
    trained = [*rows, *merged.counts, "net.model.shared.weight"]
    change = weight_change(base.model, model, trained, rows, merged.counts)
    assert change.parameters == numbers and change.changed == change.trained
    own = dict(model.named_parameters())
    whole = sum(own[name].numel() for name in ("net.model.shared.weight", *merged.counts))
    assert change.trained == whole + sum(count * own[name][0].numel() for name, count in rows.items())
    save_adaptation(tmp_path / "adaptation", base, model, merged.factors)
    assert load_model(str(tmp_path)).fingerprint == model_fingerprint(model)
    assert (tmp_path / "adaptation" / "weights.safetensors").stat().st_size <= 1.1 * 4 * numbers + 100 * len(names)


def test_what_trains_whole_twice_is_one(model):
    names = mix(model, parts={"biases": bias, "norms": norm, "last": partial(layers, layers="decoder last 1")}).names
    expected = {*bias(model).names, *norm(model).names, *layers(model, layers="decoder last 1").names}
    assert len(names) == len(set(names)) and set(names) == expected


def test_biases_train_beside_lora(model):
    names = mix(model, parts={"biases": bias, "factors": lora}).names
    assert any(name.endswith("k_proj.base_layer.bias") for name in names)
    freeze_all_but(model, names)
    kept = {id(own) for own in model.parameters() if own.requires_grad}
    merge_factors(model)
    assert {name for name, own in model.named_parameters() if id(own) in kept} == set(bias(model).names)


def test_layers_are_chosen_before_rows_begin_to_train(model, marian):
    measured = partial(layers, choose="rgn", top=1)
    sample = TuningData([Pair("ab cd", "ef gh")], (), Loader())
    expected = mix(load_model(str(marian)).model, parts={"a": measured, "b": UPPER}, data=sample).names
    assert mix(model, parts={"a": UPPER, "b": measured}, data=sample).names == expected
    assert any(name.endswith(".rows") for name in expected)
    assert set(layers(load_model(str(marian)).model, choose="rgn", top=1, data=sample).names) < set(expected)


@pytest.mark.parametrize(
    ("parts", "one", "other"),
    [
        ({"a": UPPER, "b": partial(layers, layers="encoder last 1")}, "a", "b"),
        ({"a": partial(layers, layers="encoder last 1"), "b": UPPER}, "a", "b"),
        ({"a": UPPER, "b": bias}, "a", "b"),
        ({"a": DECODER, "b": partial(layers, layers="decoder first 1")}, "a", "b"),
        ({"a": DECODER, "b": partial(lora, layers="decoder last 1")}, "a", "b"),
        ({"a": UPPER, "b": partial(NEURONS, sites="*.fc1")}, "a", "b"),
        ({"a": partial(NEURONS, sites="*.decoder.*.k_proj"), "b": DECODER}, "a", "b"),
        ({"a": bias, "b": partial(peft, method="IA3", layers="decoder")}, "a", "b"),
    ],
)
def test_overlaps_are_refused_with_both_names(model, parts, one, other):
    with pytest.raises(InputError) as said:
        mix(model, parts=parts)
    assert f"tuning.parts.{one}" in str(said.value) and f"tuning.parts.{other}" in str(said.value)


def test_no_parts_and_wrong_ones(model):
    with pytest.raises(InputError, match=r"tuning=mix needs parts: \+tuning@tuning\.parts\.NAME=TUNING"):
        mix(model, parts={})
    with pytest.raises(InputError, match="tuning.parts.top: layers: No layer matches 'top'"):
        mix(model, parts={"top": partial(layers, layers="top")})


def test_an_experiment_names_its_parts_in_its_defaults(model, tmp_path):
    from hydra import compose, initialize_config_dir

    from adapt.build import build
    from adapt.commands.show import config_folder

    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - /tuning@tuning.parts.upper: neurons\n"
        "  - /tuning@tuning.parts.decoder: lora\n  - /tuning@tuning.parts.output: head\n  - override /tuning: mix\n"
        "tuning:\n  parts:\n    upper: {choose: random, sites: '*.encoder.layers.1.*'}\n"
        "    decoder: {layers: decoder, r: 4}\n"
    )
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        cfg = compose("adapt", [f"hydra.searchpath=[file://{tmp_path}]", "experiment=mine"])
    assert cfg.tuning.parts.upper.top == 0.05 and cfg.tuning.parts.decoder.alpha == 16
    names = build(cfg.tuning)(model).names
    found = {one.module: one.options["r"] for one in merge_factors(model).factors}
    assert set(found.values()) == {4} and all(".decoder." in name for name in found)
    assert merge_rows(model) and "net.model.shared.weight" in names
