"""Checkpoints within an epoch: a run that is killed in the middle of a long one continues from there, bit for bit.

Lightning saves how many batches were trained, the optimizer and the learning rate. What an epoch has besides is saved
here: the random generators, the sums of what is logged for the epoch, and the examples that could not be read.
"""

import random
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from adapt.data.unread import NamingLoader
from adapt.distributed import gathered
from adapt.errors import InputError
from adapt.training.module import AdaptationModule
from adapt.training.option_checks import Every


class CheckpointWithinEpoch(ModelCheckpoint):
    """Writes `last.ckpt` within an epoch. It waits until accumulated gradients have been used."""

    def __init__(self, folder: Path, every: Every) -> None:
        super().__init__(
            dirpath=folder, filename="last", enable_version_counter=False, save_top_k=1,
            every_n_train_steps=every.steps or None, train_time_interval=every.time,
        )  # fmt: skip

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: Any) -> None:
        number = rest[-1] + 1
        # After the last batch of an epoch comes the checkpoint of the epoch.
        if number % trainer.accumulate_grad_batches == 0 and number < trainer.num_training_batches:
            super().on_train_batch_end(trainer, pl_module, *rest)


class WithinEpoch(pl.Callback):
    """Saves and restores what an interrupted epoch needs to go on, for each process.

    Args:
        unread: The examples that could not be read so far, by place.
    """

    def __init__(self, unread: dict[str, str]) -> None:
        self.unread = unread
        self.restored: dict[str, Any] | None = None

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if done and done < trainer.num_training_batches:
            loader = cast(NamingLoader, trainer.train_dataloader).state_dict()
            own = {"random": random_state(), "logged": _logged(trainer), "unread": dict(self.unread), "loader": loader}
            checkpoint["within_epoch"] = gathered(own)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if "within_epoch" not in checkpoint:
            return
        states: list[dict[str, Any]] = checkpoint["within_epoch"]
        if len(states) != trainer.world_size:
            raise InputError(
                f"The run was interrupted within an epoch, in {len(states)} processes: continue it with as many, and "
                f"not {trainer.world_size}."
            )
        self.restored = own = states[trainer.global_rank]
        self.unread.update(own["unread"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if self.restored is not None:
            # Lightning would do it, but the learning rate's schedule needs the loader before loops are restored.
            cast(NamingLoader, trainer.train_dataloader).load_state_dict(self.restored["loader"])

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self.restored is not None:
            # Lightning does not start the epoch again. The order of the batches is known only now.
            cast(AdaptationModule, pl_module).on_train_epoch_start()
            restore_random_state(self.restored["random"])

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if self.restored is not None:
            _add_logged(trainer, self.restored["logged"])
            self.restored = None


def random_state() -> dict[str, Any]:
    """Return the state of all random generators of this process, as tensors and plain values."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Set all random generators of this process to what `random_state` returned."""
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


def _logged(trainer: pl.Trainer) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return the sum and the number of examples of each mean over the epoch; Lightning's checkpoints lack them."""
    results = trainer.fit_loop.epoch_loop._results
    return {key: (one.value, one.cumulated_batch_size) for key, one in results.items() if one.meta.on_epoch}


def _add_logged(trainer: pl.Trainer, saved: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
    results = trainer.fit_loop.epoch_loop._results
    for key, (value, count) in saved.items():
        one = results[key]
        one.value = value.to(one.value) + one.value
        one.cumulated_batch_size = count.to(one.cumulated_batch_size) + one.cumulated_batch_size
