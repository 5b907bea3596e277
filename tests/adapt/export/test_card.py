"""The card has the hub's metadata, the run's figures and the proofs, and nothing of this machine."""

import json
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from adapt.errors import InputError
from adapt.export.card import CardOptions, model_card
from adapt.export.proof import Engine, Proof, Written, prove
from adapt.export.run_card import RunCard, run_card
from adapt.models.checkpoint import load_model
from adapt.models.loaded import Loaded

CARD = {
    "title": "tiny, adapted to Mandarin", "base": {"reference": "openai/whisper-tiny"},
    "data": {"_target_": "adapt.data.splits.read_splits", "test": "/home/mia/secret/adult_test.jsonl"},
    "examples": {"train": 400, "target": 200}, "hours": {"train": 0.5, "target": 0.25}, "seed": 3,
    "learning_rate": 1e-3, "date": "2026-01-01T00:00:00+00:00", "versions": {"innertune": "0.2.0"},
    "command": "innertune adapt data.train=/home/mia/secret/train.jsonl",
    "results": {"target": {
        "before": {"wer": 0.2824, "wer_interval": [0.25, 0.31], "cer": 0.1, "examples": 200},
        "after": {"wer": 0.2351, "wer_interval": [0.2, 0.27], "cer": 0.09, "examples": 200},
    }},
}  # fmt: skip
WEIGHTS = {"total": 1000, "trained": 500, "parameters": 50}
WRITTEN = Written("transformers", "```python\nprint(1)\n```", (), ["The weights are rounded to float16."])


@pytest.fixture(scope="module")
def loaded(whisper):
    model = load_model(str(whisper), language="german").model
    return Loaded(model, "/home/mia/secret/run", "f" * 64)


def test_metadata(loaded):
    proofs = [Proof("CTranslate2 4", 20, [("/home/mia/secret/a.wav", "a|b", "ab"), *[("b.wav", "x", "y")] * 4])]
    options = CardOptions(license="mit", datasets="openslr/speechocean762")
    text = model_card(loaded, RunCard(CARD, WEIGHTS), WRITTEN, proofs, options)
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.language) == ("mit", "transformers", ["de"])
    assert (data.pipeline_tag, data.base_model) == ("automatic-speech-recognition", "openai/whisper-tiny")
    assert (data.base_model_relation, data.datasets, data.tags) == (
        "finetune",
        ["openslr/speechocean762"],
        ["innertune"],
    )
    assert data.metrics == ["wer", "cer"] and data.model_name == "tiny, adapted to Mandarin"
    results = {(one.dataset_name, one.metric_type): one.metric_value for one in data.eval_results}
    assert results == {("adult_test.jsonl (target)", "wer"): 23.51, ("adult_test.jsonl (target)", "cer"): 9.0}
    assert "| target | WER | 28.2 % (25.0–31.0 %) | 23.5 % (20.0–27.0 %) | 200 |" in text
    assert "Trained: 50 of 1,000 weights (5.0 %)." in text and "Data, train: 400 examples, 30.0 minutes." in text
    assert "CTranslate2 4 gives the same tokens as the model for 15 of 20 utterances" in text
    assert 'a.wav: the model writes "a\\|b", the engine "ab"' in text and "and 2 more" in text
    assert "rounded to float16" in text and "Licence" not in text
    assert "/home" not in text and "secret" not in text and "mia" not in text


def test_a_model_without_a_run_and_without_a_licence(loaded):
    text = model_card(loaded, RunCard(), WRITTEN, [])
    data = ModelCard(text).data
    assert (data.license, data.base_model, data.eval_results) == ("unknown", None, None)
    assert "No licence was stated" in text and "## Training" not in text and "## Results" not in text


def test_run_card_reads_a_run(base, whisper, tmp_path):
    trained = load_model(str(base))
    run = run_card(trained)
    assert run.folder == base and run.get("results") and run.get("a", "b") is None
    for reference in (str(whisper), "openai/whisper-tiny", "us-english", str(tmp_path)):
        assert run_card(replace(trained, reference=reference)) == RunCard()
    assert run_card(replace(trained, fingerprint="of other weights", header={})) == RunCard()
    (tmp_path / "card.json").write_text("[1")
    (tmp_path / "model.safetensors").touch()
    assert run_card(replace(trained, reference=str(tmp_path))) == RunCard()


def test_options():
    with pytest.raises(InputError, match="base_model must be OWNER/NAME"):
        CardOptions(base_model="tiny")


def test_engines_that_cannot_run(loaded):
    def broken():
        raise RuntimeError("bad file")

    example = type("Example", (), {"name": "a"})()
    absent = prove(loaded.model, [Engine("fast", ("no_such_package",), broken)], [example])
    assert absent[0].sentence == (
        "Not proven with fast: no_such_package is not installed. Install it with: pip install 'innertune[export]'"
    )
    none = prove(loaded.model, [Engine("fast", (), broken)], [], "there were none.")
    assert none[0].sentence == "Not proven with fast: there were none."
    assert json.loads(json.dumps(none[0].unproven))


def test_an_engine_that_fails_stops_the_export(loaded, speech):
    from adapt.data.manifest import read_manifest

    def broken():
        raise RuntimeError("bad file")

    with pytest.raises(InputError, match=r"fast cannot run what was written \(RuntimeError: bad file\)"):
        prove(loaded.model, [Engine("fast", (), broken)], read_manifest(speech["low_test"])[0][:1])
