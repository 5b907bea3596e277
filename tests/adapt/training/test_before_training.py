"""What cannot train is refused with one sentence before training, or it works."""

import errno
import logging
from functools import partial

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.recording import Recording
from adapt.data.synthetic import accents as recipe
from adapt.errors import InputError
from adapt.models.labels import Labels
from adapt.models.loaded import Loaded
from adapt.models.state import model_fingerprint
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from adapt.training.fine_tune import fine_tune
from adapt.training.optimizers import check_steps, checked_optimizer
from adapt.training.single_values import single_values_in_eval
from adapt.training.trainer import bare_trainer, made_trainer


def model():
    torch.manual_seed(0)
    return Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "batch"), Labels.of(" ab")).eval()


@pytest.fixture
def loaded():
    own = model()
    return Loaded(own, "small", model_fingerprint(own), own.header())


def recordings(*samples):
    draw = np.random.default_rng(0)
    return tuple(Recording(draw.normal(0, 0.1, n).astype(np.float32), 16_000, "a", name=str(n)) for n in samples)


def trainer(**options):
    return partial(pl.Trainer, **{"accelerator": "cpu", "devices": 1, "max_epochs": 1, **options})


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "16-true", 64, "64"])
def test_a_precision_that_changes_the_weights_type_is_refused(precision):
    with pytest.raises(InputError, match=f"trainer.precision={precision} would change the type of all weights"):
        bare_trainer(trainer(precision=precision))


@pytest.mark.parametrize("precision", ["16-mixed", 16])
def test_16_bits_on_the_cpu_are_refused_and_not_replaced(precision):
    with pytest.raises(InputError, match=f"trainer.precision={precision} works on a GPU only. .*bf16-mixed"):
        bare_trainer(trainer(precision=precision))


def test_a_precision_whose_library_is_missing_is_refused():
    with pytest.raises(InputError, match="trainer: Lightning refuses an option .*transformer"):
        made_trainer(trainer(precision="transformer-engine"))


def test_a_device_that_the_machine_lacks_is_refused_in_our_own_words(monkeypatch):
    monkeypatch.setattr("adapt.models.devices.known_devices", lambda: ["cpu"])
    with pytest.raises(InputError) as refused:
        made_trainer(trainer(accelerator="gpu"))
    assert str(refused.value) == (
        "trainer.accelerator=gpu (as trainer=gpu sets it): this machine has cpu only. Leave it out: device=auto takes "
        "the best device that there is. Or give trainer=cpu."
    )
    monkeypatch.setattr("adapt.models.devices.known_devices", lambda: ["cpu", "cuda:0", "cuda:1"])
    with pytest.raises(InputError, match="trainer.accelerator=mps: this machine has cpu, cuda:0, cuda:1. Leave it out"):
        made_trainer(trainer(accelerator="mps"))
    for devices in (3, [0, 2]):
        with pytest.raises(InputError, match="trainer.devices=.*this machine has .*cuda:1. Give at most 2 GPUs."):
            made_trainer(trainer(accelerator="gpu", devices=devices))


@pytest.mark.parametrize("length", [{"max_epochs": 0}, {"max_epochs": -3}, {"max_epochs": -1}, {"max_epochs": 2.5}])
def test_a_run_that_would_train_nothing_or_without_end_is_refused(length):
    with pytest.raises(InputError, match="trainer.max_epochs must be a number of epochs of at least 1; got"):
        made_trainer(trainer(**length))


def test_no_epochs_name_the_dry_run():
    with pytest.raises(InputError, match="0 would train nothing: dry_run=true shows what a run costs"):
        made_trainer(trainer(max_epochs=0))
    with pytest.raises(InputError, match="trainer.max_steps must be a number of steps of at least 1, or -1; got 0"):
        made_trainer(trainer(max_steps=0))
    assert made_trainer(trainer(max_epochs=-1, max_steps=3, logger=False)).max_steps == 3


@pytest.mark.parametrize("precision", [None, 32, "32-true", "bf16-mixed"])
@pytest.mark.slow
def test_other_precisions_train_and_keep_the_weights_type(loaded, precision):
    splits = Splits(train=recordings(8000, 9000))
    options = {"loader": Loader(), "trainer": trainer(precision=precision, enable_checkpointing=True)}
    adapted = fine_tune(loaded, splits, epochs=1, **options)
    assert {own.dtype for own in adapted.loaded.model.parameters()} == {torch.float32}


@pytest.mark.slow
def test_it_is_refused_before_any_data_are_read(loaded):
    class Unread(Recording):
        def __getattribute__(self, name):
            raise AssertionError("was read")

    splits = Splits(train=tuple(object.__new__(Unread) for _ in range(2)))
    for options, said in (
        ({"trainer": trainer(precision="64-true")}, "precision"),
        ({"optimizer": partial(torch.optim.Adam, lr=-1)}, "optimizer: Invalid learning rate"),
    ):
        with pytest.raises(InputError, match=said):
            fine_tune(loaded, splits, **options)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (partial(torch.optim.SparseAdam, lr=0.1), "SparseAdam cannot train these weights .*dense gradients"),
        (partial(torch.optim.Muon, lr=0.1), "Muon only supports 2D parameters"),
        (lambda groups: nn.Linear(1, 1), "expected one of torch.optim; got a Linear"),
        (partial(torch.optim.SGD, lr="fast"), "optimizer: "),
        (partial(torch.optim.AdamW, lr=0.1, betas=(0.9,)), "optimizer: "),
    ],
)  # fmt: skip
def test_an_optimizer_that_cannot_train_is_refused(make, said):
    with pytest.raises(InputError, match=said):
        check_steps(checked_optimizer(make), model(), {})


def test_an_optimizer_of_a_single_group_is_refused_where_rates_differ():
    own = model()
    make = partial(torch.optim.LBFGS, lr=0.1)
    check_steps(make, own, {})
    first = next(name for name, _ in own.named_parameters())
    with pytest.raises(InputError, match="optimizer: .*LBFGS"):
        check_steps(make, own, {first: 0.5})


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad", "Adafactor", "RMSprop", "RAdam", "Rprop", "LBFGS"])
def test_other_optimizers_are_accepted_and_nothing_moves(name):
    own = model()
    before = model_fingerprint(own)
    check_steps(checked_optimizer(partial(getattr(torch.optim, name), lr=0.1)), own, {})
    assert model_fingerprint(own) == before and all(weight.grad is None for weight in own.parameters())


@pytest.mark.slow
def test_a_batch_of_one_step_trains_a_model_with_batch_norms(loaded):
    """torch refuses one value per channel: "Expected more than 1 value per channel when training"."""
    splits = Splits(train=recordings(200, 9000))
    loader = Loader(batch_seconds=0)  # each in a batch of its own
    adapted = fine_tune(loaded, splits, epochs=2, loader=loader)
    assert adapted.loaded.fingerprint != loaded.fingerprint


def test_one_value_per_channel_is_normalised_by_the_running_statistics():
    norm = nn.BatchNorm1d(3).train()
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    means = norm.running_mean.clone()
    one, many = torch.randn(1, 3, 1), torch.randn(2, 3, 4)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        norm(one)
    with single_values_in_eval(norm):
        found = norm(one)
        assert norm.training and torch.equal(norm.running_mean, means)
        assert norm(many).shape == many.shape and not torch.equal(norm.running_mean, means)
    assert norm.training and not norm._forward_hooks and not norm._forward_pre_hooks
    norm.running_mean.copy_(means)
    assert found.shape == one.shape


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.EROFS, errno.ENOTDIR])
def test_a_cache_that_cannot_be_written_is_named(monkeypatch, tmp_path, number):
    def fail(*_):
        raise OSError(number, "it cannot be written", "audio.flac")

    monkeypatch.setattr(recipe, "_write_flac", fail)
    with pytest.raises(InputError, match=f"kept in '{tmp_path}' .*cannot be written.*INNERTUNE_CACHE=FOLDER"):
        recipe.accents(train=1, validation=0, test=0, source_test=0, cache=tmp_path)


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/cache"])
def test_a_home_that_is_no_folder_is_named(monkeypatch, place):
    monkeypatch.delenv("INNERTUNE_CACHE", raising=False)
    monkeypatch.setenv("HOME", place)
    with pytest.raises(InputError, match="kept in '~/.cache/innertune' .*INNERTUNE_CACHE=FOLDER"):
        recipe.accents(train=1, validation=0, test=0, source_test=0)


def test_what_training_updates_is_logged(loaded, caplog):
    from adapt.training.prepare import prepare
    from adapt.tuning.bias_norm import bias
    from adapt.tuning.layers import full

    caplog.set_level(logging.INFO)
    options = {"loader": Loader(), "trainer": trainer(), "optimizer": partial(torch.optim.SGD, lr=0.1)}
    for tuning, updated in ((full, True), (bias, False)):
        caplog.clear()
        prepare(loaded, Splits(train=recordings(8000)), tuning, **options)._log_start()
        assert ("updates the running statistics of 10 batch norms" in caplog.text) == updated
