"""A planted cause is found, the models are left unchanged, and every model family is supported."""

import copy
from dataclasses import asdict, replace

import pytest
import torch

from adapt.comparison.causes import MAX_PARTS, find_causes, most_changed_neurons
from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.data.pairs import read_pairs
from adapt.models.checkpoint import load_model
from adapt.models.state import model_fingerprint
from interventions.neurons import Neurons
from interventions.sites import find_sites


def damaged(model, names, seed=0):
    """Return a copy with random weights of the same standard deviation in the named parameters."""
    other = copy.deepcopy(model)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name in names:
            weight = other.get_parameter(name)
            weight.copy_(torch.randn_like(weight) * weight.std())
    return other


@pytest.fixture(scope="module")
def whole(base):
    return load_model(str(base)).model


@pytest.fixture(scope="module")
def sets(speech):
    return {"target": read_manifest(speech["low_test"])[0], "source": read_manifest(speech["high_test"])[0][:3]}


def test_the_repaired_layer_is_the_cause(whole, sets):
    names = [layer.name for layer in whole.layers]
    repaired, idle = names[2], names[1]
    before = damaged(whole, [f"{repaired}.weight"])
    with torch.no_grad():  # a change without effect
        before.get_parameter(f"{idle}.bias").add_(1e-6)
    marks = model_fingerprint(before), model_fingerprint(whole)
    found = find_causes(before, whole, sets, Loader(), neurons={})
    assert marks == (model_fingerprint(before), model_fingerprint(whole))
    causes = {cause.part: cause for cause in found.parts}
    assert (
        list(causes) == [idle, repaired] and found.examples == {"target": 12, "source": 3} and found.not_reverted == []
    )
    bad, good = found.before["target"]["wer"], found.after["target"]["wer"]
    assert bad > good + 0.3
    assert causes[repaired].weights == whole.get_parameter(f"{repaired}.weight").numel()
    # Reverting the repaired layer undoes the gain, and applying it alone is the whole gain. The other has no effect.
    for part, reverted, applied in ((repaired, bad, good), (idle, good, bad)):
        assert causes[part].reverted["target"].values["wer"] == pytest.approx(reverted, abs=0.02)
        assert causes[part].applied["target"].values["wer"] == pytest.approx(applied, abs=0.02)
    low, high = causes[repaired].reverted["target"].difference["wer"]
    assert 0 < low <= high
    assert causes[idle].applied["target"].difference["wer"][1] >= 0
    # Its activations carry the gain too: those of earlier layers carry none of it, those from this layer on all of it.
    loss_before, loss_after = found.losses["target"]
    patched = {own.layer: own for own in found.patched}
    assert patched[idle].into_after["target"] == pytest.approx(loss_after, rel=1e-3)
    assert patched[repaired].into_after["target"] == pytest.approx(loss_before, rel=1e-3)
    assert patched[repaired].into_before["target"] == pytest.approx(loss_after, rel=1e-3)


def test_repaired_neurons_are_a_cause_and_the_control_is_not(whole, sets):
    """Before, six neurons have large random weights. The six control neurons differ only negligibly."""
    site = find_sites(whole)[1]
    before = copy.deepcopy(whole)
    with torch.no_grad():
        weight = before.get_parameter(site.rows[0])
        weight[:6] = 20 * weight.std() * torch.randn(weight[:6].shape, generator=torch.Generator().manual_seed(0))
        weight[6:] += 1e-7
    chosen = {"top": Neurons({site: range(6)}), "random 0": Neurons({site: range(6, 12)})}
    layer, top, random = find_causes(before, whole, sets, Loader(), neurons=chosen).parts
    assert all(own.kind == "layer" for own in find_causes(before, whole, sets, Loader(), neurons={}).parts)
    assert [layer.kind, top.kind, random.kind] == ["layer", "neurons", "random"]
    assert top.weights == whole.get_parameter(site.rows[0])[:6].numel()
    for effects in ("reverted", "applied"):
        target = [getattr(cause, effects)["target"].values["wer"] for cause in (layer, top, random)]
        assert target[0] == pytest.approx(target[1], abs=0.02)
    assert top.reverted["target"].values["wer"] > random.reverted["target"].values["wer"] + 0.3
    assert top.applied["target"].values["wer"] < random.applied["target"].values["wer"] - 0.3


def test_the_default_groups_are_the_most_changed_neurons_and_a_control(whole):
    sites = find_sites(whole)
    before = copy.deepcopy(whole)
    with torch.no_grad():
        for site in sites[:3]:
            before.get_parameter(site.rows[0]).add_(1e-4)
        before.get_parameter(sites[1].rows[0])[[4, 9]] += 1
    most, random = most_changed_neurons(before, whole, share=2 / sum(site.units for site in sites[:3])).items()
    assert most[0] == "the 2 neurons that changed most" and list(most[1][sites[1]]) == [4, 9] and len(most[1]) == 2
    assert random[0].startswith("random 2 ") and len(random[1]) == 2 and random[1] != most[1]
    assert most_changed_neurons(whole, copy.deepcopy(whole)) == {}


def test_many_layers_are_grouped_and_examples_are_limited(whole, sets, monkeypatch):
    monkeypatch.setattr("adapt.comparison.causes.MAX_PARTS", 2)
    before = damaged(whole, [name for name, weight in whole.named_parameters() if weight.dim() > 1])
    found = find_causes(before, whole, sets, Loader(), max_examples=4, neurons={})
    assert found.examples == {"target": 4, "source": 3}
    assert len(found.parts) == 2 < MAX_PARTS and " to " in found.parts[0].part
    assert sum(cause.weights for cause in found.parts) > 0.9 * sum(p.numel() for p in whole.parameters() if p.dim() > 1)


def test_identical_models_and_different_architectures_are_rejected(whole, sets, wav2vec2):
    with pytest.raises(ValueError, match="No weight differs"):
        find_causes(whole, copy.deepcopy(whole), sets, Loader())
    with pytest.raises(ValueError, match="one architecture"):
        find_causes(whole, load_model(str(wav2vec2)).model, sets, Loader())


@pytest.mark.parametrize("family", ["wav2vec2", "whisper", "marian"])
def test_every_family_is_supported(family, request, speech, language):
    after = load_model(str(request.getfixturevalue(family))).model
    if family == "whisper":  # a multilingual model needs a language
        after.generation_options = replace(after.generation_options, language="de")
    pairs, heard = read_pairs(test=str(language["test"])).test, read_manifest(speech["low_test"])[0]
    examples = (pairs if family == "marian" else heard)[:2]
    matrices = [name for name, weight in after.named_parameters() if weight.dim() > 1 and ".layers." in name]
    before = damaged(after, [matrices[0], matrices[-1]])
    found = find_causes(before, after, {"target": examples}, Loader(), neurons={})
    assert len(found.parts) == 2 and all(cause.weights for cause in found.parts)
    blocks = {layer.name for layer in after.layers if ".layers." in layer.name}
    assert blocks <= {own.layer for own in found.patched}
    assert set(asdict(found)["losses"]) == {"target"}


def test_there_is_no_copy_of_a_model(whole, sets, monkeypatch):
    """While a layer is reverted, each weight is in the memory of one of the two models."""
    before = damaged(whole, [name for name, _ in whole.named_parameters()])
    places = {one.data_ptr() for model in (before, whole) for one in model.parameters()}
    seen = []

    def decode(model, task, examples, *rest):
        seen.append(all(one.data_ptr() in places for one in model.parameters()))
        return [example.text for example in examples]

    monkeypatch.setattr("adapt.comparison.causes.decode_examples", decode)
    own = [one.data_ptr() for one in whole.parameters()]
    found = find_causes(before, whole, sets, Loader(), neurons={})
    assert len(seen) == 2 * (2 + 2 * len(found.parts)) and all(seen)
    assert [one.data_ptr() for one in whole.parameters()] == own
