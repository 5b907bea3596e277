"""Measures of uncertainty equal their definitions, do not depend on batches, and are high where a model is wrong."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tone_speech import RATE, tones

from adapt import Loader, Pair, load_model, read_manifest
from adapt.data.kinds import with_text
from adapt.data.loader import collate
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.models.inference import decode_examples
from adapt.planning.candidates import measure, measures_for, ranks
from adapt.planning.measures import disagreements, entropies, gradient_lengths

MEASURES = (gradient_lengths, entropies, disagreements)
LOADER = Loader()


@pytest.fixture(scope="module")
def model(base):
    return load_model(str(base)).model


@pytest.fixture(scope="module")
def pool(speech):
    """Four utterances that the base knows, and four of another accent."""
    return [own for name in ("low_test", "high_test") for own in read_manifest(speech[name])[0][:4]]


@pytest.fixture(scope="module")
def hypotheses(model, pool):
    return decode_examples(model, model.task, pool, LOADER)


def test_the_gradient_is_that_of_the_loss_on_the_hypothesis(model, pool, hypotheses):
    lengths = gradient_lengths(model, pool, hypotheses, LOADER)
    number = max(range(len(pool)), key=lambda n: len(hypotheses[n]))
    model.zero_grad()
    batch = collate([(with_text(pool[number], hypotheses[number]), model.reader.read(pool[number]))])
    model.task.loss(model, batch).backward()
    own = math.sqrt(sum(float(p.grad.double().square().sum()) for p in model.parameters() if p.grad is not None))
    model.zero_grad()
    assert float(lengths[number]) == pytest.approx(own, rel=1e-4)


def test_the_entropy_is_that_of_the_outputs(model, pool, hypotheses):
    values = entropies(model, pool, hypotheses, LOADER)
    batch = collate([(pool[0], model.reader.read(pool[0]))])
    with torch.inference_mode():
        emissions = model(batch.inputs, batch.lengths)
    probabilities = emissions.log_probs[0, : int(emissions.lengths[0])].double().exp()
    own = torch.distributions.Categorical(probabilities).entropy().mean()
    assert float(values[0]) == pytest.approx(float(own), rel=1e-3)
    assert (values >= 0).all() and (values <= math.log(len(model.vocabulary))).all()


def test_another_accent_is_less_sure(model, pool, hypotheses):
    for function in MEASURES:
        values = function(model, pool, hypotheses, LOADER)
        assert values[4:].mean() > values[:4].mean(), function.__name__
    spoken = decode_examples(model, model.task, pool, LOADER, "")
    assert spoken == hypotheses and not any(p.requires_grad and p.grad is not None for p in model.parameters())


def test_neither_order_nor_batches_matter(model, pool, hypotheses):
    backwards = slice(None, None, -1)
    for function in MEASURES:
        one = function(model, pool, hypotheses, LOADER)
        other = function(model, pool[backwards], hypotheses[backwards], Loader(batch_seconds=0.5)).flip(0)
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5), function.__name__


def test_an_empty_hypothesis_has_no_gradient(model, pool):
    lengths = gradient_lengths(model, pool[:2], ["", "a"], LOADER)
    assert lengths.isnan().tolist() == [True, False]
    silence = [Recording(np.zeros(RATE, np.float32), RATE)]
    assert disagreements(model, silence, [""], LOADER).tolist() in ([0.0], [0.5], [1.0])


def test_a_model_with_a_decoder(whisper):
    loaded = load_model(str(whisper), language="en")
    pool = [Recording(tones(text), RATE, name=text) for text in ("ab", "abcde abc")]
    texts = ["abc", "abcd a"]  # a random Whisper may write anything: measure texts that it can read back
    assert gradient_lengths(loaded.model, pool, texts, LOADER).isfinite().all()
    assert (entropies(loaded.model, pool, texts, LOADER) > 0).all()
    assert disagreements(loaded.model, pool, texts, LOADER).shape == (2,)


def test_says_why_nothing_can_be_measured(whisper, monkeypatch):
    loaded = load_model(str(whisper))  # of several languages, and none is given
    monkeypatch.setattr("adapt.planning.candidates.decode_examples", lambda *_: ["abc"])
    with pytest.raises(InputError, match="gradient of no candidate can be measured.*must know the language"):
        measure(loaded, [Recording(tones("ab"), RATE)], ("gradient",), LOADER)


def test_a_translation_model(marian):
    loaded = load_model(str(marian))
    pairs = [Pair("ada ebb"), Pair("bea dab had")]
    assert measures_for(loaded.model, "combined") == ("gradient", "confusion")
    assert (gradient_lengths(loaded.model, pairs, ["bea", "cid gab"], LOADER) > 0).all()
    assert (entropies(loaded.model, pairs, ["bea", "cid gab"], LOADER) > 0).all()
    with pytest.raises(InputError, match="reads text"):
        disagreements(loaded.model, pairs, ["", ""], LOADER)
    with pytest.raises(InputError, match="speeds of speech"):
        measures_for(loaded.model, "disagreement")


def test_finished_blocks_are_used_again(base, pool, tmp_path, monkeypatch):
    loaded = load_model(str(base))
    monkeypatch.setattr("adapt.planning.candidates.BLOCK", 3)
    whole = measure(loaded, pool, ("confusion",), LOADER, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    (tmp_path / "measured-3.json").unlink()
    calls = []
    monkeypatch.setattr(
        "adapt.planning.candidates.decode_examples", lambda *given: calls.append(given[2]) or decode_examples(*given)
    )
    again = measure(loaded, pool, ("confusion",), LOADER, tmp_path)
    assert [len(block) for block in calls] == [3] and again.hypotheses == whole.hypotheses
    assert torch.equal(again.values["confusion"], whole.values["confusion"])
    with pytest.raises(InputError, match="another model or of other candidates"):
        measure(loaded, pool[::-1], ("confusion",), LOADER, tmp_path)
    later = [replace(one, offset=0.05) for one in pool]  # of the same names
    with pytest.raises(InputError, match="another model or of other candidates"):
        measure(loaded, later, ("confusion",), LOADER, tmp_path)


def test_ranks():
    assert ranks(torch.tensor([3.0, 1.0, 2.0, 1.0]).double()).tolist() == [0.875, 0.25, 0.625, 0.25]
    assert ranks(torch.tensor([math.nan, 1.0, 3.0, 2.0]).double())[0] == ranks(torch.tensor([2.0, 1, 3, 2]))[0]
    assert ranks(torch.tensor([math.nan, math.nan])).tolist() == [0.5, 0.5]
