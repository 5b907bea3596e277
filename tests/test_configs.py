"""Every config that we ship is composed, built, and run for a step."""

import json
import math
import re
from base64 import b64decode

import numpy as np
import pytest
import soundfile
import torch
from tone_speech import LETTERS, RATE, tones, write_tones

from adapt.cli import COMMANDS
from adapt.commands.show import config_folder, first_comment
from adapt.models.checkpoint import load_model

CONF = config_folder()
HF = {"hf_ctc": "wav2vec2", "hf_speech_seq2seq": "whisper", "hf_translation": "marian"}
SMALL_SPEECH = ["data.train=4", "data.validation=2", "data.test=2", "trainer.max_epochs=1"]


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.fixture
def step(base, speech, innertune, tmp_path):
    """One epoch over a few utterances of tone speech."""

    def run(command, *overrides):
        model = [f"model.pretrained={base}"] if command == "adapt" else []
        data = [f"data.{name}={speech[f'high_{part}']}" for name, part in
                (("train", "validation"), ("test", "test"))]  # fmt: skip
        return innertune(
            command,
            "data=manifest",
            *data,
            *model,
            "trainer.max_epochs=1",
            "keep_checkpoints=true",
            f"output={tmp_path / 'run'}",
            *overrides,
        )

    return run


def check_trained(run):
    """Steps were taken, their losses are numbers, and the weights moved."""
    metrics = json.loads((run / "metrics.json").read_text())
    losses = [value for row in metrics["history"] for key, value in row.items() if key.endswith("loss")]
    assert losses and all(math.isfinite(loss) for loss in losses)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] > 0 and state["optimizer_states"][0]["state"]
    if "changed" in metrics["weights"]:
        assert 0 < metrics["weights"]["changed"] <= metrics["weights"]["trained"]
    else:  # pretrain; Adam's running means of gradients are those of weights that it moved
        moments = [own["exp_avg"] for own in state["optimizer_states"][0]["state"].values()]
        assert any(moment.abs().sum() > 0 for moment in moments)
        weights = load_model(str(run)).model.state_dict().values()
        assert all(tensor.isfinite().all() for tensor in weights)
    return metrics


def test_they_are_short():
    files = list(CONF.rglob("*.yaml"))
    assert sum(len(path.read_text().splitlines()) for path in files) < 1100
    for path in files:
        assert first_comment(path), f"{path} should begin with a comment: `innertune show` prints it"


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"show"}))
def test_commands_compose(command):
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert ("loader" in compose(command)) == (
            command not in ("sites", "apply", "remove", "export", "manifest", "studio", "attack")
        )


@pytest.mark.parametrize("name", options("tuning"))
def test_tunings(step, speech, name):
    parts = [f"+tuning@tuning.parts.{part}={part}" for part in ("lora", "norm")] + ["tuning.parts.lora.layers=last 2"]
    options = {"mix": parts, "auto": ["tuning.trials=1", f"data.train={speech['high_train']}"]}.get(name, [])
    metrics = check_trained(step("adapt", f"tuning={name}", *options))
    weights, name = metrics["weights"], metrics.get("search", {}).get("tried", [{"tuning": name}])[0]["tuning"]
    assert 0 < weights["changed"] <= weights["trained"] <= weights["total"]
    assert (weights["trained"] == weights["total"]) == (name == "full")
    assert 0 < weights["parameters"] <= weights["trained"]
    assert (weights["parameters"] < weights["trained"]) == (name in ("lora", "peft", "mix"))


@pytest.mark.parametrize("name", options("penalty"))
def test_penalties(step, speech, name):
    run = step("adapt", f"penalty={name}", f"data.source_train={speech['low_validation']}")
    (row,) = check_trained(run)["history"]
    assert ("penalty_loss" in row) == (name != "none")


@pytest.mark.parametrize("name", options("topographic"))
def test_topographic(step, name):
    metrics = check_trained(step("adapt", f"topographic={name}"))
    assert ("topographic_loss" in metrics["history"][0]) == ("topographic" in metrics) == (name != "none")


@pytest.mark.parametrize("name", options("augment"))
def test_augments(step, name):
    check_trained(step("adapt", f"augment={name}"))


# ddp starts this process's own command line again; tests/adapt/test_ddp.py runs it.
@pytest.mark.parametrize("name", sorted({*options("trainer")} - {"ddp"}))
def test_trainers(step, name):
    if name == "gpu" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    check_trained(step("adapt", f"trainer={name}"))


def test_logger_csv(step):
    table = (step("adapt", "logger=csv") / "log" / "version_0" / "metrics.csv").read_text()
    assert "target/after/wer" in table and "train_loss_epoch" in table


def test_logger_tensorboard(step):
    pytest.importorskip("tensorboard")
    assert list((step("adapt", "logger=tensorboard") / "log").glob("events.*"))


def test_logger_wandb_offline(step, speech, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "waiting"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    source = f"data.source_test={speech['low_test']}"
    run = step("adapt", "logger=wandb", source, "optimizer.lr=0.01", "compare_neurons=12", "causes=2", "audio_clips=2")
    recorded = b"".join(path.read_bytes() for path in (run / "wandb").rglob("*.wandb"))
    for name in (b"report.html", b"adaptation/weights.safetensors", b"metrics.json", b"target/after/wer"):
        assert name in recorded
    # What was compared is there as tables and media.
    comparison = json.loads((run / "comparison.json").read_text())
    (media,) = run.glob("wandb/offline-run-*/files/media")
    found = {}
    for path in (media / "table" / "comparison").glob("*.table.json"):
        table = json.loads(path.read_text())
        found[path.name.split("_")[0]] = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert set(found) >= {"result", "groups", "words", "transcripts", "layers", "neurons", "causes"}
    for row in found["result"]:
        own, key = comparison["sets"][row["set"]], row["metric"].lower()
        assert (row["before"], row["after"]) == (own["before"][key], own["after"][key])
        assert [row["difference_low"], row["difference_high"]] == own["difference"][key]
    assert len(found["result"]) == 4 and len(found["transcripts"]) == len(comparison["transcripts"]) > 0
    assert [row["changed"] for row in found["layers"]] == [own["changed"] for own in comparison["weights"]["layers"]]
    assert {row["part"] for row in found["causes"]} == {own["part"] for own in comparison["causes"]["parts"]}
    assert {row["word"] for row in found["words"]} <= {
        word["word"] for own in comparison["words"].values() for word in own["words"]
    }
    # Recordings are files of their table's artifact, which wait to be sent.
    assert sum(row["recording"] is not None for row in found["transcripts"]) == recorded.count(b".mp3") == 2
    heard = re.findall('src="data:audio/mpeg;base64,([^"]*)"', (run / "report.html").read_text())
    waiting = {path.read_bytes() for path in (tmp_path / "waiting").rglob("*") if path.is_file()}
    assert len(heard) == 2 and {b64decode(own) for own in heard} <= waiting
    maps = list(media.rglob("*.png"))
    assert maps and all(path.read_bytes().startswith(b"\x89PNG") for path in maps)
    (page,) = media.rglob("*.html")
    assert page.read_bytes() == (run / "report.html").read_bytes()


@pytest.mark.slow  # wandb starts a process
def test_wandb_is_not_told_what_it_no_longer_knows(tmp_path, monkeypatch, capfd):
    pytest.importorskip("wandb")
    from adapt.training.loggers import wandb

    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "waiting"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    logger = wandb(tmp_path)
    logger.experiment.finish()
    out, err = capfd.readouterr()
    assert "anonymous" not in out + err and "innertune" not in err


def test_logger_mlflow_offline(step, speech, tmp_path):
    pytest.importorskip("mlflow")
    source = f"data.source_test={speech['low_test']}"
    odd = ["rates={*.bias: 2}", "data.group_by=['accent']"]
    run = step("adapt", "logger=mlflow", source, *odd, "compare_neurons=12", "causes=2", "audio_clips=2")
    (found,) = (run / "mlruns").glob("*/*/meta.yaml")
    assert "status: 3" in found.read_text()  # FINISHED
    metrics = json.loads((run / "metrics.json").read_text())
    logged = (found.parent / "metrics" / "target" / "after" / "wer").read_text().split()
    assert float(logged[1]) == metrics["target"]["after"]["wer"]
    assert (found.parent / "metrics" / "train_loss_epoch").is_file()
    assert (found.parent / "params" / "rates" / "_.bias").read_text() == "2"
    assert (found.parent / "tags" / "mlflow.runName").read_text() == run.name
    artifacts = found.parent / "artifacts"
    for name in ("report.html", "metrics.json", "comparison.json", "adaptation/weights.safetensors"):
        assert (artifacts / name).read_bytes() == (run / name).read_bytes()
    tables = {path.stem: json.loads(path.read_text()) for path in (artifacts / "tables").iterdir()}
    assert set(tables) >= {"result", "groups", "words", "transcripts", "layers", "neurons", "causes"}
    comparison = json.loads((run / "comparison.json").read_text())
    for values in tables["result"]["data"]:
        row = dict(zip(tables["result"]["columns"], values, strict=True))
        assert row["before"] == comparison["sets"][row["set"]]["before"][row["metric"].lower()]
    heard = re.findall('src="data:audio/mpeg;base64,([^"]*)"', (run / "report.html").read_text())
    clips = {path.read_bytes() for path in (artifacts / "recordings").glob("*.mp3")}
    assert len(clips) == 2 and clips == {b64decode(own) for own in heard}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (artifacts / "maps").glob("*.png"))
    assert list((artifacts / "maps").iterdir())


@pytest.mark.parametrize("logger", [None, "csv", "mlflow", "wandb"])
def test_a_measure_is_logged(base, speech, innertune, tmp_path, monkeypatch, logger):
    if logger == "wandb":
        pytest.importorskip("wandb")
        monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "waiting"))
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        monkeypatch.setenv("WANDB_SILENT", "true")
    run = innertune(
        "introspect", "measure=bias", f"model.pretrained={base}", "data=manifest", f"data.test={speech['high_test']}",
        f"data.source_test={speech['low_test']}", "measure.min_examples=8", f"output={tmp_path / 'run'}",
        *([f"logger={logger}"] if logger else []),
    )  # fmt: skip
    told = json.loads((run / "metrics.json").read_text())
    if logger is None:
        assert not (run / "log").exists() and not (run / "wandb").exists()
        return
    if logger == "csv":
        assert "false_discovery_rate" in (run / "log" / "version_0" / "metrics.csv").read_text()
        return
    if logger == "mlflow":
        (artifacts,) = (run / "mlruns").glob("*/*/artifacts")
        assert (artifacts / "bias.html").read_bytes() == (run / "bias.html").read_bytes()
        assert (artifacts / "scores" / "high.safetensors").is_file()
        table = json.loads((artifacts / "tables" / "comparisons" / "layers.json").read_text())
        place = table["columns"].index("distance")
        assert [row[place] for row in table["data"]] == [own["distance"] for own in told["comparisons"][0]["layers"]]
        return
    recorded = b"".join(path.read_bytes() for path in (run / "wandb").rglob("*.wandb"))
    for name in ("bias.html", "bias.json", "metrics.json", "scores/high.safetensors", "false_discovery_rate"):
        assert name.encode() in recorded
    (media,) = run.glob("wandb/offline-run-*/files/media")
    found = {}
    for path in (media / "table").rglob("*.table.json"):
        table = json.loads(path.read_text())
        name = path.relative_to(media / "table" / "tables").as_posix().split("_")[0]
        found[name] = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert set(found) == {"groups", "comparisons", "comparisons/layers"}
    for row, own in zip(found["groups"], told["groups"], strict=True):
        assert row["group"] == own["group"] and row["wer"] == own["wer"]
        assert [row["wer_interval_low"], row["wer_interval_high"]] == own["wer_interval"]
    (own,) = told["comparisons"]
    assert [row["distance"] for row in found["comparisons/layers"]] == [layer["distance"] for layer in own["layers"]]
    (page,) = media.rglob("*.html")
    assert page.read_bytes() == (run / "bias.html").read_bytes()


@pytest.mark.parametrize("name", options("model"))
def test_models(step, base, request, language, name):
    if name == "pretrained":
        check_trained(step("adapt", "model=pretrained", f"model.pretrained={base}"))
        return
    options = [f"model.config={request.getfixturevalue(HF[name])}"] if name in HF else []
    options += ["model.language=de"] if name == "hf_speech_seq2seq" else []
    options += (
        ["data=pairs", *(f"data.{part}={language[part]}" for part in ("train", "test"))]
        if name == "hf_translation"
        else []
    )
    check_trained(step("pretrain", f"model={name}", "+trainer.limit_train_batches=1", *options))


@pytest.mark.parametrize("name", options("intervention"))
def test_interventions(innertune, base, speech, tmp_path, name):
    vectors = []
    if name == "saved":
        both = [json.loads(line) for accent in ("high", "low") for line in
                speech[f"{accent}_test"].read_text().splitlines()[:3]]  # fmt: skip
        for row, accent in zip(both, ["high"] * 3 + ["low"] * 3, strict=True):
            row["audio_filepath"] = str(speech[f"{accent}_test"].parent / row["audio_filepath"])
        (tmp_path / "both.jsonl").write_text("\n".join(map(json.dumps, both)))
        data = ["data=manifest", f"data.train={tmp_path / 'both.jsonl'}", f"data.test={speech['high_validation']}",
                f"data.source_test={speech['low_validation']}", "sites='*.conv3'"]  # fmt: skip
        steered = innertune("steer", f"model.pretrained={base}", *data, f"output={tmp_path / 'steer'}")
        vectors = [f"intervention.path={steered / 'vectors.safetensors'}"]
    run = innertune("evaluate", f"model.pretrained={base}", f"data.test={speech['low_test']}", *vectors,
                    f"intervention={name}", f"output={tmp_path / 'run'}")  # fmt: skip
    assert ("points" in json.loads((run / "metrics.json").read_text())) == (name != "none")


@pytest.mark.parametrize("name", options("measure"))
def test_measures(innertune, base, speech, tmp_path, name):
    data = ["data=manifest", f"data.test={speech['low_test']}", f"data.source_test={speech['high_test']}"]
    own = {"weights": [f"measure.before={base}"], "bias": ["measure.min_examples=10"]}.get(
        name, []
    )  # no run that has a base
    run = innertune(
        "introspect", f"model.pretrained={base}", *data, f"measure={name}", *own, f"output={tmp_path / 'run'}"
    )
    assert json.loads((run / "metrics.json").read_text()) and list(run.glob("*.html"))


@pytest.mark.parametrize("name", options("experiment"))
def test_experiments(innertune, request, tmp_path, name):
    command = re.match(r"(adapt|pretrain):", first_comment(CONF / "experiment" / f"{name}.yaml"))[1]
    overrides = [f"experiment={name}", f"output={tmp_path / 'run'}", "trainer.max_epochs=1", "keep_checkpoints=true"]
    if name.startswith("fsdd"):
        overrides += [f"data.folder={digits(tmp_path / 'digits')}", "data.validation=2"]
        overrides += ["data.utterances=10", "model.pretrained=us-english"] if command == "adapt" else []
    elif name in ("wav2vec2_to_accent", "whisper_to_language"):
        data, model = (voices, "wav2vec2") if name == "wav2vec2_to_accent" else (letters, "whisper")
        overrides += [f"model.pretrained={request.getfixturevalue(model)}", *data(tmp_path / "data")]
    elif name == "marian_to_domain":
        language = request.getfixturevalue("language")
        parts = [f"data.{part}={language[part]}" for part in ("train", "validation", "test", "source_test")]
        overrides += [f"model.pretrained={request.getfixturevalue('marian')}", *parts]
    elif name in ("translation_domain", "weather_en_de"):
        overrides += ["data.train=8", "data.validation=4", "data.test=4"]
        overrides += ["data.source_test=4"] if command == "adapt" else ["model.config=weather-en-de"]
    else:
        pytest.importorskip("espeakng_loader")
        overrides += SMALL_SPEECH
    check_trained(innertune(command, *overrides))


def letters(folder):
    """Manifests of tone speech, for a Whisper to learn German from."""
    parts = {part: write_tones(folder, part, 3, seed=seed) for seed, part in enumerate(("train", "test"))}
    return ["model.language=german", *(f"data.{part}={path}" for part, path in parts.items())]


def voices(folder):
    """A folder like Common Voice's, of two accents, three speakers each."""
    rows = ["client_id\tpath\tsentence\taccents"]
    for number, accent in enumerate(["Scottish English"] * 6 + ["United States English"] * 3):
        text = f"{LETTERS[1 + number % 5]}ab{LETTERS[1 + number // 5]} cad"
        rows.append(f"speaker{number}\t{number}.wav\t{text}\t{accent}")
        (folder / "en" / "clips").mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / "en" / "clips" / f"{number}.wav", tones(text), RATE)
    (folder / "en" / "validated.tsv").write_text("\n".join(rows) + "\n")
    return [f"data.folder={folder / 'en'}"]


def digits(folder):
    """A folder like the Free Spoken Digit Dataset's, of noise."""
    (folder / "recordings").mkdir(parents=True)
    draw = np.random.default_rng(0)
    for speaker in ("jackson", "theo", "yweweler", "nicolas"):
        for digit in range(10):
            for take in (0, 10, 11, 12, 13, 14, 15):
                soundfile.write(
                    folder / "recordings" / f"{digit}_{speaker}_{take}.wav", draw.normal(0, 0.1, 4000), 8000
                )
    return folder
