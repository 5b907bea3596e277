"""SIGTERM and SIGINT end a command with status 143 or 130, say how to continue, and lose no complete epoch."""

import os
import re
import signal
import stat
import subprocess
import sys
import time

import pytest
from processes import SECONDS, end, start
from tone_speech import TINY_WORDS

from adapt import signals
from adapt.distributed import ending_together
from adapt.models.checkpoint import load_model

STATUS = {signal.SIGTERM: 143, signal.SIGINT: 130}


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in STATUS}
    yield
    signals._state.clear()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STATUS)
def test_a_signal_raises_the_shells_status_and_the_second_one_is_not_caught(handlers, number):
    signals.install()
    assert signals.installed()
    signals.check()
    with pytest.raises(signals.Stopped) as stopped:
        signal.raise_signal(number)
    assert (stopped.value.code, stopped.value.name) == (STATUS[number], number.name)
    assert signal.getsignal(number) is signal.SIG_DFL and not signals.installed()
    with pytest.raises(signals.Stopped):
        signals.check()  # as after a destructor that swallowed the exception


class TwoProcesses:
    world_size = 2

    class strategy:  # noqa: N801
        class launcher:  # noqa: N801
            procs = ()


def test_the_first_process_reports_the_signal_that_another_one_got(tmp_path):
    claim = tmp_path / "failed"
    with pytest.raises(signals.Stopped) as stopped, ending_together(TwoProcesses, claim):
        claim.write_text("15")
        raise RuntimeError("connection closed by peer")
    assert stopped.value.code == 143 and not claim.exists()
    with pytest.raises(SystemExit) as ended, ending_together(TwoProcesses, claim):
        claim.write_text("")
        raise RuntimeError("connection closed by peer")
    assert ended.value.code == 1


@pytest.fixture(scope="module")
def training(base, speech):
    return [
        f"model.pretrained={base}", "data=manifest", f"data.train={speech['high_train']}",
        f"data.validation={speech['high_validation']}", f"data.test={speech['high_test']}", "loader.batch_seconds=3.4",
        "trainer.max_epochs=4", "augment=spec", "optimizer.lr=0.003", "causes=0", "compare_neurons=0", "non_speech=0",
        "audio_clips=0",
    ]  # fmt: skip


def stop_after(process, beginning, number, pause=0.0):
    for line in process.stdout:
        if line.startswith(beginning):
            time.sleep(pause)
            os.kill(process.pid, number)
            break
    return end(process)


@pytest.mark.slow
@pytest.mark.parametrize("number", STATUS)
def test_training_is_stopped_and_continues_to_the_same_bits(training, innertune, tmp_path, number):
    run = tmp_path / "my [run]"
    place = f"output='{run}'"
    status, out, err = stop_after(start(tmp_path, "adapt", *training, place), "epoch  2/", number, 0.05)
    assert status == STATUS[number] and "Traceback" not in err, err
    assert err.startswith(f"innertune adapt: stopped by {number.name}. All complete epochs are kept.")
    assert not (run / "metrics.json").exists()
    assert not list(run.rglob("*.part")) and not (run / ".lock").exists()
    (advice,) = re.findall(r"To continue with resume=true: innertune adapt (.*) 'output=.*' resume=true$", err, re.M)
    assert "trainer.max_epochs=4" in advice
    if number == signal.SIGINT:  # the same code continues after either
        return
    status, out, err = end(start(tmp_path, "adapt", *training, place, "resume=true"))
    assert status == 0 and "Continuing from" in out and "epoch  1/4" not in out, err
    whole = innertune("adapt", *training, f"output={tmp_path / 'whole'}")
    assert load_model(str(run)).fingerprint == load_model(str(whole)).fingerprint


@pytest.mark.slow
def test_both_processes_of_a_training_are_stopped(speech, tmp_path):
    options = [
        "trainer=ddp", *TINY_WORDS, "data=manifest",
        f"data.train={speech['low_train']}", f"data.test={speech['low_test']}",
        "loader.batch_seconds=2", "trainer.max_epochs=50", "output=run",
    ]  # fmt: skip
    process = start(tmp_path, "pretrain", *options)
    status, _, err = stop_after(process, "epoch  2/", signal.SIGTERM)
    assert status == 143, err
    assert err == err[: err.index("\n") + 1] and "stopped by SIGTERM. All complete epochs are kept" in err
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)  # no process is left
    process = start(tmp_path, "pretrain", *options, "resume=true")
    for line in process.stdout:
        if re.match(r"epoch +\d+/50", line):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            break
    status, _, err = end(process)
    assert status == 130 and err.count("stopped by SIGINT") == 1 and "Traceback" not in err, err


@pytest.mark.slow
def test_other_commands_say_what_stopped_them(base, speech, tmp_path):
    code = (
        "import sys, signal\nimport adapt.evaluation.evaluate as module\n"
        "def slow(*_, **__): signal.raise_signal(signal.SIGTERM)\n"
        "module.decode_any_length = slow\nfrom adapt.cli import main; main()"
    )
    command = ["evaluate", f"model.pretrained={base}", f"data.test={speech['low_test']}", "output=run"]
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 143 and done.stderr.startswith(
        "innertune evaluate: stopped by SIGTERM. To start this run again: innertune evaluate "
    )
    assert done.stderr.endswith("overwrite=true\n") and "resume" not in done.stderr
    code = "import signal, hydra.main\nfrom adapt import cli\n"
    code += "cli._set_up = lambda: signal.raise_signal(signal.SIGINT)\ncli.main()"
    done = subprocess.run([sys.executable, "-c", code, "sites"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "innertune sites: stopped by SIGINT.\n")


@pytest.mark.slow
def test_a_preempted_slurm_job_is_saved_and_requeued_by_lightning(training, tmp_path, monkeypatch):
    """SIGUSR1 saves a checkpoint and asks for a requeue; SIGTERM, which follows, ends the job at the next batch."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path / "asked"}\n')
    scontrol.chmod(scontrol.stat().st_mode | stat.S_IXUSR)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_LOCALID": "0"}
    slurm |= {"SLURM_PROCID": "0", "SLURM_NODEID": "0", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    options = [*training, "trainer.max_epochs=40", "output=run"]
    process = start(tmp_path, "adapt", *options)
    for line in process.stdout:
        if line.startswith("epoch  2/"):
            os.kill(process.pid, signal.SIGUSR1)
            break
    waited = time.monotonic() + SECONDS
    while not (tmp_path / "asked").exists() and time.monotonic() < waited:
        time.sleep(0.05)
    assert (tmp_path / "asked").read_text().split() == ["requeue", "7"]
    os.kill(process.pid, signal.SIGTERM)
    status, _, err = end(process)
    assert status == 143 and "stopped by SIGTERM. All complete epochs are kept." in err, err
    assert list((tmp_path / "run" / "checkpoints").glob("hpc_ckpt_*"))
