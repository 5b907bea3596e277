"""Training with checkpoints that survive a kill: every epoch's end is a place to go on from."""

import logging
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.files import atomic
from adapt.models.module import AdaptationModule
from adapt.progress import track

log = logging.getLogger(__name__)


def fit(
    module: AdaptationModule,
    splits: Splits,
    loader: Loader,
    make_trainer: Callable[..., pl.Trainer],
    folder: Path,
    monitor: str = "val_wer",
    patience: int | None = None,
    logger: Any = False,
) -> list[dict[str, float]]:
    """Train, and leave in `module` the weights of the epoch with the lowest `monitor` (without validation: the last).

    Checkpoints go to `folder`; a `last.ckpt` there is gone on from. Training ends early after `patience` epochs without
    a better `monitor`. Returns one row per epoch: what was logged, and `seconds` since the start of training.
    """
    for name in ("pytorch_lightning", "lightning_fabric"):  # their importing sets them back
        logging.getLogger(name).setLevel(logging.WARNING)
    history = _History()
    rate = module.model.sample_rate
    validation = loader.evaluation(splits.validation, rate) if splits.validation else None
    callbacks: list[Callback] = [
        _EpochBar(),
        history,
        *_checkpoints(folder, monitor if validation is not None else None),
    ]
    if patience is not None and validation is not None:
        callbacks.append(EarlyStopping(monitor, patience=patience, mode="min"))
    trainer = make_trainer(
        callbacks=callbacks,
        logger=logger,
        plugins=[_AtomicCheckpoints()],
        default_root_dir=folder,
        enable_progress_bar=False,  # ours are a bar within an epoch, and a line after it that a file keeps
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # BatchesBySeconds shares out batches itself
    )
    last = folder / "last.ckpt"
    if last.is_file():
        log.info("Going on from %s", last)
        history.load_state_dict(_state(last, "_History"))
    # A run that was killed after it had stopped early must not train on: the callback alone would let it.
    if patience is None or not last.is_file() or _state(last, "EarlyStopping").get("wait_count", 0) < patience:
        module.train()  # Lightning leaves each part's mode as it finds it, and frozen parts must be in eval mode
        # weights_only: tensors and plain values; a checkpoint is read back by us, and still never unpickled.
        trainer.fit(
            module,
            loader.training(splits.train, rate),
            validation,
            ckpt_path=str(last) if last.is_file() else None,
            weights_only=True,
        )
    best = folder / "best.ckpt"
    if validation is not None and best.is_file():
        module.load_state_dict(torch.load(best, weights_only=True, map_location="cpu")["state_dict"])
    return history.rows


def _checkpoints(folder: Path, monitor: str | None) -> list[Callback]:
    common = {"dirpath": folder, "enable_version_counter": False, "save_top_k": 1}
    last = ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **common)
    if monitor is None:
        return [last]
    best = ModelCheckpoint(
        filename="best", monitor=monitor, mode="min", save_weights_only=True, save_on_train_epoch_end=True, **common
    )
    # The best comes first: the last one's state then already knows of it.
    return [best, last]


def _state(checkpoint: Path, callback: str) -> dict[str, Any]:
    states = torch.load(checkpoint, weights_only=True, map_location="cpu")["callbacks"]
    return next((state for key, state in states.items() if key.startswith(callback)), {})


class _AtomicCheckpoints(TorchCheckpointIO):
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str, storage_options: Any = None) -> None:
        with atomic(path) as part:
            torch.save(checkpoint, part)


class _EpochBar(Callback):
    """How far the epoch has come, on a terminal."""

    batches: Generator[int, None, None]

    def on_train_epoch_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self.batches = track(range(int(trainer.num_training_batches)), f"epoch {trainer.current_epoch + 1}")
        next(self.batches)

    def on_train_batch_end(self, *_: Any) -> None:
        next(self.batches, None)

    def on_validation_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self.batches.close()

    def on_train_epoch_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self.batches.close()


class _History(Callback):
    """One line an epoch, and the rows that the report draws; both survive a resume."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.started = time.perf_counter()
        self.earlier = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])
        self.earlier = self.rows[-1]["seconds"] if self.rows else 0.0

    def on_train_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        names = {"train_loss_epoch": "train_loss", "val_loss": "val_loss", "val_wer": "val_wer", "val_cer": "val_cer"}
        row = {
            name: float(trainer.callback_metrics[key]) for key, name in names.items() if key in trainer.callback_metrics
        }
        row |= {
            "epoch": trainer.current_epoch + 1,
            "learning_rate": float(trainer.optimizers[0].param_groups[0]["lr"]),
            "seconds": self.earlier + time.perf_counter() - self.started,
        }
        self.rows.append(row)
        validation = f"   validation loss {row['val_loss']:.3f}, WER {row['val_wer']:6.1%}" if "val_wer" in row else ""
        log.info(
            "epoch %2d/%s   loss %.3f%s   %.0f s",
            row["epoch"], trainer.max_epochs, row["train_loss"], validation, row["seconds"],
        )  # fmt: skip
