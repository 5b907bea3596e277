"""The blend at the end of training: a given factor, the search, a budget, and where source data come from."""

from dataclasses import replace

import pytest
import torch

from adapt import InputError, fine_tune, load_model, read_splits, tunings
from adapt.blending.source_data import part_off
from adapt.data.loader import Loader
from adapt.models.state import weights
from adapt.training.blend import Blending, blended
from interventions.bits import fingerprint


@pytest.fixture(scope="module")
def splits(speech):
    parts = {"train": "high_train", "validation": "high_validation", "source_validation": "low_validation"}
    return read_splits(**{name: speech[place] for name, place in parts.items()})


@pytest.fixture(scope="module")
def trained(base, splits):
    """A fully tuned model, not blended."""
    return fine_tune(load_model(str(base)), splits, epochs=2, learning_rate=0.004, blend="off").training


def test_a_given_factor(base, trained, splits, tmp_path):
    found = blended(trained, trained.base.model, splits, Loader(), Blending(0.25))
    old, new, mixed = (weights(one.model.net) for one in (trained.base, trained.loaded, found.loaded))
    for name, tensor in mixed.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, old[name] + 0.25 * (new[name] - old[name]))
    assert found.unblended is trained
    found.save(tmp_path / "adaptation")
    again = load_model(str(tmp_path))
    assert again.fingerprint == found.loaded.fingerprint == fingerprint(mixed, again.model.vocabulary)
    assert again.header["blend"] == 0.25
    assert again.header["base"]["fingerprint"] == trained.base.fingerprint
    assert blended(trained, trained.base.model, splits, Loader(), Blending(1.0)) is trained
    assert blended(trained, trained.base.model, splits, Loader(), Blending("off")) is trained
    base_again = blended(trained, trained.base.model, splits, Loader(), Blending(0.0))
    assert base_again.loaded.fingerprint == trained.base.fingerprint


@pytest.mark.slow
def test_the_search_measures_both_sets_and_its_choice_is_what_it_returns(trained, splits):
    found = blended(trained, trained.base.model, splits, Loader(), Blending.of("auto", None))
    front = found.front
    singles = [point for point in front.points if point.kind == "single"]
    assert [point.factor for point in singles] == [0, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
    assert singles[0].changes == {"target": (0, 0), "source": (0, 0)}
    wer = {name: [point.values[name]["wer"] for point in singles] for name in ("target", "source")}
    assert wer["target"][-1] < wer["target"][0]
    for set_name, examples in (("target", splits.validation), ("source", splits.source_validation)):
        again = load_model(str(trained.base.reference)).evaluate(list(examples), corrections="off")
        assert front.examples[set_name] == len(examples)
        assert wer[set_name][0] == pytest.approx(again.sets["target"]["wer"])
    assert front.point.kind != "random"
    assert found.facts == ({"blend": front.point.factor} if front.point.kind == "single" else
                           {"blend": front.point.layers}) or front.point.factor == 1  # fmt: skip
    controls = [point for point in front.points if point.kind == "random"]
    layers = [point for point in front.points if point.kind == "layers"]
    for control in controls:
        assert sorted(control.layers.values()) == sorted(layers[0].layers.values())
    assert len(controls) == (3 if layers else 0)


def test_source_data_are_parted_off_training_data_and_never_off_test_data(splits):
    many = replace(splits, source_train=splits.train, source_validation=(), source_test=splits.validation)
    parted, sentence = part_off(many, replayed=True)
    assert len(parted.source_validation) == len(splits.train) // 5
    places = [one.where for one in (*parted.source_validation, *parted.source_train)]
    assert sorted(places) == sorted(one.where for one in splits.train)
    assert "24 examples that were parted off source_train" in sentence
    unused, sentence = part_off(many, replayed=False)
    assert unused.source_train == many.source_train
    assert all(one in many.source_train for one in unused.source_validation)
    nothing = replace(many, source_train=())
    assert part_off(nothing, replayed=True) == (nothing, "")
    assert part_off(splits, replayed=True)[0] is splits


def test_when_auto_searches(splits):
    without = replace(splits, source_validation=())
    auto = Blending.of("auto", None)
    assert auto.prepared(without, 0.0)[0].how == "off"  # no source set
    assert auto.prepared(replace(without, source_test=splits.validation), 0.0)[0] == auto  # with a stand-in
    assert Blending.of("auto", 0.5).prepared(without, 0.0)[0].how == "auto"
    assert auto.prepared(replace(splits, validation=()), 0.0)[0].how == "off"
    with pytest.raises(InputError, match="forget needs validation data of the target"):
        Blending.of("auto", 0.5).prepared(replace(splits, validation=()), 0.0)


@pytest.mark.slow
def test_without_source_data_the_answers_of_the_base_stand_in(trained, splits, caplog):
    caplog.set_level("INFO")
    alone = replace(splits, source_validation=())
    found = blended(trained, trained.base.model, alone, Loader(), Blending("auto"))
    assert "the base's own answers to 8 inputs of the target stand in" in found.front.data
    assert found.front.points[0].values["source"]["wer"] == 0  # the base agrees with itself
    assert found.front.points[6].values["source"]["wer"] > 0
    assert "only data of the source can tell" in caplog.text


@pytest.mark.parametrize("blend", ["on", 1.1, -1, True, None, float("nan")])
def test_wrong_blends_are_refused_before_training(base, splits, blend):
    with pytest.raises(InputError, match="blend must be"):
        fine_tune(load_model(str(base)), splits, tunings.head(), epochs=1, blend=blend)


@pytest.mark.parametrize("forget", ["much", -1, "-5%", True, "10%%", [1]])
def test_wrong_budgets_are_refused(forget):
    with pytest.raises(InputError, match="forget must be a number of points"):
        Blending.of("auto", forget)
    with pytest.raises(InputError, match="give blend=auto, not blend=0.8"):
        Blending.of(0.8, 0.5)
