"""Replay, penalties, rates by layer and layers that wait, in whole runs: what moves, what is logged, and resuming."""

import json
import re

import pytest

from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.training.module import AdaptationModule
from interventions.bits import changed_bits


@pytest.fixture(scope="module")
def options(base, speech):
    return [
        f"model.pretrained={base}", "data=manifest", f"data.train={speech['high_validation']}",
        f"data.validation={speech['low_validation']}", f"data.source_train={speech['low_train']}",
        f"data.test={speech['high_test']}", "loader.batch_seconds=3.4", "optimizer.lr=0.003",
        "optimizer.weight_decay=0.1", "trainer.max_epochs=3",
    ]  # fmt: skip


EVERYTHING = ["penalty=ewc", "penalty.examples=4", "replay=0.4", "layer_decay=0.8", "rates={*.bias: 2}", "unfreeze=1"]


def test_interrupted_and_resumed_it_ends_with_the_same_bits(options, innertune, tmp_path, monkeypatch):
    whole = innertune("adapt", *options, *EVERYTHING, f"output={tmp_path / 'whole'}")
    started = AdaptationModule.on_train_epoch_start

    def interrupted(module):
        if module.current_epoch == 2:
            raise RuntimeError("pulled the plug")
        started(module)

    monkeypatch.setattr(AdaptationModule, "on_train_epoch_start", interrupted)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        innertune("adapt", *options, *EVERYTHING, f"output={tmp_path / 'run'}")
    monkeypatch.setattr(AdaptationModule, "on_train_epoch_start", started)
    run = innertune("adapt", *options, *EVERYTHING, f"output={tmp_path / 'run'}", "resume=true")
    assert load_model(str(run)).fingerprint == load_model(str(whole)).fingerprint
    rows, others = (json.loads((path / "metrics.json").read_text())["history"] for path in (run, whole))
    for row, other in zip(rows, others, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    # The base is left alone in its first step alone, so that the mean over an epoch is above zero.
    assert all(row["penalty_loss"] > 0 for row in rows)
    assert [row["learning_rate"] for row in rows] == sorted((row["learning_rate"] for row in rows), reverse=True)


def test_layers_that_wait_do_not_move_whatever_the_optimizer(options, base, innertune, tmp_path):
    run = innertune("adapt", *options, "unfreeze=1", "trainer.max_epochs=2", f"output={tmp_path / 'run'}")
    before, after = (load_model(str(path)).model.net.state_dict() for path in (base, run))
    changed = {name for name, tensor in after.items() if changed_bits(before[name], tensor).any()}
    assert {name.split(".")[1] for name in changed} <= {"conv10", "conv9", "norm9"}
    assert any(".conv10." in name for name in changed)


def test_replay_changes_what_is_learned_and_nothing_else_does(options, innertune, tmp_path):
    runs = {}
    for name, more in (
        ("none", ["replay=0"]),
        ("again", ["replay=0.0"]),
        ("some", ["replay=0.4"]),
        ("all", ["replay=all"]),
    ):
        options_ = [*options, "trainer.max_epochs=1", *more, f"output={tmp_path / name}"]
        runs[name] = load_model(str(innertune("adapt", *options_))).fingerprint
    assert runs["none"] == runs["again"] and len(set(runs.values())) == 3


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("replay=1.0", "replay must be the share"), ("replay=often", "replay must be the share"),
        ("penalty=l2sp penalty.strength=-1", "strength must be"), ("unfreeze=0", "unfreeze must be a whole number"),
        ("layer_decay=-1", "layer_decay"), ("rates={conv99: 2}", "matches no layer"),
        ("rates=0.5", "rates must be factors"), ("warmup=x", "warmup must be a share"),
        ("seed=-1", "seed must be a whole number"),
        ("tuning=peft tuning.method=IA3 tuning.options={feedforward_modules:3}", "cannot have factors by IA3"),
        ("optimizer.lr=-1", "optimizer: Invalid learning rate"), ("optimizer.lr=x", "optimizer: "),
        ("cache=off", "Expected several options instead of 'off'"), ("cache.use=on", "cache.use must be auto or off"),
        ("loader.speeds=[]", "speeds must be"), ("loader.speeds=[0]", "speeds must be"),
        ("loader.batch_seconds=x", "batch_seconds"), ("loader.workers=-1", "workers must be"),
        ("tuning=lora tuning.options=x", "tuning.options must be names"), ("tuning=mix tuning.parts=x", "needs parts"),
        ("tuning=mix +tuning.parts.a=x", "needs parts"),
        ("tuning=neurons tuning.choose=3", "choose must be a measure, a file"),
        ("tuning=neurons tuning.sites=3", "tuning.sites must be a name or a list of names, got 3"),
        ("tuning=neurons tuning.seed=x", "tuning.seed must be a whole number, got 'x'"),
        ("tuning=neurons tuning.freeze=maybe", "tuning.freeze must be true or false, got 'maybe'"),
        ("tuning=neurons tuning.weight_share=x", "tuning.weight_share must be a number or null, got 'x'"),
        ("tuning=lora tuning.r=2.5", "tuning.r must be a whole number, got 2.5"),
        ("dry_run=x", "dry_run must be true or false, got 'x'"),
        ("overwrite=2", "overwrite must be true or false, got 2"),
        ("tuning=neurons tuning.choose=weight monitor=val_fun", "monitor=val_fun is not measured"),
        ("tuning=neurons tuning.choose=weight rates={conv99: 2}", "matches no layer"),
        ("rates=auto monitor=val_fun", "monitor=val_fun is not measured"),
        ("data.source_train=null penalty=ewc", "data.source_train"),
        ("data.source_train=null replay=0.5", "data.source_train"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_the_folder_is_claimed(options, innertune, tmp_path, option, says):
    more = re.split(r" (?=\+?[a-z_.]+=)", option)
    with pytest.raises(InputError, match=says):
        innertune("adapt", *options, *more, f"output={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["max_epochs=x", "max_epochs=-1", "accelerator=foo", "devices=0", "+oops=1"])
def test_a_trainer_that_cannot_be_is_named(options, innertune, tmp_path, option):
    plus, name = ("+", option[1:]) if option[0] == "+" else ("", option)
    with pytest.raises(InputError, match="trainer"):
        innertune("adapt", *options, f"{plus}trainer.{name}", f"output={tmp_path / 'run'}")


@pytest.mark.parametrize("below", ["", "run"])
def test_an_output_that_is_a_file_is_named(options, innertune, tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="'.*file' is a file. Give a folder"):
        innertune("adapt", *options, f"output={tmp_path / 'file' / below}")
    assert (tmp_path / "file").read_text() == "mine"
