"""`scripts/study_transfer.py`: its runs are what they say, of as many steps each; its means and picture are right."""

import importlib.util
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from adapt.commands.show import config_folder
from adapt.models.checkpoint import load_model
from adapt.models.recipe import WAV2LETTER
from interventions.sites import choose_layers

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "study_transfer.py"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def study(monkeypatch):
    spec = importlib.util.spec_from_file_location("study_transfer", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "study_transfer", module)
    spec.loader.exec_module(module)
    return module


def found(frozen, share, wer, validation, seed=0, times=1.0, rate=None, pair="german"):
    adapted = frozen is not None
    causes = {
        "before": 1.1, "after": wer, "examples": 30,
        "parts": [
            {"part": "conv0", "kind": "layer", "without": 0.6, "alone": 1.0},
            {"part": "conv1", "kind": "layer", "without": 0.9, "alone": 0.8},
            {"part": "random 8", "kind": "random", "without": 0.5, "alone": 1.1},
        ],
    }  # fmt: skip
    return {
        "pair": pair, "share": share, "frozen": frozen, "times": times, "seed": seed, "train": round(400 * share),
        "epochs": len(validation), "rate": rate, "wer": wer, "interval": (wer - 0.02, wer + 0.03),
        "before": 1.1 if adapted else None, "source": {"before": 0.03, "after": 0.8} if adapted else None,
        "trained": 1 - (frozen or 0) / 11, "layers": {"conv0": 0.05, "conv1": 0.1} if adapted else None,
        "causes": causes if frozen == 0 else None, "validation": validation, "validation_wer": min(validation),
        "seconds": 90.0, "training_seconds": 60.0,
    }  # fmt: skip


def test_all_runs_of_a_pair_see_as_many_examples(study):
    runs = study.plan({"german": (400, 8), "scottish": (200, 4)}, [0, 8], [1, 0.5, 0.2], [1, 4], 2)
    assert len({run.name for run in runs}) == len(runs) == 2 * 2 * (3 * 3 + 1)
    seen = {(run.pair, run.times, run.train * run.epochs) for run in runs}
    assert seen == {(p, t, t * n) for p, n in (("german", 3200), ("scottish", 800)) for t in (1, 4)}
    assert {run.share for run in runs if run.times > 1} == {1}
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert [run.times for run in runs if run.seed == 0] == sorted(run.times for run in runs if run.seed == 0)


@pytest.mark.slow
def test_every_command_is_a_config_that_there_is(study):
    from hydra import compose, initialize_config_dir

    runs = study.plan({"german": (400, 8), "scottish": (200, 4)}, range(11), [0.5], [1, 4], 1, [0.003])
    layers = load_model("us-english").model.layers
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        for run in runs:
            command, *options = study.command(run, 30)
            cfg = compose(command, options)
            assert (cfg.data.train, cfg.trainer.max_epochs, cfg.optimizer.lr) == (run.train, run.epochs, 0.003)
            assert cfg.data.target == study.PAIRS[run.pair].voice
            if run.frozen is None:
                assert command == "pretrain" and cfg.model.labels == study.PAIRS[run.pair].labels
                assert cfg.loader.speeds == list(WAV2LETTER.speeds)
            else:
                assert command == "adapt" and cfg.alphabet == "=" + study.PAIRS[run.pair].labels
                assert cfg.causes == (0 if run.frozen else 30)
            if run.frozen:
                chosen = choose_layers(layers, cfg.tuning.layers)
                assert [layer.name for layer in chosen] == [layer.name for layer in layers[run.frozen :]]


def test_the_alphabet_is_the_base_s_and_german_s_own_letters(study):
    base = load_model("us-english").model
    assert list(base.vocabulary[1:]) == list(study.ALPHABET)
    assert set(study.PAIRS["german"].labels) - set(study.ALPHABET) == set("ßäöü")


def test_means_intervals_and_when_scratch_was_caught_up(study):
    results = [found(None, 1, 0.9, [1.0, 0.95, 0.9, 0.9], seed) for seed in (0, 1)]
    results += [found(8, 1, 0.5, [0.95, 0.9, 0.6, 0.5], 0), found(8, 1, 0.54, [0.8, 0.7, 0.6, 0.55], 1)]
    results += [found(10, 1, 0.99, [1.0, 0.99, 0.98, 0.97], 0)]
    scratch, eight, ten = study.summary(results)
    assert scratch["caught_up"] is None and scratch["source"] is None
    assert eight["caught_up"] == pytest.approx((2 / 4 + 1 / 4) / 2) and ten["caught_up"] is None
    assert eight["target"] == (pytest.approx(52), pytest.approx(12.7062047 * 2))
    text = study.table([ten, eight, scratch], results)
    assert text.index("| scratch |") < text.index("| first 8 |") < text.index("| first 10 |")
    assert "| 400 | first 8 | 27.3 % | 52.0 ± 25.4 | 80.0 ± 0.0 | 38 % | — | 60 | 2 |" in text
    assert "| 99.0 (97.0 to 102.0) | 80.0 | — |" in text  # one seed: the interval over utterances
    assert "WER % before: target 110.0, source 3.0" in text


def test_the_learning_rate_is_chosen_on_validation_data(study):
    results = [found(0, 1, 0.3, [0.4], rate=0.001), found(0, 1, 0.2, [0.5], rate=0.002), found(8, 1, 0.6, [0.7])]
    assert [row["rate"] for row in study.summary(results)] == [0.001, None]


def test_the_picture_has_each_value_in_its_place(study):
    results = [found(None, 1, 0.9, [0.9]), found(None, 1, 0.6, [0.6], times=4.0), found(None, 0.2, 0.91, [0.91])]
    results += [found(frozen, share, 0.4 + frozen / 100, [0.5]) for frozen in (0, 4, 8) for share in (1, 0.2)]
    picture = study.draw(study.summary(results), results, {"german": "US English to German <x>"})
    root = ElementTree.fromstring(picture)
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "US English to German <x>" in texts and texts.count("scratch") == 2 and "scratch ×4" in texts
    # Of one share: 40, 44, 48 % in equal steps downwards, for a higher WER is higher in the picture.
    line = next(root.iter(f"{SVG}polyline")).get("points").split()
    (x0, y0), (x1, y1), (x2, y2) = (map(float, point.split(",")) for point in line)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2) and y0 - y1 == pytest.approx(y1 - y2, abs=0.2) and y0 > y1
    names = [float(text.get("y")) for text in root.iter(f"{SVG}text") if text.text.startswith("scratch")]
    assert min(abs(a - b) for a in names for b in names if a != b) >= 13  # none over another
    open_circles = [circle for circle in root.iter(f"{SVG}circle") if circle.get("fill") == "white"]
    assert len(open_circles) == 1 + 2  # in the key, and a layer each: neurons and their control are not in the chart


def test_without_causes_or_adaptations_there_is_a_picture_still(study):
    bare = found(0, 1, 0.4, [0.5]) | {"causes": None}
    for results in ([bare], [found(None, 1, 0.9, [0.9])], [found(8, 0.2, 0.9, [0.9])]):
        ElementTree.fromstring(study.draw(study.summary(results), results, {"german": "German"}))


def test_what_is_done_is_not_done_again_and_all_is_read(study, tmp_path, monkeypatch, capsys):
    calls = []

    def innertune(command, *options, log):
        (output,) = (Path(option.partition("=")[2]) for option in options if option.startswith("output="))
        calls.append(output.name)
        (output / "checkpoints").mkdir(parents=True)
        (output / "checkpoints" / "last.ckpt").touch()
        quality = {"wer": 0.3, "wer_interval": [0.25, 0.35]}
        history = [{"val_wer": 0.6, "seconds": 2.0}, {"val_wer": 0.4, "seconds": 4.0}]
        metrics = {"target": {"after": quality}, "weights": {"total": 100}, "seconds": 9.0, "history": history}
        if command == "adapt":
            metrics["target"]["before"], metrics["weights"]["trained"] = quality, 20
            metrics["source"] = {"before": quality, "after": quality}
            layers = [{"name": "net.acoustic_model.conv0", "relative": 0.25}]
            effect = {"target": {"values": {"wer": 0.5}, "difference": {}}}
            part = {"part": "net.acoustic_model.conv0", "kind": "layer", "reverted": effect, "applied": effect}
            ends = {"examples": {"target": 30}, "before": {"target": quality}, "after": {"target": quality}}
            causes = None if "causes=0" in options else ends | {"parts": [part]}
            (output / "comparison.json").write_text(json.dumps({"weights": {"layers": layers}, "causes": causes}))
        (output / "metrics.json").write_text(json.dumps(metrics))
        return 0

    monkeypatch.setattr(study, "innertune", innertune)
    arguments = ["--pairs", "scottish", "--train", "100", "--epochs", "2", "--frozen", "0", "8", "--shares", "1"]
    arguments += ["--times", "1", "--seeds", "1", "--folder", str(tmp_path)]
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["study_transfer", *arguments])
        study.main()
    assert calls == ["frozen-0-100-2-0", "frozen-8-100-2-0", "scratch-x1-100-2-0"]
    assert "3 runs, 3 finished" in capsys.readouterr().out and not list(tmp_path.rglob("*.ckpt"))
    result = json.loads((tmp_path / "result.json").read_text())
    first, _, last = result["runs"]
    assert first["layers"] == {"conv0": 0.25} and first["causes"]["parts"][0]["part"] == "conv0"
    assert last["trained"] == 1 and last["source"] is None
    assert [row["caught_up"] for row in result["rows"]] == [1, 1, None] and result["rows"][0]["target"] == [30, None]
    assert (tmp_path / "transfer.svg").read_text().startswith("<svg")
    arguments[arguments.index("8")] = "10"  # one more, and what there is already is shown with it
    monkeypatch.setattr(sys, "argv", ["study_transfer", *arguments])
    study.main()
    assert calls[3:] == ["frozen-10-100-2-0"] and "| first 8 |" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "result.json").read_text())["runs"]) == 4


def test_numbers_for_each_pair_or_for_all(study, tmp_path, monkeypatch, capsys):
    arguments = ["--estimate", "--folder", str(tmp_path / "new"), "--train", "400", "100", "--epochs"]
    for epochs in (["8", "4"], ["8"]):
        monkeypatch.setattr(sys, "argv", ["study_transfer", *arguments, *epochs])
        study.main()
    monkeypatch.setattr(sys, "argv", ["study_transfer", *arguments, "8", "4", "2"])
    with pytest.raises(SystemExit):
        study.main()
    assert "one for each of german scottish; got 3" in capsys.readouterr().err and not (tmp_path / "new").exists()
