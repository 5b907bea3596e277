"""What changed inside is found, what did not is not, and every family can be looked into."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from small_hf import save_ctc, save_speech_encoder_decoder
from tone_speech import timed

from adapt.comparison.causes import _once
from adapt.comparison.neurons import compare_neurons
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


def test_neurons_that_were_changed_are_flagged_and_no_others(whole, sets):
    """Five neurons of the third layer answer to something else; layers below are as they were, those above follow."""
    after = copy.deepcopy(whole)
    names = [layer.name for layer in whole.layers]
    torch.manual_seed(0)
    with torch.no_grad():
        weight = after.get_parameter(f"{names[2]}.weight")
        weight[:5] = torch.randn_like(weight[:5]) * weight.std()
    # By the times of the letters: where the base takes them to be depends on how it came out.
    found = compare_neurons(whole, after, {name: timed(own) for name, own in sets.items()}, Loader())
    assert found.key == "phoneme" and found.examples == 120
    sites = {own.site: own for own in found.sites}
    assert [own.site for own in found.sites] == names
    for name in names[:2]:
        assert sites[name].flagged == 0 and sites[name].alike == pytest.approx(1)
    changed = sites[names[2]]
    assert changed.flagged == 5 and {unit for unit, _ in changed.top} == set(range(5)) and changed.alike < 0.999
    assert all(0 < low < size < high for (_, size), (low, high) in zip(changed.top, changed.intervals, strict=True))
    assert changed.intervals[0][0] > 0.1 and sites[names[1]].intervals == [(0.0, 0.0)] * 5
    assert found.probes is not None and found.probes[0].target == "accent"
    by_site = [{row.site: row.accuracy for row in own.rows} for own in found.probes]
    assert all(by_site[0][name] == by_site[1][name] for name in names[:2])
    assert {own.name for own in found.maps} <= set(names) and all(own.after is not None for own in found.maps)
    said = json.loads(json.dumps(found.as_dict()))
    assert (
        said["sites"][2]["flagged"] == changed.flagged
        and said["probes"]["before"]
        and len(said["similarity"]) == len(names)
    )


def test_a_model_that_is_the_same_has_no_changed_neuron(whole, sets):
    found = compare_neurons(whole, copy.deepcopy(whole), sets, Loader())
    assert found.key == "aligned_letter" and found.examples == 120
    assert sum(own.flagged for own in found.sites) == 0
    assert all(own.alike == pytest.approx(1) for own in found.sites if own.alike is not None)
    assert all(size == 0 for own in found.sites for _, size in own.top)


def test_one_example_that_is_too_short_is_left_out_by_name(sets, tmp_path, caplog):
    """SEW joins steps by twos: what gives its convolutions one step gives its layers none."""
    before = load_model(str(save_ctc(tmp_path / "sew", "SEW", squeeze_factor=2))).model
    after = copy.deepcopy(before)
    with torch.no_grad():
        after.net.lm_head.weight[:] = after.net.lm_head.weight.roll(1, 0)
    soundfile.write(tmp_path / "short.wav", np.zeros(300), 16_000)
    short = Utterance(tmp_path / "short.wav", "a", duration=300 / 16_000, where="test.jsonl:9")
    found = compare_neurons(before, after, {**sets, "target": [short, *sets["target"]]}, Loader())
    assert found.examples == 120 and found.sites[-1].site == "net.lm_head" and found.sites[-1].top[0][1] > 0
    assert "without test.jsonl:9: it is too short" in caplog.text


def test_two_examples_are_too_few(whole, sets):
    with pytest.raises((InputError, ValueError)):
        compare_neurons(whole, copy.deepcopy(whole), {"target": sets["target"][:1]}, Loader())


@pytest.mark.parametrize("family", ["wav2vec2", "whisper", "marian"])
def test_every_family_can_be_looked_into(family, request, speech, language):
    before = load_model(str(request.getfixturevalue(family))).model
    if family == "whisper":  # what is written must be said
        before.generation_options = replace(before.generation_options, language="de")
    after = copy.deepcopy(before)
    with torch.no_grad():
        for name, weight in after.named_parameters():
            if weight.dim() > 1 and ".layers." in name:
                weight.add_(0.1 * torch.randn_like(weight) * weight.std())
    pairs, spoken = read_pairs(test=str(language["train"])).test, read_manifest(speech["low_train"])[0]
    found = compare_neurons(before, after, {"target": (pairs if family == "marian" else spoken)[:12]}, Loader())
    blocks = [layer.name for layer in before.layers if ".layers." in layer.name]
    # Which token an encoder's frame belongs to, nobody knows; its layers are compared by CKA alone.
    blocks = [name for name in blocks if family != "whisper" or ".decoder." in name]
    assert set(blocks) <= {own.site for own in found.sites}
    assert all(size > 0 for own in found.sites if own.site in blocks for _, size in own.top[:1])


ADAPTER = {"add_adapter": True, "output_hidden_size": 24, "num_adapter_layers": 2}


@pytest.mark.parametrize("decoder", [None, "Bart"])
def test_an_adapter_of_wav2vec2_is_seen_layer_by_layer(decoder, sets, tmp_path):
    """Behind each of its convolutions, a gated linear unit makes one unit of two."""
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
        assert {unit for unit, size in seen[blocks[0]].top if size > 0} <= set(range(5))
    # Patching takes the layers in the same way, and needs their width too.
    batch = next(iter(Loader().evaluation(sets["target"][:2], after.reader)))
    sites = _once(after.eval(), lambda: after.task.loss(after, batch))
    assert {sites[name].units for name in blocks} == {24}
