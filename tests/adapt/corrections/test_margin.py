"""Texts that were not said are refused by speech encoder-decoders too, by a limit that is measured on the model."""

from contextlib import nullcontext
from dataclasses import replace
from math import inf
from statistics import fmean

import pytest
import torch
from real_whisper import native_speech, whisper_tiny
from small_hf import save_speech_encoder_decoder, save_whisper
from tone_speech import write_tones

from adapt.corrections.attempt import answered, answers_from, confirmed_answer, likely_answer
from adapt.corrections.calibrate import calibrate_margin, measure_limits
from adapt.corrections.model_memory import ModelMemory
from adapt.corrections.support import SupportLimits, support_margin, unsupported
from adapt.data.kinds import with_text
from adapt.data.loader import Loader, collate
from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.encoder_cache import cached_encoder
from adapt.models.eval_mode import eval_mode
from adapt.models.inference import decode_examples
from interventions.corrections.search import Search

FAR = Search(steps=60, rate=0.1, penalty=0.0, residual_scale=4.0)
TEXTS = ("abc", "de a", "cab bed", "e", "dad", "bee")


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return read_manifest(write_tones(tmp_path_factory.mktemp("tones"), "tones", 14))[0]


def batch_of(model, example, text=None):
    example = example if text is None else with_text(example, text)
    return collate([(example, model.reader.read(example))])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("family", ["whisper", "bert"])
def test_the_limit_lies_three_tenths_of_the_way_from_wrong_to_right(request, family, seed, tones, tmp_path):
    """On random models, beside the definition: each text on its own audio, and on that of each other example."""
    folder = request.getfixturevalue("whisper") if family == "whisper" else save_speech_encoder_decoder(tmp_path / "b")
    model = load_model(str(folder)).model
    draw = torch.Generator().manual_seed(seed)
    if model.multilingual:
        model.set_generation(replace(model.generation_options, language="de"))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=draw))
    examples = [with_text(one, text) for one, text in zip(tones, TEXTS, strict=False)]
    with eval_mode(model):
        limit = calibrate_margin(model, examples).margin
        right, wrong = [], []
        for said in examples:
            for heard in examples:
                others = [one for one in examples if one not in (said, heard)]
                (right if said is heard else wrong).append(
                    support_margin(model, batch_of(model, heard, said.text), others)
                )
        expected = fmean(wrong) + 0.3 * (fmean(right) - fmean(wrong))
        assert limit == pytest.approx(max(0.1, expected), abs=1e-4)
        # A text is refused if and only if it is below the limit.
        for text in TEXTS:
            batch, limits = batch_of(model, examples[0], text), SupportLimits(margin=limit, word=inf)
            margin = support_margin(model, batch, examples[1:4])
            assert bool(unsupported(model, batch, "", examples[1:4], limits)) == (margin < limit)
        assert measure_limits(model, None, 30.0, examples).margin == limit
    few = [with_text(one, TEXTS[number % 3]) for number, one in enumerate(tones)]
    assert calibrate_margin(model, few) == SupportLimits()  # three different answers are too few


@pytest.mark.slow
def test_a_protected_recording_is_not_compared_with_itself(tones, tmp_path):
    """Its text is no likelier for its audio than for its audio, which would halve the margin."""
    model = load_model(str(save_whisper(tmp_path / "whisper", spaces=False))).model
    model.set_generation(replace(model.generation_options, language="de"))
    margin, text = max((support_margin(model, batch_of(model, tones[0], text), tones[1:2]), text) for text in TEXTS)
    assert margin > 0
    batch, limits = batch_of(model, tones[0], text), SupportLimits(margin=0.9 * margin, word=inf)
    assert not unsupported(model, batch, "", tones[1:2], limits)
    assert not unsupported(model, batch, "", tones[:2], limits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapt.corrections.support.same_input", lambda *_: False)
        assert unsupported(model, batch, "", tones[:2], limits)


def test_margins_in_stores_are_numbers_above_0():
    assert SupportLimits.from_facts({"limits": {"cost": 9.0, "size": 0.5}}) == SupportLimits(9.0, 0.5)
    assert SupportLimits.from_facts({"limits": {"margin": 1.7}}).margin == 1.7
    with pytest.raises(InputError, match="expected numbers above 0"):
        SupportLimits.from_facts({"limits": {"margin": 0}})


@pytest.mark.slow
def test_a_correction_is_the_same_without_shortcuts(tones, tmp_path, monkeypatch):
    """Without the cached encoder and the answers confirmed in one pass, all is the same to the bit."""
    monkeypatch.setattr("adapt.corrections.model_memory.unsupported", lambda *arguments: "")
    folder = save_whisper(tmp_path / "whisper", spaces=False)
    found = []
    for shortcuts in (True, False):
        loaded = load_model(str(folder))
        model = loaded.model
        model.set_generation(replace(model.generation_options, language="de"))
        if not shortcuts:
            monkeypatch.setattr("adapt.corrections.model_memory.cached_encoder", lambda model: nullcontext())
            monkeypatch.setattr(type(model), "confirmed_text", lambda *arguments: None)
        path = tmp_path / f"{shortcuts}.db"
        memory = ModelMemory.create(loaded, tones[4:], path, strength=3.0, limits=SupportLimits())
        before = decode_examples(model, model.task, tones[:1], Loader())
        outcomes = [
            memory.correct(with_text(one, text.replace(text[0], "b" if text[0] == "a" else "a", 1)), search=FAR)
            for one, text in zip(tones, before, strict=False)
        ]
        entries = [(entry.inputs, entry.values, entry.targets) for _, entry in sorted(memory.memory.entries.items())]
        with memory.on():
            now = decode_examples(model, model.task, tones, Loader())
        found.append(([replace(one, seconds=0.0, bytes=0) for one in outcomes], now, memory.limits, entries))
    (*fast, entries), (*slow, others) = found
    assert fast == slow and fast[0][0].fixed and fast[0][0].checked == 10
    assert len(entries) == len(others) > 0
    for one, other in zip(entries, others, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_answer_is_confirmed_only_where_greedy_decoding_surely_writes_it(tones, tmp_path):
    model = load_model(str(save_whisper(tmp_path / "whisper", spaces=False))).model
    model.set_generation(replace(model.generation_options, language="de"))
    answers = decode_examples(model, model.task, tones, Loader())
    ended = [(one, text) for one, text in zip(tones, answers, strict=True) if len(text) < 10]
    with eval_mode(model):
        confirmed = [confirmed_answer(model, batch_of(model, one, text)) for one, text in ended]
        assert [text for text in confirmed if text is not None] == [
            text for text, (_, own) in zip(confirmed, ended, strict=True) if text == own
        ]
        for one, text in ended:
            other = f"{text[:-1]}{'a' if text[-1:] != 'a' else 'b'}"
            assert confirmed_answer(model, batch_of(model, one, other)) is None
            assert likely_answer(model, batch_of(model, one, other)) == model.task.normalise(text)
        assert answers_from(model, tones, ["abc", *answers[1:]]) == answers
        one, text = next((pair for pair, own in zip(ended, confirmed, strict=True) if own), ended[0])
        if any(confirmed):
            for setting in ({"beams": 2}, {"language": None}):
                model.set_generation(replace(model.generation_options, **setting))
                assert confirmed_answer(model, batch_of(model, one, text)) is None
                model.set_generation(replace(model.generation_options, beams=1, language="de"))
            model.net.generation_config.repetition_penalty = 1.2
            assert confirmed_answer(model, batch_of(model, one, text)) is None
            model.net.generation_config.repetition_penalty = 1.0
            model.net.generation_config.max_length = len(model.target(with_text(one, text)))
            assert confirmed_answer(model, batch_of(model, one, text)) is None


@pytest.mark.slow
def test_a_published_whisper_refuses_what_nobody_said():
    model = load_model(str(whisper_tiny())).model
    speech = native_speech(6)
    with eval_mode(model), cached_encoder(model):
        known = answered(model, speech[:4], Loader())
        limits = calibrate_margin(model, known)
        assert 1 < limits.margin < 3
        for example, other in zip(speech[4:], reversed(speech[4:]), strict=True):
            read = model.reader.read(example)
            batches = [collate([(with_text(example, text), read)]) for text in (example.text, other.text)]
            said, not_said = (unsupported(model, batch, "", known, limits) for batch in batches)
            assert not said and "costs" in not_said
            margin_only = replace(limits, word=inf)
            not_said = unsupported(model, batches[1], "", known, margin_only)
            assert "nats likelier for this audio than for other audio" in not_said
        # Its own answers are confirmed in one pass, those of others are not.
        for example, other in zip(known[:2], known[1:3], strict=True):
            assert confirmed_answer(model, batch_of(model, example)) == example.text
            assert confirmed_answer(model, batch_of(model, example, other.text)) is None
