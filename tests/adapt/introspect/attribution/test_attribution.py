"""Attributions are complete, point to the right part of the input, and work for every family."""

import pytest
import torch

from adapt.data.loader import Loader
from adapt.data.manifest import Splits, read_manifest
from adapt.data.pairs import read_pairs
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.introspect.attribution.attribution import attribute
from adapt.introspect.attribution.conductance import conductance
from adapt.introspect.attribution.measure import attribution
from adapt.introspect.attribution.network_input import network_input, word_score
from adapt.introspect.attribution.words import output_words, single_batch
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples, eval_mode


@pytest.fixture(scope="module")
def recogniser(base):
    return load_model(str(base)).model


@pytest.fixture(scope="module")
def example(speech):
    return read_manifest(speech["low_test"])[0][0]


@pytest.fixture(autouse=True)
def captum():
    pytest.importorskip("captum")


def test_output_words_have_the_right_times(recogniser, example):
    words = output_words(recogniser, example)
    assert [word.text for word in words] == decode_examples(recogniser, recogniser.task, [example], Loader())[0].split()
    first, second = words
    assert 0 <= first.start < first.end <= second.start < second.end <= example.duration + 0.05
    assert first.end < example.duration / 2 + 0.1 and second.start > example.duration / 2 - 0.1


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_x_input", "occlusion"])
def test_attributions_lie_where_the_word_is_spoken(recogniser, example, method):
    """In a recording of two words, the attribution of each word lies in its half."""
    for number, word in enumerate(output_words(recogniser, example)):
        found = attribute(recogniser, example, word, method, at_once=64)
        assert found.values.shape[0] == len(found.frequencies) == 20
        assert found.seconds == pytest.approx(example.duration)
        by_time = found.values.abs().sum(0)
        half = len(by_time) // 2
        shares = [float(part.sum() / by_time.sum()) for part in (by_time[:half], by_time[half:])]
        assert shares[number] > 0.6


def test_integrated_gradients_are_complete_and_more_so_with_more_steps(recogniser, example):
    word = output_words(recogniser, example)[0]
    few, many = (attribute(recogniser, example, word, steps=steps) for steps in (8, 128))
    assert many.score > many.baseline
    for found in (few, many):
        assert float(found.values.sum()) + found.gap == pytest.approx(found.score - found.baseline, abs=1e-3)
    assert abs(many.gap) < 0.05 * (many.score - many.baseline)
    one_by_one = attribute(recogniser, example, word, steps=8, at_once=1)
    assert torch.allclose(one_by_one.values, few.values, atol=1e-3 * float(few.values.abs().max()))


def test_the_conductance_of_every_layer_is_complete(recogniser, example):
    word = output_words(recogniser, example)[0]
    before = {name: parameter.requires_grad for name, parameter in recogniser.named_parameters()}
    found = conductance(recogniser, example, word, steps=64)
    rise = found.score - found.baseline
    for site in recogniser.sites:
        assert abs(found.gaps[site.name]) < 0.05 * rise
        assert float(found.conductance[site].sum()) == pytest.approx(rise - found.gaps[site.name])
    assert {name: parameter.requires_grad for name, parameter in recogniser.named_parameters()} == before
    assert all(parameter.grad is None for parameter in recogniser.parameters())
    other = conductance(recogniser, example, word, steps=64, at_once=5)
    site = recogniser.sites[3]
    assert torch.allclose(found.conductance[site], other.conductance[site], atol=1e-3 * rise)


def test_conductance_equals_a_direct_computation(recogniser, example):
    """The direct computation runs one pass per point."""
    from interventions.gradients import capture_gradients

    word, site, steps = output_words(recogniser, example)[1], recogniser.sites[2], 6
    batch = single_batch(recogniser, example)
    place = network_input(recogniser, batch)
    run, low = word_score(recogniser, batch, place, word), place.baseline("even")
    points = []
    for k in range(steps + 1):
        with capture_gradients(recogniser, site, lambda _, y, g: points.append((y[0].double(), g[0].double()))):
            run(low + k / steps * (place.x - low)).sum().backward()
    wanted = sum((b - a) * (ga + gb) / 2 for (a, ga), (b, gb) in zip(points, points[1:], strict=False)).sum(0)
    found = conductance(recogniser, example, word, [site], steps=steps)
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


def test_errors(recogniser, example):
    word = output_words(recogniser, example)[0]
    with pytest.raises(InputError, match="occlusion"):
        attribute(recogniser, example, word, "lime")
    with pytest.raises(InputError, match="silence"):
        attribute(recogniser, example, word, baseline="noise")


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


def test_few_windows_are_read_at_once(whisper, monkeypatch):
    """Each point of a path is a window of 30 s for Whisper, and the activations of all its sites are kept."""
    loaded = load_model(str(whisper))
    samples = (0.1 * torch.randn(16_000, generator=torch.Generator().manual_seed(0))).numpy()
    sizes = []
    loaded.model.net.get_encoder().register_forward_hook(
        lambda module, inputs, output: sizes.append(len(output.last_hidden_state))
    )
    examples = Splits(test=(Recording(samples, 16_000, text="ab", extra={"lang": "en"}),))
    attribution(loaded, examples, max_words=1, steps=16)
    assert max(sizes) == 2  # one step of a path has two points
