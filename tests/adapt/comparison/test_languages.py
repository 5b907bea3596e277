"""The share of examples whose language a multilingual Whisper detects, before and after."""

import numpy as np
import pytest
import torch
from small_hf import save_whisper

from adapt.comparison.compare import compare
from adapt.comparison.languages import language_accuracy
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.recording import Recording
from adapt.evaluation.evaluate import evaluate
from adapt.models.checkpoint import load_model
from adapt.report.result_notes import about_languages

NOISE = np.random.default_rng(0).standard_normal((4, 16_000)).astype(np.float32) / 9


def spoken(*languages):
    extras = [{} if code is None else {"lang": code} for code in languages]
    return Splits(test=tuple(Recording(one, 16_000, "a b", extra=own) for one, own in zip(NOISE, extras, strict=False)))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A Whisper that hears German only, and one that hears English only."""
    folder = str(save_whisper(tmp_path_factory.mktemp("w") / "w"))
    made = {}
    for language in ("de", "en"):
        loaded = load_model(folder)
        bias = torch.zeros(len(loaded.model.net.proj_out.weight))
        bias[loaded.model.net.generation_config.lang_to_id[f"<|{language}|>"]] = 1000
        loaded.model.net.proj_out.register_forward_hook(lambda _, __, logits, bias=bias: logits + bias)
        made[language] = loaded
    return made


def test_adapting_that_forgets_a_language_is_seen(models):
    splits = spoken("de", "de", "de", "en")
    found = compare(models["de"], models["en"], splits, causes=0, compare_neurons=0, audio_clips=0, non_speech=0)
    result = found.sets["target"]
    assert result.before["language_accuracy"] == 0.75 and result.after["language_accuracy"] == 0.25
    assert found.figures()["target"]["after"]["language_accuracy"] == 0.25
    assert "in 75.0 % of the utterances before and 25.0 % after" in about_languages(found, "target")
    assert evaluate(models["de"], splits).sets["target"]["language_accuracy"] == 0.75


def test_there_is_none_without_languages(models, base):
    loader = Loader()
    assert language_accuracy(models["de"].model, spoken(None, None).test, loader, "target") is None
    assert language_accuracy(load_model(str(base)).model, spoken("de").test, loader, "target") is None
