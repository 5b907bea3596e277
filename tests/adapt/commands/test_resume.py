"""A run killed by `kill -9` continues with resume=true, and ends with the weights of an uninterrupted run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.training.checkpoints import spent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def options(base, speech):
    return [
        f"model.pretrained={base}", "data=manifest", f"data.train={speech['high_train']}",
        f"data.validation={speech['high_validation']}", f"data.test={speech['high_test']}", "loader.batch_seconds=3.4",
        "trainer.max_epochs=6", "augment=spec", "loader.speeds=[0.9,1.1]", "optimizer.lr=0.003",
        "keep_checkpoints=true", "causes=0", "compare_neurons=0", "non_speech=0", "audio_clips=0",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(options, innertune, tmp_path_factory):
    return innertune("adapt", *options, f"output={tmp_path_factory.mktemp('runs') / 'whole'}")


def start(options, folder):
    code = "import torch; torch.set_num_threads(1); from adapt.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, "adapt", *options, f"output={folder}", "resume=true"],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def test_killed_twice_ends_the_same(options, uninterrupted, tmp_path):
    """Its time is that of all three processes; the first one is made to look slow."""
    folder, began = tmp_path / "killed", time.perf_counter()
    last = folder / "checkpoints" / "last.ckpt"
    for epoch, pause in ((2, 0.0), (4, 0.05)):
        with start(options, folder) as process:
            for line in process.stdout:
                if line.startswith(f"epoch  {epoch}/"):
                    time.sleep(pause)  # once while the checkpoint may be half written, once in the next epoch
                    os.kill(process.pid, signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL
        assert not (folder / "metrics.json").exists()
        if epoch == 2:
            kept = torch.load(last, weights_only=True)
            (history,) = (state for key, state in kept["callbacks"].items() if key.startswith("_History"))
            assert history["rows"][-1]["seconds"] < history["spent"] < time.perf_counter() - began
            history["spent"] = 1000.0
            torch.save(kept, last)
            last.with_name("last.ckpt.sha256").unlink()  # as beside a checkpoint of an earlier version
        assert epoch == 2 or spent(last.parent) > 1000
        with pytest.raises(InputError, match="not finished"):
            load_model(str(folder))
    process = start(options, folder)
    text = process.communicate()[0]
    assert process.returncode == 0
    assert "Continuing from" in text and "epoch  2/6" not in text
    assert load_model(str(folder)).fingerprint == load_model(str(uninterrupted)).fingerprint
    seconds = json.loads((folder / "metrics.json").read_text())["seconds"]
    assert spent(last.parent) < seconds < 1000 + time.perf_counter() - began


def test_without_resume_an_unfinished_run_is_left_alone(options, innertune, tmp_path, uninterrupted):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text((uninterrupted / "config.yaml").read_text())
    with pytest.raises(InputError, match="resume=true to continue it"):
        innertune("adapt", *options, f"output={tmp_path / 'run'}")
    with pytest.raises(InputError, match="started with optimizer.lr=0.003, not 0.001"):
        innertune("adapt", *options, f"output={tmp_path / 'run'}", "resume=true", "optimizer.lr=0.001")


@pytest.mark.parametrize(
    ("damaged", "said"),
    [(b"", "it is empty"), (b"# nothing\n", "it is empty"), (b"seed: [1, 2", "while parsing"), (b"- 1\n", "no options"),
     (b"seed: 1\n\xff\xfe", "decode"), (b"\0\0\0\0", "special characters"), (b"5\n", "int"),
     (b"seed: ${oops\n", "no viable alternative")],
)  # fmt: skip
def test_a_damaged_config_is_named(options, innertune, tmp_path, damaged, said):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_bytes(damaged)
    with pytest.raises(InputError, match=rf"run/config.yaml' cannot be read \(.*{said}.*overwrite=true to start again"):
        innertune("adapt", *options, f"output={folder}", "resume=true")
    assert (folder / "config.yaml").read_bytes() == damaged and len(list(folder.iterdir())) == 1


def test_a_config_without_its_options_is_refused(options, innertune, tmp_path):
    """`${nowhere}` may be a part of a text, so it is not damage by itself; the missing options are."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: ${nowhere}\n")
    with pytest.raises(InputError, match="was started with .*Resume with the same options"):
        innertune("adapt", *options, f"output={folder}", "resume=true")
    assert (folder / "config.yaml").read_text() == "seed: ${nowhere}\n" and len(list(folder.iterdir())) == 1


def test_overwriting_deletes_checkpoints_through_a_link_and_starts_from_the_first_epoch(options, innertune, tmp_path):
    """A link in place of `checkpoints` used to survive, and the old run was continued under the new options."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(tmp_path / "disk")
    short = [*options, "trainer.max_epochs=2", f"output={tmp_path / 'run'}"]
    run = innertune("adapt", *short)
    assert (tmp_path / "disk" / "last.ckpt").is_file()
    first = json.loads((run / "metrics.json").read_text())
    assert set(json.loads((run / "card.json").read_text())["files"]) == {
        f"{path.relative_to(run)}{'/' if path.is_dir() else ''}" for path in run.rglob("*") if not path.is_symlink()
    } | {f"checkpoints/{path.name}" for path in (tmp_path / "disk").iterdir()}
    assert {"last.ckpt", "last.ckpt.sha256", "best.ckpt", "best.ckpt.sha256", "start.json"} <= {
        path.name for path in (tmp_path / "disk").iterdir()
    }
    innertune("adapt", *short, "overwrite=true", "tuning=head")
    second = json.loads((run / "metrics.json").read_text())
    assert second["weights"]["trained"] < first["weights"]["trained"]
    assert [row["epoch"] for row in second["history"]] == [row["epoch"] for row in first["history"]]
    assert second["history"][0] != first["history"][0]


@pytest.mark.parametrize("command", ["adapt", "pretrain", "evaluate", "introspect", "steer", "choose", "compare"])
def test_no_command_works_in_a_folder_that_is_in_use(innertune, tmp_path, command):
    code = (
        "import sys; from omegaconf import OmegaConf; from adapt.run import open_run\n"
        "open_run(OmegaConf.create(dict(output=sys.argv[1], resume=False, overwrite=False, seed=0)))\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    holder = [sys.executable, "-c", code, tmp_path / "run"]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        extra = ["before=a", "after=b"] if command == "compare" else []
        with pytest.raises(InputError, match=f"is in use by process {process.pid} on "):
            innertune(command, *extra, "overwrite=true", f"output={tmp_path / 'run'}")
        if command == "evaluate":
            given = [command, "model.pretrained=us-english", f"output={tmp_path / 'run'}"]
            done = subprocess.run([sys.executable, "-m", "adapt.cli", *given], capture_output=True, text=True)
            assert done.returncode == 2 and done.stderr.startswith(
                f"innertune evaluate: '{tmp_path / 'run'}' is in use"
            )
        process.stdin.close()


def test_resume_of_a_finished_run_is_refused(options, innertune, uninterrupted):
    with pytest.raises(InputError, match="already holds a finished run"):
        innertune("adapt", *options, f"output={uninterrupted}", "resume=true")


def test_killed_after_stopping_early_does_not_train_on(options, innertune, tmp_path):
    folder = tmp_path / "run"
    options = [*options, "patience=1", "tuning=head", "optimizer.lr=0.0", f"output={folder}"]
    innertune("adapt", *options)
    weights, rows = (
        load_model(str(folder)).fingerprint,
        len(json.loads((folder / "metrics.json").read_text())["history"]),
    )
    assert rows == 2  # without a learning rate nothing gets better
    for name in ("metrics.json", "card.json"):
        (folder / name).unlink()
    innertune("adapt", *options, "resume=true")
    assert load_model(str(folder)).fingerprint == weights
    assert len(json.loads((folder / "metrics.json").read_text())["history"]) == rows


def test_a_base_that_apply_changed_is_refused(options, innertune, tmp_path, base):
    """The run used to continue: its frozen weights were those of neither base."""
    given = [own for own in options if not own.startswith("model.pretrained")]
    own_base = shutil.copytree(base, tmp_path / "base")
    short = [*given, f"model.pretrained={own_base}", "trainer.max_epochs=2", "tuning=head"]
    other = innertune("adapt", *short, f"output={tmp_path / 'other'}")
    run = innertune("adapt", *short, f"output={tmp_path / 'run'}")
    for name in ("metrics.json", "card.json"):
        (run / name).unlink()
    innertune("apply", f"adaptation={other}", f"to={own_base}")
    with pytest.raises(InputError, match=r"base '.*' was changed after the run .* was started: .*`innertune remove`"):
        innertune("adapt", *short, f"output={run}", "resume=true")
    innertune("remove", f"from={own_base}")
    innertune("adapt", *short, f"output={run}", "resume=true")
    assert load_model(str(run)).fingerprint == load_model(str(other)).fingerprint
