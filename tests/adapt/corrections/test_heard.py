"""A changed word costs what its tokens cost in the answer's style, and the word that was not said costs most."""

from dataclasses import replace

import pytest
import torch
from real_whisper import native_speech, whisper_tiny
from small_hf import save_whisper
from tone_speech import write_tones

from adapt.corrections.attempt import answered
from adapt.corrections.calibrate import calibrate_margin
from adapt.corrections.heard import Change, changed_words, in_style, least_supported
from adapt.corrections.support import SupportLimits, unsupported
from adapt.data.kinds import with_text
from adapt.data.loader import Loader, collate
from adapt.data.manifest import read_manifest
from adapt.models.checkpoint import load_model
from adapt.models.encoder_cache import cached_encoder
from adapt.models.eval_mode import eval_mode


def batch_of(model, example, text):
    return collate([(with_text(example, text), model.reader.read(example))])


def test_only_changed_words_differ_from_the_answer():
    words, space, changes = in_style("The cat sat, on a mat.", "a cat sat on the big mat")
    assert space.join(words) == "A cat sat, on the big mat."
    assert changes == [Change(0, ("a",), "The"), Change(4, ("the", "big"), "a")]
    words, _, changes = in_style("He is, well, here.", "he is here")
    assert (words, changes) == (["He", "is,", "here."], [Change(2, (), "well,")])
    assert in_style("Yes. No!", "yes no")[2] == []  # style only
    assert in_style("東京です", "京都です") == (list("京都です"), "", [Change(0, (), "東"), Change(1, ("都",), "")])
    assert in_style("", "a b")[2] == [Change(0, ("a", "b"), "")]
    assert in_style("so... yes", "so yes")[2] == []


def test_a_word_costs_its_least_likely_token_and_half_of_the_one_after_it(tmp_path):
    tones = read_manifest(write_tones(tmp_path, "tones", 1))[0]
    model = load_model(str(save_whisper(tmp_path / "whisper", spaces=False))).model
    model.set_generation(replace(model.generation_options, language="de"))
    batch = batch_of(model, tones[0], "cab bed")
    with eval_mode(model), torch.no_grad():
        target = model.target(batch.examples[0])
        logits = model(batch.inputs, batch.lengths, torch.tensor([target]))[0]
        costs = [-float(row.log_softmax(-1)[token]) for row, token in zip(logits, target, strict=True)]
        shared = len(model.target(with_text(tones[0], "cab"))) - 1
        (word,) = changed_words(model, batch, "cab dad")
        assert word.word == "bed"
        assert word.cost == pytest.approx(max(costs[shared:-1]) + costs[-1] / 2, abs=1e-4)
        assert changed_words(model, batch, "Cab, bed.") == []
        (left_out,) = changed_words(model, batch, "cab e bed")
        assert (left_out.word, left_out.removed) == ("", "e")
        assert left_out.cost == pytest.approx(costs[shared], abs=1e-4)
        limits = SupportLimits(word=word.cost - 0.1)
        assert "'bed' costs" in unsupported(model, batch, "cab dad", [], limits)
        assert unsupported(model, batch, "cab dad", [], replace(limits, word=word.cost + 0.1)) == ""


@pytest.mark.slow
def test_a_published_whisper_refuses_a_word_that_nobody_said():
    model = load_model(str(whisper_tiny())).model
    with eval_mode(model), cached_encoder(model):
        known = answered(model, native_speech(4), Loader())
        limits = calibrate_margin(model, known)
        assert 8 < limits.word < 16
        for example in known[:2]:
            words = example.text.split()
            for wrong in ("elephant", "nineteen"):
                text = " ".join([*words[:2], wrong, *words[3:]])
                least = least_supported(model, batch_of(model, example, text), example.text)
                assert least is not None and least.word == wrong
                reason = unsupported(model, batch_of(model, example, text), example.text, known, limits)
                assert f"'{wrong}' costs" in reason
                # The same correction the other way round gives what was said.
                assert unsupported(model, batch_of(model, example, example.text), text, known, limits) == ""
