from dataclasses import replace

import pytest
import torch

from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.introspect.activations import read_means
from adapt.introspect.activity.activity import LayerActivity, layer_sites, read_activity
from adapt.introspect.activity.strongest import EACH, Moments
from adapt.introspect.activity.study import study_neurons
from adapt.introspect.attribution.words import single_batch
from adapt.models.checkpoint import load_model
from interventions.sites import Site

pytestmark = pytest.mark.slow


def test_every_layer_has_the_activations_of_its_site(base, speech):
    model = load_model(str(base)).model
    examples = read_manifest(speech["low_test"])[0][:1]
    activity = read_activity(model, examples[0])
    sites = layer_sites(model)
    assert list(sites) == [layer.name for layer in model.layers]
    means = read_means(model, examples, Loader(), list(sites.values()))
    for name, layer in activity.items():
        torch.testing.assert_close(layer.values.mean(0), means[name][0], atol=1e-4, rtol=1e-4)
        assert layer.kind == "seconds" and layer.step_at(layer.start + 3 * layer.length) == 3
        assert layer.step_at(-1.0) == 0 and layer.step_at(99.0) == len(layer.values) - 1
    only = read_activity(model, examples[0], ["net.acoustic_model.conv3"])
    assert list(only) == ["net.acoustic_model.conv3"]
    with pytest.raises(InputError, match="there is no 'nowhere'"):
        read_activity(model, examples[0], ["nowhere"])


def test_decoders_have_tokens_and_windows_no_padding(marian, whisper, wav2vec2, speech):
    model = load_model(str(marian)).model
    activity = read_activity(model, Pair("a b c", "b c"))
    source, target = len(model.reader.read(Pair("a b c"))), len(model.target(Pair("a b c", "b c")))
    counts = {layer.kind: (len(layer.values), len(layer.tokens)) for layer in activity.values()}
    assert counts == {"source": (source, source), "target": (target, target)}
    model = load_model(str(whisper), language="en").model
    example = replace(read_manifest(speech["low_test"])[0][0], text="a b")
    seconds = len(single_batch(model, example).inputs[0]) / model.sample_rate
    heard = [layer for layer in read_activity(model, example).values() if layer.kind == "seconds"]
    assert heard
    for layer in heard:
        assert len(layer.values) * layer.length == pytest.approx(seconds, abs=0.02)
    model = load_model(str(wav2vec2)).model
    layers = list(read_activity(model, example).values())
    assert {layer.kind for layer in layers} == {"seconds"} and len(layers) == len(layer_sites(model))
    # Averaged over time: the same sounds in fewer steps, at the same times.
    coarse, fine = next(iter(read_activity(model, example, finest=0.01).values())), layers[0]
    assert len(coarse.values) == -(-len(fine.values) // 32) and coarse.length == pytest.approx(32 * fine.length)
    torch.testing.assert_close(coarse.values[3], fine.values[96:128].mean(0))
    assert coarse.start == pytest.approx(fine.start + 15.5 * fine.length)
    model = load_model(str(whisper), language="en").model
    with pytest.raises(InputError, match="tokens"):
        read_activity(model, replace(example, text="a " * 500))


def planted(values, example_kind="seconds", tokens=()):
    site = Site("net.one", -1, len(values[0]), ())
    return {"net.one": LayerActivity("net.one", site, torch.tensor(values), example_kind, 0.01, 0.02, tokens)}


def test_moments_are_peaks_strongest_first():
    moments = Moments()
    # Neuron 0 rises to one plateau; neuron 1 has four peaks, of which the weakest is not kept.
    moments.add(0, planted([[0.0, 5.0], [3.0, 0.0], [3.0, 4.0], [1.0, 0.0], [0.0, 2.0], [0.0, 0.0], [0.0, 1.0]]))
    moments.add(7, planted([[9.0, 0.0], [0.0, 6.0], [0.0, 0.0], [0.0, 0.0]]))
    assert [(one.example, one.value) for one in moments.of("net.one", 0) if one.value > 0] == [(7, 9.0), (0, 3.0)]
    found = moments.of("net.one", 1)
    assert [(one.example, one.value, one.step) for one in found][:4] == [
        (7, 6.0, 1),
        (0, 5.0, 0),
        (0, 4.0, 2),
        (0, 2.0, 4),
    ]
    assert EACH == 3 and not any(one.value == 1.0 for one in found)
    assert (found[2].start, found[2].end) == (pytest.approx(0.04), pytest.approx(0.06))
    assert len(moments.of("net.one", 1, 2)) == 2 and moments.of("nowhere", 0) == []
    moments.add(8, planted([[1.0, 0.0], [7.0, 0.0]], "target", ("a", "b")))
    best = moments.of("net.one", 0)[1]
    assert (best.value, best.token, best.end - best.start) == (7.0, "b", 1.0)


def test_a_study_finds_the_letter_that_an_output_neuron_writes(base, speech):
    model = load_model(str(base)).model
    examples = read_manifest(speech["low_train"])[0][:12]
    shares = []
    study = study_neurons(model, examples, told=shares.append)
    assert shares == [0.0, 4 / 12, 8 / 12] and study.examples == 12
    output = model.sites[-1]
    assert study.key_at(output) == "letter"
    groups = [one.group for one in study.responses(output, 0)]
    letters = [unit for unit, name in enumerate(model.vocabulary) if name in groups]
    assert len(letters) > 2
    for unit in letters:
        responses = study.responses(output, unit)
        assert responses[0].group == model.vocabulary[unit] and responses[0].contrast > responses[1].contrast
        best = study.moments.of(output.name, unit)[0]
        batch = single_batch(model, examples[best.example])
        with torch.no_grad():
            path = model.eval()(batch.inputs, batch.lengths).log_probs[0].argmax(-1)
        assert int(path[best.step]) == unit
    means = study.means(output)
    assert set(means) == set(groups) and all(len(row) == output.units for row in means.values())


def test_a_study_stops_when_it_is_told_to_and_refuses_nothing_to_read(base, speech):
    model = load_model(str(base)).model
    examples = read_manifest(speech["low_test"])[0][:2]

    def stop(share):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study_neurons(model, examples, told=stop)
    with pytest.raises(InputError, match="number of examples"):
        study_neurons(model, [])
