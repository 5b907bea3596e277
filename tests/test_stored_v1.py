"""Everything that version 1 stored still loads, with the same values (`tests/data/v1/README.md`)."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from adapt.corrections.model_memory import ModelMemory
from adapt.data.loader import Loader
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from adapt.introspect.profiles.profiles import Profiles
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples
from adapt.models.state import weights
from adapt.models.swap import apply
from adapt.models.swap_files import apply_to_file, remove_from_file
from interventions.corrections.store import CorrectionStore
from interventions.neurons import Neurons, Scores
from interventions.store import load

V1 = Path(__file__).parent / "data" / "v1"
BASE = "6969c44a8c1646cc23c297fc8086d69a1276b8f41371bbb8eab28a21957eeef8"
SITE = "net.acoustic_model.conv9"


def example(number: int) -> Utterance:
    return Utterance(V1 / "speech" / "test" / f"{number:03}.flac", "", duration=0.84)


def state_sum(model) -> float:
    return sum(float(tensor.double().sum()) for tensor in weights(model.net).values())


@pytest.mark.parametrize(
    ("name", "fingerprint", "total"),
    [
        ("base", BASE, 6934.550688952517),
        ("rows", "be8737144b90d1013dc35645f36481c315a9add719dc355bab986e3d6004bb64", 6934.82068745558),
        ("lora", "a92a9cfe8e3e25655fe2a43e664c67a1b54dde9120014396dff03a146554f47d", 6934.983820443051),
        ("dictation", "0229417e0e1ea953bb87ee351bff434a3666fea0219bc5d0d000bcca85009ca1", None),
    ],
)
def test_models_and_adaptations(name, fingerprint, total):
    loaded = load_model(str(V1 / name))
    assert loaded.fingerprint == fingerprint
    assert total is None or state_sum(loaded.model) == pytest.approx(total, abs=1e-9)


def test_generation_options_are_read_from_their_old_key(tmp_path):
    model = load_model(str(V1 / "dictation")).model
    options = model.generation_options
    assert (options.language, options.beams, options.normalise) == ("de", 2, True)
    assert "writing" not in model.header() and model.header()["generation"]["language"] == "de"
    base = load_model(str(V1 / "whisper"))
    with apply(base.model, str(V1 / "dictation")) as applied:
        assert applied.fingerprint.startswith("0229417e") and base.model.generation_options == options
    assert base.model.generation_options.language is None
    folder = shutil.copytree(V1 / "whisper", tmp_path / "whisper")
    before = (folder / "model.safetensors").read_bytes()
    apply_to_file(str(folder), str(V1 / "dictation"))
    assert load_model(str(folder)).model.generation_options == options
    remove_from_file(str(folder))
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_finished_run():
    metrics, card = (json.loads((V1 / "rows" / f"{name}.json").read_text()) for name in ("metrics", "card"))
    assert len(metrics["history"]) == 2 and metrics["target"]["after"]["cer"] == pytest.approx(12 / 28)
    assert card["fingerprint"] == load_model(str(V1 / "rows")).fingerprint
    assert len(Neurons.load(V1 / "rows" / "choice.safetensors")) == 10


def test_an_unfinished_run():
    with pytest.raises(InputError, match="not finished.*resume=true"):
        load_model(str(V1 / "killed"))
    stored = torch.load(V1 / "killed" / "checkpoints" / "last.ckpt", weights_only=True)
    assert (stored["epoch"], stored["global_step"]) == (0, 1)


def test_an_unfinished_run_is_resumed(innertune, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(V1, tmp_path / "v1"))
    options = [
        "model.pretrained=base", "data=manifest", "data.train=speech/high.jsonl", "data.validation=speech/test.jsonl",
        "data.test=speech/test.jsonl", "data.source_train=speech/validation.jsonl", "loader.speeds=[1.0]",
        "optimizer.lr=0.003", "causes=0", "compare_neurons=0", "audio_clips=0", "trainer.max_epochs=3", "tuning=head",
        "penalty=ewc", "penalty.examples=4",
    ]  # fmt: skip
    same = ("train_loss", "val_loss", "val_wer", "learning_rate")
    resumed = innertune("adapt", *options, "output=killed", "resume=true")
    whole = innertune("adapt", *options, "output=whole", "replay=0")  # the default of the version that was killed
    histories = [json.loads((folder / "metrics.json").read_text())["history"] for folder in (resumed, whole)]
    assert len(histories[0]) == 3
    for old, new in zip(*histories, strict=True):
        assert [old[name] for name in same] == pytest.approx([new[name] for name in same])
    found, expected = (load_model(str(folder)).model for folder in (resumed, whole))
    # The old code trained the first epoch on another machine, so the last bits may differ.
    for name, tensor in weights(expected.net).items():
        assert torch.allclose(weights(found.net)[name], tensor, atol=1e-6), name


def test_scores_neurons_and_steering_vectors():
    scores = Scores.load(V1 / "choose" / "scores.safetensors")
    assert sum(float(scores[site].sum()) for site in scores.sites) == pytest.approx(52.99636900622994)
    assert scores.top(10) == Neurons.load(V1 / "choose" / "choice.safetensors")
    (steer,) = load(V1 / "steer" / "vectors.safetensors", BASE).values()
    assert steer.site.name == SITE and float(steer.vector.double().sum()) == pytest.approx(-0.24363687727600336)


def test_profiles():
    profiles = Profiles.load(V1 / "profiles" / "profiles.safetensors")
    assert profiles.keys == ("letter", "accent") and profiles.folds == 2
    assert profiles.steps(SITE, "letter:space") == 94 and profiles.steps(SITE, "accent:low") == 172
    assert float(profiles.mean(SITE, ["letter:a"]).double().sum()) == pytest.approx(-1.8740843385457993)


def test_corrections(tmp_path):
    path = Path(shutil.copy(V1 / "corrections.db", tmp_path / "corrections.db"))
    loaded = load_model(str(V1 / "base"))
    memory = ModelMemory.open(loaded, path)
    (record,) = memory.records()
    assert (record.author, record.facts["before"], record.facts["text"]) == ("someone", "eba cae", "eba dae")
    assert decode_examples(loaded.model, loaded.model.task, [example(0)], Loader()) == ["eba cae"]
    with memory.on():
        assert decode_examples(loaded.model, loaded.model.task, [example(0)], Loader()) == ["eba dae"]
    store, numbers = CorrectionStore.load(tmp_path / "copy.db", V1 / "corrections.safetensors", BASE)
    assert numbers == [1] and [one.facts["text"] for one in store.records()] == ["eba dae"]
