"""The recogniser that the tests start from: it can be trained again, and the stored one works as its card says."""

import json

import pytest
from trained_base import BASE, MAX_WER, train_base

from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.models.checkpoint import load_model, model_fingerprint
from adapt.models.inference import decode_examples


def wer(run):
    return 100 * json.loads((run / "metrics.json").read_text())["target"]["after"]["wer"]


def test_the_stored_base_transcribes_its_accent(base, speech):
    model = load_model(str(base)).model
    assert model_fingerprint(model) == json.loads((BASE / "card.json").read_text())["fingerprint"]
    examples, _ = read_manifest(speech["low_test"])
    texts = decode_examples(model, model.task, examples, Loader())
    scores = model.task.evaluate([example.text for example in examples], texts)
    assert 100 * scores.as_dict()["wer"] <= MAX_WER and wer(BASE) <= MAX_WER


@pytest.mark.slow
def test_the_recipe_trains_such_a_base(tmp_path):
    assert wer(train_base(tmp_path)) <= MAX_WER
