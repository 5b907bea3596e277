"""Attributions are complete, point to the right part of the input, and work for every family."""

import pytest
import torch

from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.data.pairs import read_pairs
from adapt.errors import InputError
from adapt.introspect.attribution.attribution import attribute
from adapt.introspect.attribution.conductance import conductance
from adapt.introspect.attribution.network_input import network_input, word_score
from adapt.introspect.attribution.words import output_words, single_batch
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples, eval_mode


@pytest.fixture(scope="module")
def whole(base):
    return load_model(str(base)).model


@pytest.fixture(scope="module")
def heard(speech):
    return read_manifest(speech["low_test"])[0][0]


@pytest.fixture(autouse=True)
def captum():
    pytest.importorskip("captum")


def test_output_words_have_the_right_times(whole, heard):
    words = output_words(whole, heard)
    assert [word.text for word in words] == decode_examples(whole, whole.task, [heard], Loader())[0].split()
    first, second = words
    assert 0 <= first.start < first.end <= second.start < second.end <= heard.duration + 0.05
    assert first.end < heard.duration / 2 + 0.1 and second.start > heard.duration / 2 - 0.1


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_x_input", "occlusion"])
def test_attributions_lie_where_the_word_is_spoken(whole, heard, method):
    """In a recording of two words, the attribution of each word lies in its half."""
    for number, word in enumerate(output_words(whole, heard)):
        found = attribute(whole, heard, word, method, at_once=64)
        assert found.values.shape[0] == len(found.frequencies) == 20 and found.seconds == pytest.approx(heard.duration)
        by_time = found.values.abs().sum(0)
        half = len(by_time) // 2
        shares = [float(part.sum() / by_time.sum()) for part in (by_time[:half], by_time[half:])]
        assert shares[number] > 0.6


def test_integrated_gradients_are_complete_and_more_so_with_more_steps(whole, heard):
    word = output_words(whole, heard)[0]
    few, many = (attribute(whole, heard, word, steps=steps) for steps in (8, 128))
    assert many.score > many.baseline
    for found in (few, many):
        assert float(found.values.sum()) + found.gap == pytest.approx(found.score - found.baseline, abs=1e-3)
    assert abs(many.gap) < 0.05 * (many.score - many.baseline)
    one_by_one = attribute(whole, heard, word, steps=8, at_once=1)
    assert torch.allclose(one_by_one.values, few.values, atol=1e-3 * float(few.values.abs().max()))


def test_the_conductance_of_every_layer_is_complete(whole, heard):
    word = output_words(whole, heard)[0]
    before = {name: parameter.requires_grad for name, parameter in whole.named_parameters()}
    found = conductance(whole, heard, word, steps=64)
    rise = found.score - found.baseline
    for site in whole.sites:
        assert abs(found.gaps[site.name]) < 0.05 * rise
        assert float(found.conductance[site].sum()) == pytest.approx(rise - found.gaps[site.name])
    assert {name: parameter.requires_grad for name, parameter in whole.named_parameters()} == before
    assert all(parameter.grad is None for parameter in whole.parameters())
    other = conductance(whole, heard, word, steps=64, at_once=5)
    site = whole.sites[3]
    assert torch.allclose(found.conductance[site], other.conductance[site], atol=1e-3 * rise)


def test_conductance_equals_a_direct_computation(whole, heard):
    """The direct computation runs one pass per point."""
    from interventions.gradients import capture_gradients

    word, site, steps = output_words(whole, heard)[1], whole.sites[2], 6
    batch = single_batch(whole, heard)
    place = network_input(whole, batch)
    run, low = word_score(whole, batch, place, word), place.baseline("even")
    points = []
    for k in range(steps + 1):
        with capture_gradients(whole, site, lambda _, y, g: points.append((y[0].double(), g[0].double()))):
            run(low + k / steps * (place.x - low)).sum().backward()
    wanted = sum((b - a) * (ga + gb) / 2 for (a, ga), (b, gb) in zip(points, points[1:], strict=False)).sum(0)
    found = conductance(whole, heard, word, [site], steps=steps)
    assert torch.allclose(found.conductance[site], wanted.to(found.conductance[site].dtype), rtol=1e-3, atol=1e-5)


def test_occlusion_is_the_loss_of_log_probability(marian, language):
    """For a source token: the log-probability of the word, minus that with an embedding of zero."""
    model, example = load_model(str(marian)).model, read_pairs(test=str(language["test"])).test[0]
    word = output_words(model, example)[0]
    found = attribute(model, example, word, "occlusion")
    batch = single_batch(model, example)
    place = network_input(model, batch)
    score = word_score(model, batch, place, word)
    with eval_mode(model), torch.no_grad():
        for number in range(place.x.shape[1]):
            without = place.x.clone()
            without[:, number] = 0
            lost = float(score(place.x) - score(without))
            assert float(found.values[number]) == pytest.approx(lost, abs=1e-4)
    assert len(found.values) == place.x.shape[1] > 2 and found.values.abs().max() > 1e-3


def test_errors(whole, heard):
    word = output_words(whole, heard)[0]
    with pytest.raises(InputError, match="occlusion"):
        attribute(whole, heard, word, "lime")
    with pytest.raises(InputError, match="silence"):
        attribute(whole, heard, word, baseline="noise")


@pytest.mark.parametrize("family", ["wav2vec2", "whisper", "marian"])
def test_every_family(family, request, speech, language):
    model = load_model(str(request.getfixturevalue(family))).model
    pairs, spoken = read_pairs(test=str(language["test"])).test, read_manifest(speech["low_test"])[0]
    example = (pairs if family == "marian" else spoken)[0]
    words = output_words(model, example)
    assert words
    word = words[0]
    for method in ("integrated_gradients", "gradient_x_input"):
        found = attribute(model, example, word, method, steps=16)
        assert found.values.isfinite().all() and found.values.abs().max() > 0
        if family == "marian":
            assert len(found.tokens) == len(found.values) == len(model.reader.read(example))
            assert sum(value for _, value in found.by_source_word()) == pytest.approx(
                float(found.values.sum()), abs=1e-4
            )
        else:
            assert len(found.frequencies) == len(found.values) and found.values.dim() == 2
            assert (
                list(found.frequencies) == sorted(found.frequencies) and found.frequencies[-1] <= model.sample_rate / 2
            )
    held = conductance(model, example, word, steps=8)
    assert all(held.conductance[site].isfinite().all() for site in model.sites)
    assert any(held.conductance[site].abs().max() > 0 for site in model.sites)
