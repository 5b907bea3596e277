"""Mistakes in the input are reported with file and line before training starts, or skipped on request."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from adapt.build import build
from adapt.errors import InputError


@pytest.fixture
def adapt(base, speech, innertune, tmp_path):
    """Run `adapt` on a training manifest with one line replaced (or added) by `line`."""

    def run(line=None, *options, **changes):
        rows = [json.loads(row) for row in speech["high_train"].read_text().splitlines()[:6]]
        for row in rows:
            row["audio_filepath"] = str(speech["high_train"].parent / row["audio_filepath"])
        rows[2] |= changes
        lines = [json.dumps(row) for row in rows]
        if line is not None:
            lines[2] = line
        (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
        return innertune(
            "adapt", f"model.pretrained={base}", "data=manifest", f"data.train={tmp_path / 'train.jsonl'}",
            f"data.test={speech['high_test']}", f"output={tmp_path / 'run'}", "trainer.max_epochs=1", *options,
        )  # fmt: skip

    return run


def audio(path, seconds=1.0, value=0.1):
    soundfile.write(path, np.full(int(16_000 * seconds), value, np.float32), 16_000, subtype="FLOAT")
    return str(path)


def bad_lines(folder):
    (folder / "text.wav").write_text("this is no sound")
    return {
        "missing": ({"audio_filepath": "nowhere.wav"}, "there is no audio file"),
        "unreadable": ({"audio_filepath": str(folder / "text.wav")}, "cannot be read as audio"),
        "not numbers": ({"audio_filepath": audio(folder / "nan.wav", value=np.nan), "duration": 1.0}, "not numbers"),
        "too short": ({"audio_filepath": audio(folder / "short.wav", 0.005), "duration": None}, "shorter than"),
        "too much text": (
            {"audio_filepath": audio(folder / "s.wav", 0.1), "duration": None, "text": "abcde" * 9},
            "output steps",
        ),
        "characters": ({"text": "abc xyz"}, "outside the model's alphabet"),
        "past the end": ({"offset": 50.0}, "Correct 'offset' and 'duration'"),
        "wrong keys": ('{"sound": "a.wav", "said": "abc"}', "needs the key 'audio_filepath'"),
        "half a character": (
            r'{"audio_filepath": "a.wav", "text": "abc", "speaker": "anna \ud83d"}',
            "'speaker' contains half",
        ),
        "deep nesting": (
            '{"audio_filepath": "a.wav", "text": "abc", "x": ' + "[" * 5000 + "]" * 5000 + "}",
            "nested too",
        ),
        "an endless integer": ('{"audio_filepath": "a.wav", "text": "abc", "x": ' + "9" * 5000 + "}", "5,000 digits"),
        "not JSON": ("{oops", "not JSON"),
        "a number for a text": ({"text": 5}, "needs the key 'text'"),
    }


@pytest.mark.parametrize("kind", [
    "missing", "unreadable", "not numbers", "too short", "too much text", "characters", "past the end", "wrong keys",
    "half a character", "deep nesting", "an endless integer", "not JSON", "a number for a text",
])  # fmt: skip
def test_a_bad_line_is_named_or_skipped(adapt, tmp_path, kind):
    bad, message = bad_lines(tmp_path)[kind]
    given = {"line": bad} if isinstance(bad, str) else bad
    options = ["data.check=full"] if kind == "not numbers" else []  # headers do not tell: training does
    with pytest.raises(InputError, match=r"train.jsonl:3: .*" + message):
        adapt(given.pop("line", None), *options, **given)
    given = {"line": bad} if isinstance(bad, str) else bad
    assert not (tmp_path / "run").exists()
    if kind in ("missing", "not JSON"):
        run = adapt(given.pop("line", None), "data.on_error=skip", **given)
        skipped = json.loads((run / "metrics.json").read_text())["skipped"]
        assert len(skipped) == 1 and "train.jsonl:3" in skipped[0]


def test_a_loss_that_is_no_number_names_the_files_and_keeps_the_run(adapt, tmp_path):
    with pytest.raises(InputError, match=r"loss became (nan|inf).*epoch 1, batch \d+ \(.*train.jsonl:\d.*optimizer.lr"):
        adapt(
            None,
            "optimizer.lr=1e30",
            "trainer.gradient_clip_val=null",
            "loader.batch_seconds=1",
            "trainer.max_epochs=2",
        )
    assert (tmp_path / "run" / "config.yaml").exists()
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_a_label_list_that_does_not_match(adapt):
    with pytest.raises(InputError, match="has the labels ' abcde', got labels='abc'.*alphabet="):
        adapt(None, "model.labels=abc")


def test_another_shape_than_the_checkpoint(adapt):
    with pytest.raises(InputError, match="has inner=32, got inner=64"):
        adapt(None, "model.inner=64")
    with pytest.raises(InputError, match="try model=wav2letter_small"):
        adapt(None, "model=wav2letter")


def test_layers_that_are_not_there(adapt):
    with pytest.raises(InputError, match="tuning.layers: No layer matches 11.*conv10"):
        adapt(None, "tuning=layers", "tuning.layers=11")


def test_an_option_of_the_wrong_kind(adapt):
    with pytest.raises(InputError, match="schedule must be"):
        adapt(None, "schedule=square")
    with pytest.raises(InputError, match="alphabet must be"):
        adapt(None, "alphabet=abc")
    for given in ("3", "[accent,3]"):
        with pytest.raises(InputError, match="data.group_by must be a key of the data"):
            adapt(None, f"data.group_by={given}")


@pytest.mark.slow
def test_the_command_line_prints_the_sentence_and_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "adapt.cli", "transcribe", "model.pretrained=us-english", "audio=none.wav"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "there is no such file" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not list(tmp_path.iterdir())


def test_a_target_that_is_not_there(adapt):
    with pytest.raises(InputError, match="There is no 'torch.optim.Adam7'"):
        adapt(None, "optimizer._target_=torch.optim.Adam7")
    for target in ("nowhere_at_all.make", "adapt.tuning.full7.full", "torch.optim.SGD.make7", ".make", "a..b"):
        with pytest.raises(InputError, match=f"There is no '{re.escape(target)}'. A _target_ is"):
            build({"_target_": target})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "said"),
    [("from torch import nothing_there\n", r"ImportError: .*nothing_there.*broken\.py:1"),
     ("import a_library_that_is_not_installed\n", r"ModuleNotFoundError: .*a_library.*broken\.py:1"),
     ("x = 1\ny = x + 'a'\n", r"TypeError: .*broken\.py:2"), ("def f(:\n", r"SyntaxError: .*broken\.py, line 1")],
)  # fmt: skip
@pytest.mark.parametrize("deep", [False, True])
def test_a_target_whose_module_is_there_and_broken(text, said, deep, tmp_path, monkeypatch):
    folder = tmp_path / f"mine_{tmp_path.name[-6:]}"
    folder.mkdir()
    (folder / "broken.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    node = {"_target_": f"{folder.name}.broken.make"}
    with pytest.raises(InputError, match=rf"'{folder.name}\.broken' exists, but importing it fails \({said}"):
        build({"_target_": "builtins.dict", "inner": node} if deep else node)
