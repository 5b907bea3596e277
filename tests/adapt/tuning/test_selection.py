"""Budgets hold, layers are taken from the best on, and a choice that was kept is not made again."""

import json
from dataclasses import replace

import pytest
import torch

from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.data.selection import Selection, load_selections, save_selections
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.introspect.scores import random
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.tuning.layers import full, layers
from adapt.tuning.neurons import neurons
from adapt.tuning.rates import layer_rates
from adapt.tuning.selection import best_layers, best_neurons, layer_weights, neuron_weights, tunable
from adapt.tuning.surgical import auto_rgn, relative_gradients, surgical
from interventions.neurons import Neurons, Scores
from interventions.rows import merge_rows


@pytest.fixture
def model(base):
    return load_model(str(base)).model


@pytest.fixture(scope="module")
def sample(speech):
    low, high = (tuple(read_manifest(speech[f"{accent}_test"])[0]) for accent in ("low", "high"))
    return TuningData(high, low, Loader(batch_seconds=4))


def trained(model, names):
    parameters = dict(model.named_parameters())
    return sum(parameters[name].numel() for name in names)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.7])
@pytest.mark.parametrize("per_site", [True, False])
@pytest.mark.parametrize("choose", ["random", "rgn"])
def test_as_many_neurons_as_a_share_of_the_weights_pays_for(model, sample, share, per_site, choose):
    total = sum(parameter.numel() for parameter in model.parameters())
    names = neurons(model, choose=choose, weight_share=share, per_site=per_site, data=sample, examples=2).names
    whole = load_model("us-english").model
    cheapest = min(neuron_weights(whole, whole.sites).values())
    assert share * total - cheapest < trained(model, names) <= share * total
    merge_rows(model)


def test_the_best_are_taken_first_and_who_is_too_dear_is_passed_over(model):
    first, last = model.sites[0], model.sites[-1]
    dear, cheap = neuron_weights(model, [first, last]).values()
    scores = Scores({first: torch.arange(first.units) + 100.0, last: torch.arange(last.units).float()})
    total = sum(parameter.numel() for parameter in model.parameters())
    share = (2 * dear + 1.5 * cheap) / total
    chosen = best_neurons(model, scores, weight_share=share)
    assert chosen == Neurons({first: [first.units - 2, first.units - 1], last: [last.units - 1]})
    # Of each site by its own order: half of one is as good as half of the other.
    half = best_neurons(model, scores, weight_share=(first.units * dear + last.units * cheap) / 2 / total)
    assert [abs(len(half[site]) - site.units / 2) <= 1 for site in (first, last)] == [True, True]
    for given in (0.0, 1.5, 2, True, "all"):
        with pytest.raises(ValueError, match="share of the model's weights"):
            best_neurons(model, scores, weight_share=given)


def test_layers_are_taken_from_the_best_on_as_far_as_the_weights_go(model):
    total = sum(parameter.numel() for parameter in model.parameters())
    costs = {layer.name: layer_weights(model, layer) for layer in model.layers}
    assert sum(costs.values()) == total
    names = [layer.name for layer in model.layers]
    ranking = {name: -float(place) for place, name in enumerate(names)}
    budget = (costs[names[0]] + costs[names[1]] + 0.5 * costs[names[2]]) / total
    chosen = {layer.name for layer in best_layers(model, ranking, budget)}
    assert set(names[:2]) <= chosen and names[2] not in chosen and sum(costs[name] for name in chosen) <= budget * total
    assert [layer.name for layer in best_layers(model, ranking, 3)] == names[:3]
    with pytest.raises(ValueError, match=r"Every layer has more than 1 weights; the smallest, '.*conv10', has"):
        best_layers(model, ranking, 1.5 / total)
    for given in (0, 99, True, 1.5):
        with pytest.raises(ValueError, match="Expected a share"):
            best_layers(model, ranking, given)


def test_the_layer_whose_weights_moved_is_chosen_by_the_run_that_moved_them(model, base, sample, tmp_path):
    loaded = load_model(str(base))
    layer = model.layers[6]
    with torch.no_grad():
        for name in layer.modules:
            for parameter in model.get_submodule(name).parameters():
                parameter.add_(0.1)
    save_adaptation(tmp_path / "run" / "adaptation", loaded, model)
    own = [f"{name}.{kind}" for name in layer.modules for kind in dict(model.get_submodule(name).named_parameters())]
    for run in (tmp_path / "run", tmp_path / "run" / "adaptation"):
        assert set(layers(loaded.model, choose=str(run), top=1, data=sample).names) == set(own)
    assert set(layers(loaded.model, choose="random", top=2, seed=3).names) == set(
        layers(loaded.model, choose="random", top=2, seed=3).names
    )
    assert len({tuple(layers(loaded.model, choose="random", top=1, seed=seed).names) for seed in range(9)}) > 3


def test_surgical_takes_the_block_with_the_largest_gradient_beside_its_weights(model, sample, tmp_path):
    """A layer before a norm may be as small as one likes: it computes the same, and its gradient grows."""
    layer = model.layers[4]
    with torch.no_grad():
        conv, norm = (model.get_submodule(name) for name in layer.modules[:2])
        for own, factor in (
            (conv.weight, 0.01),
            (conv.bias, 0.01),
            (norm.running_mean, 0.01),
            (norm.running_var, 1e-4),
        ):
            own.mul_(factor)
        norm.eps *= 1e-4
    data = replace(sample, source=())
    tuned = surgical(model, data=data, examples=3)
    names = tuned.names
    assert set(names) == {name for name in full(model).names if name.rpartition(".")[0] in layer.modules}
    assert f"the layer {layer.name}," in tuned.summary
    assert surgical(load_model("us-english").model, data=replace(data, selections=tuned.selections)).selections == (
        tuned.selections
    )
    factors = auto_rgn(model, replace(data, target=data.target[:3]))
    assert factors.keys() == {layer.name for layer in model.layers} and factors[layer.name] == 1.0
    assert all(0 <= factor < 1 for name, factor in factors.items() if name != layer.name)
    rates = layer_rates(model, full(model).names, measured=factors)
    assert {rates[name] for name in names} == {1.0} and set(rates.values()) == set(factors.values())
    with pytest.raises(InputError, match="there are none"):
        auto_rgn(model, replace(sample, target=()))
    assert max(relative_gradients(model, sample.subset(3)).values()) > 0
    with pytest.raises(InputError, match="there are none"):
        surgical(model)


@pytest.mark.parametrize("family", ["wav2vec2", "whisper", "marian"])
def test_layers_and_blocks_of_every_family(family, request, sample, language, tmp_path):
    from adapt.data.pairs import read_pairs

    model = load_model(str(request.getfixturevalue(family))).model
    if family == "whisper":
        model = model.with_header(model.header() | {"language": "en"})
    if family == "marian":
        splits = read_pairs(train=str(language["train"]), source_test=str(language["source_test"]))
        sample = TuningData(splits.train, splits.source_test, Loader())
    free = set(full(model).names)
    for choose in ("rgn", "activation_gap"):
        names = layers(model, choose=choose, top=0.5, examples=3, data=sample).names
        assert 0 < trained(model, names) <= 0.5 * sum(parameter.numel() for parameter in model.parameters())
        assert set(names) < free
    assert 0 < len(surgical(model, examples=3, data=sample).names) < len(free)
    names = neurons(model, choose="fisher", weight_share=0.1, examples=3, data=sample).names
    assert 0 < trained(model, names) <= 0.1 * sum(parameter.numel() for parameter in model.parameters())


def test_a_saved_selection_is_used_instead_of_choosing_again(model, sample, tmp_path, monkeypatch):
    options = {"choose": "activation_gap", "weight_share": 0.05, "examples": 4}
    tuned = neurons(model, data=sample, **options)
    start = "Selected by activation_gap, measured on 4 examples of the target and 4 of the source: "
    assert tuned.summary.startswith(start) and tuned.summary.endswith(" of the weights.") and " 5.0 %" in tuned.summary
    rows = merge_rows(model)
    save_selections(tmp_path, tuned.selections)
    saved = replace(sample, selections=load_selections(tmp_path))
    assert saved.selections == tuned.selections
    monkeypatch.setattr("adapt.tuning.neurons.score", None)
    assert neurons(model, data=saved, **options) == tuned and merge_rows(model) == rows
    by_layer = layers(model, choose="fisher", top=2, examples=2, data=sample)
    monkeypatch.setattr("adapt.tuning.layers.score", None)
    again = layers(model, choose="fisher", top=2, data=replace(sample, selections=by_layer.selections))
    assert again == by_layer and "the layers net.acoustic_model." in by_layer.summary


def test_few_are_evenly_spaced():
    sample = TuningData(range(10), range(3), Loader())
    assert (sample.subset(4).target, sample.subset(4).source) == ([0, 2, 5, 7], [0, 1, 2]) and sample.subset(
        None
    ) is sample
    for given in (0, -1, 2.5, True):
        with pytest.raises(InputError, match="examples must be a whole number of at least 1"):
            sample.subset(given)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"choose": "largest"}, "no such measure, file or folder.*random, weight, rgn, fisher"),
        ({"choose": "rgn"}, "measured on training examples, and there are none"),
        ({"choose": "weight"}, "cannot rank layers"), ({"choose": "random", "top": 1e-9}, "Every layer has more than"),
    ],
)  # fmt: skip
def test_a_choice_of_layers_that_is_none_is_an_input_error(model, options, said):
    with pytest.raises(InputError, match=said):
        layers(model, **options)


def test_a_run_keeps_its_choice_and_says_it(innertune, base, speech, tmp_path, monkeypatch):
    """Also when it was killed, and goes on; another run in the same folder chooses anew."""
    options = [
        f"model.pretrained={base}", "data=manifest", f"data.train={speech['high_validation']}",
        f"data.source_train={speech['low_validation']}", f"data.test={speech['high_test']}", "trainer.max_epochs=1",
        "tuning=neurons", "tuning.choose=gradient_gap", "tuning.weight_share=0.1", "tuning.per_site=false",
        f"output={tmp_path / 'run'}",
    ]  # fmt: skip
    run = innertune("adapt", *options)
    chosen = Selection.load(run / "selection.safetensors")
    assert chosen.summary.startswith(
        "Selected by gradient_gap, measured on 8 examples of the target and 8 of the source"
    )
    assert json.loads((run / "card.json").read_text())["selection"] == chosen.summary
    assert chosen.summary in (run / "report.html").read_text()
    first = load_model(str(run)).fingerprint
    other = Selection(random(tunable(load_model(str(base)).model)).top(0.05), "Selected by a test.")
    # Unfinished, and with another selection saved: that one is used.
    (run / "metrics.json").unlink()
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    other.save(run / "selection.safetensors")
    innertune("adapt", *options, "resume=true")
    assert json.loads((run / "card.json").read_text())["selection"] == "Selected by a test."
    assert load_model(str(run)).fingerprint != first
    other.save(run / "selection.safetensors")
    innertune("adapt", *options, "overwrite=true", "resume=true")
    assert Selection.load(run / "selection.safetensors") == chosen and load_model(str(run)).fingerprint == first
