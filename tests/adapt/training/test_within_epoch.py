"""A run that is killed within an epoch ends as one that was not: with the same bits and the same figures."""

import os
import signal
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from small_hf import save_whisper

from adapt.data.augment import SpecAugment
from adapt.data.loader import Loader
from adapt.data.splits import read_splits
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.training.fine_tune import fine_tune
from adapt.training.module import AdaptationModule
from adapt.training.option_checks import Every
from adapt.training.within_epoch import random_state, restore_random_state
from adapt.tuning.layers import full
from adapt.tuning.neurons import neurons


@pytest.mark.parametrize(
    ("value", "every"),
    [
        (None, None), (500, Every(500)), ("90s", Every(0, timedelta(seconds=90))),
        ("10m", Every(0, timedelta(minutes=10))), ("1.5 h", Every(0, timedelta(minutes=90))),
    ],
)  # fmt: skip
def test_steps_or_times(value, every):
    assert Every.of(value) == every


@pytest.mark.parametrize("value", [0, -1, True, 2.5, "10", "m", "10 days", "0m", "-5m", [10]])
def test_anything_else_is_refused(value):
    with pytest.raises(InputError, match="checkpoint_every=.* Give a number of steps"):
        Every.of(value)


def test_the_random_generators_go_on_where_they_were():
    import random

    import numpy as np

    state = random_state()
    draws = [(random.random(), np.random.rand(), np.random.randn(), torch.rand(1).item()) for _ in range(2)]
    restore_random_state(state)
    assert draws[0] == (random.random(), np.random.rand(), np.random.randn(), torch.rand(1).item())


class Killed(BaseException):
    pass


@contextmanager
def ended(after, how):
    """Training ends before this batch, counted from 0, after the checkpoint of the batch before it was written."""
    step, left = AdaptationModule.training_step, [after]

    def counted(module, batch, number):
        left[0] -= 1
        if left[0] < 0:
            how()
        return step(module, batch, number)

    AdaptationModule.training_step = counted
    try:
        yield
    finally:
        AdaptationModule.training_step = step


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt():
    raise Killed


@pytest.fixture(scope="module")
def splits(speech):
    found = read_splits(train=speech["high_train"], validation=speech["high_validation"])
    source = read_splits(train=speech["low_train"]).train
    return replace(found, train=found.train[:9], validation=found.validation[:2], source_train=source[:4])


def trained(base, splits, folder, tuning, accumulate=1, **options):
    trainer = partial(
        pl.Trainer, accelerator="cpu", devices=1, max_epochs=2, gradient_clip_val=1.0, log_every_n_steps=2,
        accumulate_grad_batches=accumulate,
    )  # fmt: skip
    done = fine_tune(
        base, splits, tuning, folder=folder, learning_rate=1e-3, trainer=trainer, blend="off",
        resume=(folder / "checkpoints" / "last.ckpt").is_file(), **options,
    )  # fmt: skip
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in done.history]
    return done.loaded.fingerprint, rows


@pytest.mark.slow
@pytest.mark.parametrize("after", [2, 8])  # batches: within the first epoch, and within the second one
def test_killed_within_an_epoch_it_ends_with_the_same_bits(base, splits, tmp_path, after):
    """Neurons, speeds, replay, SpecAugment; the process ends without a word."""
    loaded = load_model(str(base))
    options = {
        "loader": Loader(batch_seconds=2, speeds=[0.9, 1.0, 1.1]), "replay": 0.3, "augment": SpecAugment(),
        "checkpoint_every": 1,
    }  # fmt: skip
    tuning = partial(neurons, choose="random", top=0.3)
    whole = trained(loaded, splits, tmp_path / "whole", tuning, **options)
    folder = tmp_path / "killed"
    child = os.fork()
    if child == 0:
        with ended(after, kill):
            trained(loaded, splits, folder, tuning, **options)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == after and "within_epoch" in saved
    assert trained(loaded, splits, folder, tuning, **options) == whole


@pytest.mark.slow
@pytest.mark.parametrize("after", [3, 12])
def test_dropout_and_accumulated_gradients_go_on(splits, tmp_path, after):
    """Checkpoints wait until the gradients of two batches have been used."""
    folder = save_whisper(tmp_path / "whisper", (), dropout=0.1, encoder_layerdrop=0.2)
    loaded = load_model(str(folder))
    texts = replace(
        splits, train=tuple(replace(one, text="a b") for one in splits.train[:7]), validation=(), source_train=()
    )
    options = {"loader": Loader(batch_size=1), "accumulate": 2, "checkpoint_every": "0.001s", "schedule": "linear"}
    whole = trained(loaded, texts, tmp_path / "whole", full, **options)
    interrupted = tmp_path / "interrupted"
    with pytest.raises(Killed), ended(after, interrupt):
        trained(loaded, texts, interrupted, full, **options)
    saved = torch.load(interrupted / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["ready"] in (0, 2, 4, 6, 7)
    assert trained(loaded, texts, interrupted, full, **options) == whole
