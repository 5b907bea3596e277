"""The measure `weights` finds planted changes without any data, and distinguishes them from chance."""

import copy
import json

import pytest
import torch

from adapt.errors import InputError
from adapt.introspect.weights.measures import WeightMeasures, weight_measures
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from interventions.neurons import Scores

ROWS = ((2, 3), (5, 1), (5, 7))  # layer, unit


@pytest.fixture(scope="module")
def runs(base, tmp_path_factory):
    """Two runs from one base: random changes of all weights, and the same large change of three neurons in both."""
    folder, loaded = tmp_path_factory.mktemp("adapted"), load_model(str(base))
    for seed in (1, 2):
        model = copy.deepcopy(loaded.model)
        with torch.no_grad():
            chance = torch.Generator().manual_seed(seed)
            for parameter in model.parameters():
                parameter.add_(1e-3 * torch.randn(parameter.shape, generator=chance))
            planted = torch.Generator().manual_seed(0)
            for layer, unit in ROWS:
                weight = model.get_submodule(model.layers[layer].name).weight
                weight[unit] += 0.05 * torch.randn(weight[unit].shape, generator=planted)
        save_adaptation(folder / str(seed) / "adaptation", loaded, model)
    return folder


def test_planted_neurons_are_found(innertune, base, runs, tmp_path):
    run = innertune(
        "introspect", "measure=weights", f"model.pretrained={runs / '1'}", f"measure.floor={runs / '2'}",
        "data=manifest", "data.test=nowhere.jsonl", f"output={tmp_path / 'run'}",
    )  # fmt: skip
    told, model = json.loads((run / "metrics.json").read_text()), load_model(str(base)).model
    expected = {(model.layers[layer].name, unit) for layer, unit in ROWS}
    assert told["flagged"] == len(ROWS)
    assert {(name, unit) for name, own in told["sites"].items() for unit in own["flagged"]} == expected
    assert told["neurons_changed"] == told["neurons"] and told["parameters_changed"] == told["parameters"]
    still = told["sites"][model.layers[7].name]
    assert still["median"] == pytest.approx(still["floor"], rel=0.3) and still["flagged"] == []
    read, here = (
        WeightMeasures.load(run),
        weight_measures(*(load_model(str(path)).model for path in (base, runs / "1"))),
    )
    for name in ("incoming", "outgoing", "cosine_distance", "changed"):
        assert getattr(read, name) == getattr(here, name) == Scores.load(run / "scores" / f"{name}.safetensors")
    assert set(read.incoming.top(3)) == set(read.cosine_distance.top(3)) == expected
    page = (run / "weights.html").read_text()
    assert (
        "3 neurons in the same direction, by more than chance at 1 %" in page.replace("\u00a0", " ")
        and "nan" not in page.lower()
    )
    assert page.count('<svg class="strip"') == len(here.incoming.sites) + len(here.outgoing.sites)


def test_cosine_distance_and_changed_bits(base):
    before = load_model(str(base)).model
    after = copy.deepcopy(before)
    site = before.sites[3]
    module = after.get_submodule(site.name)
    with torch.no_grad():
        module.weight[1] *= 2
        module.bias[1] *= 2
        module.weight[2, 0] = -module.weight[2, 0]
    found = weight_measures(before, after)
    length = module.weight[0].numel() + 1
    assert found.incoming[site][1] == pytest.approx(1) and found.cosine_distance[site][1] == pytest.approx(0, abs=1e-9)
    assert found.changed[site][2] == module.weight[2, 0].numel() / length and 0 < found.cosine_distance[site][2] < 2
    assert found.cosine_distance[site][0] == found.changed[site][0] == 0


def test_a_model_compared_with_any_other(innertune, base, runs, tmp_path):
    run = innertune(
        "introspect", "measure=weights", f"model.pretrained={base}", f"measure.before={base}",
        f"output={tmp_path / 'run'}",
    )  # fmt: skip
    told = json.loads((run / "metrics.json").read_text())
    assert (told["parameters_changed"], told["neurons_changed"]) == (0, 0) and "flagged" not in told
    assert not (run / "scores" / "floor.safetensors").exists()
    for options, says in (
        ((f"model.pretrained={runs / '1'}", f"measure.floor={runs / '1'}"), "is the model that is measured"),
        ((f"model.pretrained={runs / '1'}", "measure.before=us-english"), "one architecture"),
    ):
        with pytest.raises(InputError, match=says):
            innertune("introspect", "measure=weights", *options, f"output={tmp_path / 'other'}")
    assert not (tmp_path / "other").exists()


def test_a_floor_of_another_base_or_tuning_is_refused(innertune, base, runs, tmp_path):
    """Runs are compared only if their headers name the same base and the same trained weights, or do not name them."""
    loaded = load_model(str(base))
    first, second = (own.name for own in loaded.model.layers[:2])

    def run(name, seed, before=loaded, **facts):
        model = copy.deepcopy(before.model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1e-3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
        save_adaptation(tmp_path / name / "adaptation", before, model, **facts)
        return tmp_path / name

    def measure(one, other, output="run"):
        return innertune(
            "introspect", "measure=weights", f"model.pretrained={one}", f"measure.floor={other}",
            f"output={tmp_path / output}",
        )  # fmt: skip

    weight, bias = f"{first}.weight", f"{first}.bias"
    whole = {"trained": [weight, bias], "trained_rows": {}, "trained_factors": {}}
    one = run("one", 1, **whole)
    for number, (facts, says) in enumerate((
        ({"trained": [weight]}, f"could train nothing of '{bias}', and '.*one' all[.] Give a run with the same tuning"),
        ({"trained": [weight, bias, f"{second}.weight"]}, f"could train all of '{second}.weight', and '.*one' nothing"),
        ({"trained_rows": {weight: 3, bias: 3}}, f"could train 3 rows of '{bias}', .* all. They also differ in 1 "),
        ({"trained_factors": {weight: 1200}}, f"could train 1,200 numbers in factors of '{weight}', and '.*one' all"),
    )):  # fmt: skip
        with pytest.raises(InputError, match=says):
            measure(one, run(f"other{number}", 2, **{**whole, **facts}))
    with pytest.raises(InputError, match="floor: '.*' is the model before.* Give a second run from it"):
        measure(one, base)
    with pytest.raises(InputError, match="floor: 'us-english' has another alphabet than '.*one'"):
        measure(one, "us-english")
    elsewhere = load_model(str(run("moved", 3)))
    with pytest.raises(InputError, match="was made from .*moved .*, and '.*one' from .*Give a run from the same base"):
        measure(one, run("further", 2, before=elsewhere, **whole))
    assert not (tmp_path / "run").exists()
    again = measure(one, run("again", 2, **whole), "alike")
    assert json.loads((again / "metrics.json").read_text())["flagged"] == 0
    measure(one, runs / "2", "untold")  # a model that does not say what could be trained, of the same base
