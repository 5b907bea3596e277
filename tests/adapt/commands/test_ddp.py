"""`trainer=ddp`: two processes started by the command line train, validate, resume and fail as one.

What is equal, and why. Two processes take batches 0 and 1, 2 and 3, ... of the same shuffled order, and step on the
mean of their gradients; one process that accumulates over two batches steps on the same mean of the same gradients.
With an even number of batches (no wrap-around), no batch norm (it would see half of the data) and nothing random, the
weights are therefore equal but for the order of float sums, and so is all that follows from them. In fact no bit
differs, for halving is exact; another number of threads or processes sums in another order, so 1e-6 is allowed.
"""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import end, start
from tone_speech import TINY_WORDS, write_tones

from adapt.data.audio import AudioReader
from adapt.data.batches import BatchesByLength
from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.task import recognition
from adapt.training.module import AdaptationModule

pytestmark = pytest.mark.slow

# With the space inside, Hydra and the command line read the labels in the same way.
BOTH = [*TINY_WORDS[:3], "model.labels=a bcde"]
TRAIN_ONLY = ["causes=0", "compare_neurons=0", "non_speech=0"]  # these tests are about training


@pytest.fixture(scope="module")
def options(speech):
    return [
        *BOTH, "model.normalisation=none", "data=manifest", f"data.train={speech['low_train']}",
        f"data.validation={speech['low_validation']}", f"data.test={speech['low_test']}", "loader.batch_seconds=2.6",
        "optimizer.lr=0.01", "trainer.max_epochs=4",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def alone(options, innertune, tmp_path_factory):
    """One process that steps on the mean gradient of two batches."""
    return innertune(
        "pretrain",
        *options,
        f"output={tmp_path_factory.mktemp('runs') / 'alone'}",
        "+trainer.accumulate_grad_batches=2",
    )


def test_killed_and_resumed_it_equals_one_process(options, alone, speech, tmp_path):
    trained, validated = (read_manifest(speech[part])[0] for part in ("low_train", "low_validation"))
    assert len(Loader(2.6).training(trained, AudioReader(16000))) % 2 == 0
    assert (
        len(Loader(2.6).validation(validated, AudioReader(16000))) % 2 == 1
    )  # one batch comes again, and must not count again
    run = tmp_path / "run"
    process = start(tmp_path, "pretrain", "trainer=ddp", *options, f"output={run}")
    for line in process.stdout:
        if line.startswith("epoch  2/"):
            os.kill(process.pid, signal.SIGKILL)
            break
    end(process)
    status, out, err = end(start(tmp_path, "pretrain", "trainer=ddp", *options, f"output={run}", "resume=true"))
    assert status == 0, err
    assert "Continuing from" in out and "epoch  1/" not in out
    assert [out.count(f"epoch  {n}/4") for n in (3, 4)] == [1, 1]  # the other process is silent

    one, two = (load_model(str(folder)).model.state_dict() for folder in (alone, run))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=0, atol=1e-6)
    one, two = (json.loads((folder / "metrics.json").read_text()) for folder in (alone, run))
    assert two["target"] == one["target"]
    for row, other in zip(one["history"], two["history"], strict=True):
        assert (other["val_wer"], other["val_cer"]) == (row["val_wer"], row["val_cer"])  # edits by words: exact
        assert other["val_loss"] == pytest.approx(row["val_loss"], rel=1e-5)
        assert other["train_loss"] == pytest.approx(row["train_loss"], rel=1e-5)
        assert other["learning_rate"] == row["learning_rate"]


def test_with_an_odd_number_of_batches_of_different_sizes_it_equals_one_process(speech, innertune, tmp_path):
    """The last step used to count the repeated batch, and a batch of one example as much as one of many."""
    options = [
        *BOTH, "model.normalisation=none", "data=manifest", f"data.train={speech['low_validation']}",
        f"data.test={speech['low_test']}", "loader.batch_seconds=3.4", "trainer.max_epochs=2", "optimizer.lr=0.01",
    ]  # fmt: skip
    loader = Loader(3.4).training(read_manifest(speech["low_validation"])[0], AudioReader(16000))
    assert len(loader) % 2 == 1 and len({len(batch) for batch in loader.batch_sampler}) > 1
    innertune("pretrain", *options, "+trainer.accumulate_grad_batches=2", f"output={tmp_path / 'one'}")
    status, _, err = end(start(tmp_path, "pretrain", "trainer=ddp", *options, f"output={tmp_path / 'two'}"))
    assert status == 0, err
    one, two = (load_model(str(tmp_path / name)).model.state_dict() for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=0, atol=1e-6)


def test_a_transformer_with_layerdrop_trains_and_its_frozen_layers_stay(wav2vec2, speech, tmp_path):
    status, out, err = end(start(
        tmp_path, "adapt", *TRAIN_ONLY, "trainer=ddp", "model=hf_ctc", f"model.pretrained={wav2vec2}",
        "model.layerdrop=0.5",
        "data=manifest", f"data.train={speech['high_validation']}", f"data.validation={speech['low_validation']}",
        f"data.test={speech['high_test']}", "tuning=layers", "tuning.layers=[net.wav2vec2.encoder.*,net.lm_head]",
        "loader.batch_seconds=2", "trainer.max_epochs=2",
    ))  # fmt: skip
    assert status == 0, err
    assert "Traceback" not in err and out.count("Before:") == out.count("After:") == 1
    (run,) = (tmp_path / "outputs" / "adapt").iterdir()  # one folder, whenever each process started
    before, after = (load_model(str(path)).model.state_dict() for path in (wav2vec2, run))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(name.startswith(("net.wav2vec2.encoder.", "net.lm_head.")) for name in moved)


def test_neurons_train_alike_in_both_processes_and_no_other_bit_moves(base, speech, innertune, tmp_path):
    """Two processes end where one does that accumulates their gradients."""
    options = [
        *TRAIN_ONLY, "tuning=neurons", "tuning.top=0.2", f"model.pretrained={base}", "data=manifest",
        f"data.train={speech['high_validation']}", f"data.test={speech['high_test']}", "loader.batch_seconds=2",
        "loader.speeds=[1.0]", "trainer.max_epochs=2", "optimizer.weight_decay=0.1",
    ]  # fmt: skip
    status, out, err = end(start(tmp_path, "adapt", "trainer=ddp", *options, f"output={tmp_path / 'two'}"))
    assert status == 0, err
    innertune("adapt", *options, "+trainer.accumulate_grad_batches=2", f"output={tmp_path / 'one'}")
    before, one, two = (load_model(str(path)).model.state_dict() for path in (base, tmp_path / "one", tmp_path / "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=0, atol=1e-6)
        assert torch.equal(two[name] != before[name], weights != before[name]), name
    facts = json.loads((tmp_path / "two" / "metrics.json").read_text())["weights"]
    assert 0 < facts["changed"] <= facts["trained"] < 0.25 * facts["total"]


def test_a_cached_prefix_is_shared_and_a_killed_run_stores_it_anew(base, speech, innertune, tmp_path):
    """Killed and resumed, two processes with a cache end where one does that runs the whole model."""
    options = [
        *TRAIN_ONLY, "tuning=head", f"model.pretrained={base}", "data=manifest",  # the layers below it have batch norms
        f"data.train={speech['high_validation']}", f"data.validation={speech['low_validation']}",
        f"data.test={speech['high_test']}", "loader.batch_seconds=2", "loader.speeds=[1.0]", "trainer.max_epochs=4",
        "optimizer._target_=torch.optim.SGD",
    ]  # fmt: skip
    run = tmp_path / "two"
    process = start(tmp_path, "adapt", "trainer=ddp", *options, f"output={run}")
    for line in process.stdout:
        if line.startswith("epoch  2/"):
            os.kill(process.pid, signal.SIGKILL)
            break
    end(process)
    left = {path.name for path in (run / "checkpoints" / "prefix").iterdir()}
    assert left == {f"{part}-{rank}-0" for part in ("train", "validation") for rank in (0, 1)}
    for path in (run / "checkpoints" / "prefix").iterdir():
        path.write_bytes(b"half")
    status, out, err = end(start(tmp_path, "adapt", "trainer=ddp", *options, f"output={run}", "resume=true"))
    assert status == 0, err
    assert out.count("Cached prefix: the lower 10 of 11 layers") == 1 and "epoch  1/" not in out
    assert not (run / "checkpoints" / "prefix").exists()
    innertune("adapt", *options, "+trainer.accumulate_grad_batches=2", "cache.use=off", f"output={tmp_path / 'one'}")
    one, two = (load_model(str(tmp_path / name)).model.state_dict() for name in ("one", "two"))
    for name, weights in one.items():
        torch.testing.assert_close(two[name], weights, rtol=0, atol=1e-6)
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert two["target"] == one["target"] and len(two["history"]) == 4


# Python runs it when a process starts: the loss of the second process becomes infinite.
BROKEN = """
import os
if os.environ.get("LOCAL_RANK") == "1":
    import torch.nn.functional as functional
    plain = functional.ctc_loss
    functional.ctc_loss = lambda *given, **options: plain(*given, **options) * float("inf")
"""


def test_an_error_in_one_process_ends_both_and_is_told_once(tmp_path, monkeypatch):
    write_tones(tmp_path, "train", 8)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(BROKEN)
    root = str(Path(__file__).parents[3])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "broken"), os.environ.get("PYTHONPATH", root)]))
    status, out, err = end(start(
        tmp_path, "pretrain", "trainer=ddp", *TINY_WORDS, "data=manifest", "data.train=train.jsonl", "output=run",
        "loader.batch_seconds=2", 
    ))  # fmt: skip
    assert status != 0
    assert err.count("The loss became inf in epoch 1") == 1 and err.count("\n") == 1, err
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_several_runs_in_several_processes_are_refused(innertune, monkeypatch, tmp_path):
    monkeypatch.setattr("adapt.run._is_multirun", lambda: True)
    monkeypatch.setattr("adapt.run.output_folder", lambda cfg: tmp_path)
    with pytest.raises(InputError, match="-m does not work with trainer.devices=2"):
        innertune("adapt", "trainer=ddp", f"output={tmp_path}")


def test_each_process_draws_its_own_masks_and_the_same_again(monkeypatch):
    module = AdaptationModule(torch.nn.Linear(1, 1), recognition, torch.optim.SGD)
    drawn = []
    for rank in (0, 1, 0, 1):
        monkeypatch.setattr(AdaptationModule, "global_rank", rank)
        monkeypatch.setattr(module, "_window_weights", list)
        module.on_train_epoch_start()
        drawn.append((float(torch.rand(())), float(np.random.rand())))
    assert drawn[:2] == drawn[2:] and not {*drawn[0]} & {*drawn[1]}


@pytest.mark.parametrize("shuffle", [True, False])
def test_processes_share_the_batches_evenly(monkeypatch, shuffle):
    whole = list(BatchesByLength([1.0] * 7, 1.0, shuffle, seed=0, shared=True))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        shares.append(list(BatchesByLength([1.0] * 7, 1.0, shuffle, seed=0, shared=True)))
    assert [batch for turn in zip(*shares, strict=True) for batch in turn] == [*whole, *whole[:2]]
    assert list(BatchesByLength([1.0] * 7, 1.0, shuffle, seed=0)) == whole


def test_waiting_layers_a_penalty_and_replay_are_alike_in_both_processes(base, speech, innertune, tmp_path):
    """Two processes end where one does that accumulates their gradients; the second reads what the first measured."""
    options = [
        *TRAIN_ONLY, "unfreeze=1", "layer_decay=0.9", "penalty=ewc", "penalty.examples=3", "replay=all",
        "tuning=layers", "tuning.layers=last 3", f"model.pretrained={base}", "data=manifest",
        f"data.train={speech['high_validation']}",
        f"data.source_train={speech['low_validation']}", f"data.test={speech['high_test']}", "loader.batch_seconds=2",
        "loader.speeds=[1.0]", "trainer.max_epochs=2", "optimizer.weight_decay=0.1",
    ]  # fmt: skip
    status, out, err = end(start(tmp_path, "adapt", "trainer=ddp", *options, f"output={tmp_path / 'two'}"))
    assert status == 0, err
    innertune("adapt", *options, "+trainer.accumulate_grad_batches=2", f"output={tmp_path / 'one'}")
    before, one, two = (load_model(str(path)).model.state_dict() for path in (base, tmp_path / "one", tmp_path / "two"))
    moved = set()
    for name, weights in one.items():
        if "running" not in name and "num_batches" not in name:  # batch norm sees each process's batch alone
            torch.testing.assert_close(two[name], weights, rtol=0, atol=1e-5)
            assert torch.equal(two[name] != before[name], weights != before[name]), name
            moved |= {name.split(".")[2]} if (weights != before[name]).any() else set()
    assert moved <= {"conv10", "conv9", "norm9"} and "conv10" in moved
