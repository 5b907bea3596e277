"""Changed neurons are found, unchanged ones are not, and every model family is supported."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from small_hf import save_ctc, save_speech_encoder_decoder
from tone_speech import timed

from adapt.comparison.neurons import compare_neurons
from adapt.comparison.patching import layers_called_once
from adapt.data.loader import Loader
from adapt.data.manifest import Utterance, read_manifest
from adapt.data.pairs import read_pairs
from adapt.errors import InputError
from adapt.models.checkpoint import load_model


@pytest.fixture(scope="module")
def whole(base):
    return load_model(str(base)).model


@pytest.fixture(scope="module")
def sets(speech):
    low, high = (read_manifest(speech[f"{accent}_train"])[0] for accent in ("low", "high"))
    return {"target": high[:60], "source": low[:60]}


def test_changed_neurons_are_flagged_and_no_others(whole, sets):
    """Five neurons of the third layer get random weights; the layers below are unchanged."""
    after = copy.deepcopy(whole)
    names = [layer.name for layer in whole.layers]
    torch.manual_seed(0)
    with torch.no_grad():
        weight = after.get_parameter(f"{names[2]}.weight")
        weight[:5] = torch.randn_like(weight[:5]) * weight.std()
    # Known times of the letters; a forced alignment would depend on how well the base was trained.
    found = compare_neurons(whole, after, {name: timed(own) for name, own in sets.items()}, Loader())
    assert found.group_by == "phoneme" and found.examples == 120
    sites = {own.site: own for own in found.sites}
    assert [own.site for own in found.sites] == names
    for name in names[:2]:
        assert sites[name].changed == 0 and sites[name].cka == pytest.approx(1)
    changed = sites[names[2]]
    assert changed.changed == 5 and {one.unit for one in changed.most_changed} == set(range(5)) and changed.cka < 0.999
    assert all(0 < one.interval[0] < one.change < one.interval[1] for one in changed.most_changed)
    assert changed.most_changed[0].interval[0] > 0.1
    assert [one.interval for one in sites[names[1]].most_changed] == [(0.0, 0.0)] * 5
    assert found.probes is not None and found.probes[0].target == "accent"
    by_site = [{row.site: row.accuracy for row in own.rows} for own in found.probes]
    assert all(by_site[0][name] == by_site[1][name] for name in names[:2])
    assert {own.name for own in found.maps} <= set(names) and all(own.after is not None for own in found.maps)
    assert found.similarity.matrix.shape == (len(names), len(names))


def test_an_identical_model_has_no_changed_neuron(whole, sets):
    found = compare_neurons(whole, copy.deepcopy(whole), sets, Loader())
    assert found.group_by == "aligned_letter" and found.examples == 120
    assert sum(own.changed for own in found.sites) == 0
    assert all(own.cka == pytest.approx(1) for own in found.sites if own.cka is not None)
    assert all(one.change == 0 for own in found.sites for one in own.most_changed)


@pytest.mark.slow
def test_an_example_that_is_too_short_is_skipped_and_logged(sets, tmp_path, caplog):
    """SEW halves the number of steps, so one step of its convolutions becomes no step of its layers."""
    before = load_model(str(save_ctc(tmp_path / "sew", "SEW", squeeze_factor=2))).model
    after = copy.deepcopy(before)
    with torch.no_grad():
        after.net.lm_head.weight[:] = after.net.lm_head.weight.roll(1, 0)
    soundfile.write(tmp_path / "short.wav", np.zeros(300), 16_000)
    short = Utterance(tmp_path / "short.wav", "a", duration=300 / 16_000, where="test.jsonl:9")
    found = compare_neurons(before, after, {**sets, "target": [short, *sets["target"]]}, Loader())
    assert (
        found.examples == 120 and found.sites[-1].site == "net.lm_head" and found.sites[-1].most_changed[0].change > 0
    )
    assert "Skipping test.jsonl:9 in the neuron comparison: it is too short" in caplog.text


def test_two_examples_are_too_few(whole, sets):
    with pytest.raises((InputError, ValueError)):
        compare_neurons(whole, copy.deepcopy(whole), {"target": sets["target"][:1]}, Loader())


@pytest.mark.slow
@pytest.mark.parametrize("family", ["wav2vec2", "whisper", "marian"])
def test_every_family_is_supported(family, request, speech, language):
    before = load_model(str(request.getfixturevalue(family))).model
    if family == "whisper":  # a multilingual model needs a language
        before.generation_options = replace(before.generation_options, language="de")
    after = copy.deepcopy(before)
    with torch.no_grad():
        for name, weight in after.named_parameters():
            if weight.dim() > 1 and ".layers." in name:
                weight.add_(0.1 * torch.randn_like(weight) * weight.std())
    pairs, spoken = read_pairs(test=str(language["train"])).test, read_manifest(speech["low_train"])[0]
    found = compare_neurons(before, after, {"target": (pairs if family == "marian" else spoken)[:12]}, Loader())
    blocks = [layer.name for layer in before.layers if ".layers." in layer.name]
    # Encoder frames cannot be assigned to tokens, so the encoder's layers have a CKA and no profile.
    blocks = [name for name in blocks if family != "whisper" or ".decoder." in name]
    assert set(blocks) <= {own.site for own in found.sites}
    assert all(own.most_changed[0].change > 0 for own in found.sites if own.site in blocks)


ADAPTER = {"add_adapter": True, "output_hidden_size": 24, "num_adapter_layers": 2}


@pytest.mark.parametrize("decoder", [None, "Bart"])
def test_the_layers_of_a_wav2vec2_adapter_are_compared(decoder, sets, tmp_path):
    """A gated linear unit after each of its convolutions halves the number of units."""
    save = save_speech_encoder_decoder if decoder else save_ctc
    before = load_model(str(save(tmp_path / "model", **ADAPTER))).model
    after = copy.deepcopy(before)
    blocks = [layer.name for layer in after.layers if ".adapter.layers." in layer.name]
    torch.manual_seed(0)
    with torch.no_grad():
        weight = after.get_parameter(f"{blocks[0]}.conv.weight")
        weight[:5] = torch.randn_like(weight[:5]) * 3 * weight.std()
    found = compare_neurons(before, after, {"target": sets["target"]}, Loader())
    alike = {row: found.similarity.between(row, row) for row in found.similarity.rows}
    assert len(blocks) == 2 and set(blocks) <= alike.keys()
    encoder = blocks[0].partition(".adapter.")[0]
    below = [name for name in alike if name.startswith(f"{encoder}.") and name not in blocks]
    assert len(below) > 4 and all(alike[name] == pytest.approx(1, abs=1e-4) for name in below)
    assert alike[blocks[0]] < 0.999 > alike[blocks[1]]
    if decoder is None:
        seen = {own.site: own for own in found.sites}
        assert set(blocks) <= seen.keys() and all(seen[name].units == 24 for name in blocks)
        assert {one.unit for one in seen[blocks[0]].most_changed if one.change > 0} <= set(range(5))
    # Activation patching finds the same layers with the same number of units.
    batch = next(iter(Loader().evaluation(sets["target"][:2], after.reader)))
    sites = layers_called_once(after.eval(), lambda: after.task.loss(after, batch))
    assert {sites[name].units for name in blocks} == {24}
