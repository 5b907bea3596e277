"""Train with Lightning. A killed run continues from its last checkpoint: that of an epoch, or one within it."""

import logging
import shutil
import signal
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader

from adapt import signals
from adapt.checks import check_count
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.replay import Replay
from adapt.data.unread import Unread
from adapt.distributed import ending_together, gathered, is_first
from adapt.errors import InputError
from adapt.files import is_file
from adapt.formatting import amount
from adapt.metrics import Metric
from adapt.models.batch_memory import keep_within_memory
from adapt.progress import track
from adapt.training.checkpoints import AtomicCheckpoints, callback_state, check_weights, read_checkpoint, spent
from adapt.training.module import AdaptationModule
from adapt.training.option_checks import Every
from adapt.training.prefix_cache import Cache, cache_prefix
from adapt.training.prefix_store import Processes, Stored
from adapt.training.trainer import made_trainer
from adapt.training.within_epoch import CheckpointWithinEpoch, WithinEpoch

log = logging.getLogger(__name__)


def fit(
    module: AdaptationModule,
    splits: Splits,
    loader: Loader,
    make_trainer: Callable[..., pl.Trainer],
    folder: Path,
    monitor: str | None = None,
    patience: int | None = None,
    logger: Any = False,
    replay: Replay = 0.0,
    cache: Cache | None = None,
    started: float | None = None,
    unread: Unread | None = None,
    every: Every | None = None,
) -> list[dict[str, float]]:
    """Train. Afterwards `module` has the weights of the best epoch, or of the last one if there is no validation data.

    If the trainer has several devices, this function starts the other processes, and returns in each of them.

    Args:
        module: The module to train.
        splits: Training and validation examples, and source examples to replay.
        loader: Batches the examples.
        make_trainer: Returns a Lightning trainer when called with further options.
        folder: Where checkpoints are written. Training continues from `last.ckpt` if it is there.
        monitor: The value that decides on the best epoch: "val_loss", or "val_" and the key of one of the task's
            metrics. None for the first metric.
        patience: Stop after this many epochs without a better `monitor`; None never stops early.
        logger: One of Lightning's loggers, or False.
        replay: How many examples of `splits.source_train` each epoch has (`adapt.data.replay`).
        cache: Whether the outputs of frozen lower layers may be cached (`adapt/training/prefix.py`); None for no. The
            files are in `folder` while training, and are deleted afterwards.
        started: When the run began in this process, as a value of `time.perf_counter()`; None for now. Checkpoints
            record how long the run has taken (`spent`).
        unread: What to do about examples that turn out to be unreadable, and which they were, in all processes; None to
            stop.
        every: How often a checkpoint is also written within an epoch; None for never.

    Returns:
        One row per epoch: what was logged, and `seconds` since the start of training.

    Raises:
        InputError: as `watch`, or the trainer's strategy is not DDP.
    """
    metrics = module.task.metrics
    watched = watch(metrics, monitor, patience)
    watched = watched if splits.validation else None
    history = _History(metrics, time.perf_counter() if started is None else started, spent(folder))
    unread = Unread() if unread is None else unread
    callbacks: list[Callback] = [_Signals(), _EpochBar(), history, WithinEpoch(unread.found)]
    callbacks += _checkpoints(folder, watched, every)
    if patience is not None and watched is not None:
        callbacks.append(EarlyStopping(watched["monitor"], mode=watched["mode"], patience=patience))
    trainer = made_trainer(
        make_trainer,
        callbacks=callbacks,
        logger=logger,
        plugins=[AtomicCheckpoints()],
        default_root_dir=folder,
        enable_progress_bar=False,  # we show a bar within an epoch, and log a line after it
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # BatchesByLength distributes batches itself
    )
    _prepare_ddp(trainer, module)
    last, best = folder / "last.ckpt", folder / "best.ckpt"
    resumed = _resumed(last, best, module) if is_file(last) else None
    if resumed is not None:
        log.info("Continuing from %s", last)
        history.load_state_dict(callback_state(resumed, "_History"))
    # A run that was killed after early stopping must not train on; the callback alone would let it.
    if patience is None or resumed is None or callback_state(resumed, "EarlyStopping").get("wait_count", 0) < patience:
        module.train()  # Lightning keeps the train and eval modes as they are, and frozen parts must be in eval mode
        # weights_only: a checkpoint holds tensors and plain values, and is never unpickled.
        cached = folder / "prefix"
        try:
            data = _Data(splits, loader, module, replay, cache or Cache("off"), cached, unread)
            with ending_together(trainer, folder / "failed"), _restoring(last, data, history), _stopping():
                trainer.fit(
                    module,
                    datamodule=data,
                    ckpt_path=str(last) if is_file(last) else None,
                    weights_only=True,
                )
                data.share_unread()
        finally:
            module.prefix = None
            if is_first():
                shutil.rmtree(cached, ignore_errors=True)
    if splits.validation and is_file(best):
        content = read_checkpoint(best, whole=False)
        _check_weights(best, content, module)
        module.restore(content["state_dict"])
    return history.rows


def _resumed(last: Path, best: Path, module: AdaptationModule) -> dict[str, Any]:
    """Return the checkpoint to continue from, after checking it and that of the best epoch. Raises InputError."""
    content = read_checkpoint(last)
    _check_weights(last, content, module)
    if is_file(best):
        _check_weights(best, read_checkpoint(best, whole=False), module)
    return content


def _check_weights(path: Path, content: dict[str, Any], module: AdaptationModule) -> None:
    # Checkpoints of earlier versions hold all weights.
    check_weights(path, content, module.trained_state() if "base" in content else module.state_dict(), module.base)


@contextmanager
def _restoring(last: Path, data: "_Data", history: "_History") -> Iterator[None]:
    """Within this context, an error while Lightning restores a checkpoint raises InputError."""
    resumes = is_file(last)
    try:
        yield
    except (InputError, OSError):
        raise
    except Exception as error:  # whatever a checkpoint with other values than ours makes Lightning and torch raise
        if not resumes or history.began_training or not data.is_ready:
            raise
        message = " ".join(str(error).split())[:200]
        raise InputError(
            f"Training cannot continue from '{last}' ({type(error).__name__}: {message}). Restore it, or start again "
            "in another folder."
        ) from error


def watch(metrics: Sequence[Metric], monitor: str | None, patience: int | None) -> dict[str, str]:
    """Return which logged value decides on the best epoch, and whether its "min" or "max" is best.

    Raises:
        InputError: `monitor` is not measured, or `patience` is not a whole number of at least 1.
    """
    if patience is not None:
        check_count("patience", patience, 1)
    better = {"val_loss": "min"} | {f"val_{metric.key}": "max" if metric.higher else "min" for metric in metrics}
    monitor = f"val_{metrics[0].key}" if monitor is None else monitor
    if not isinstance(monitor, str) or monitor not in better:
        raise InputError(f"monitor={monitor} is not measured in training. Give one of {', '.join(better)}.")
    return {"monitor": monitor, "mode": better[monitor]}


def _checkpoints(folder: Path, watched: dict[str, str] | None, every: Every | None) -> list[Callback]:
    common = {"dirpath": folder, "enable_version_counter": False, "save_top_k": 1}
    last = ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **common)
    within = [] if every is None else [CheckpointWithinEpoch(folder, every)]
    if watched is None:
        return [*within, last]
    best = ModelCheckpoint(filename="best", save_weights_only=True, save_on_train_epoch_end=True, **watched, **common)
    # "best" comes first, so that its new state is in the checkpoint "last".
    return [*within, best, last]


def _prepare_ddp(trainer: pl.Trainer, module: AdaptationModule) -> None:
    if trainer.world_size == 1:
        return
    if not isinstance(trainer.strategy, DDPStrategy) or not hasattr(trainer.strategy.launcher, "procs"):
        raise InputError(
            f"Training on several devices needs trainer.strategy=ddp; got a {type(trainer.strategy).__name__}."
        )
    # LayerDrop skips different layers in each process, and a short batch is not masked, so DDP must search for unused
    # parameters in each step. It costs little; trainer.strategy=ddp_find_unused_parameters_false switches it off.
    searches = trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)
    if module.unfreeze is not None and not searches:
        raise InputError("unfreeze leaves weights out of the first steps: it needs trainer.strategy=ddp.")


class _Data(pl.LightningDataModule):
    """Batches of the examples that the first process found usable."""

    def __init__(
        self,
        splits: Splits,
        loader: Loader,
        module: AdaptationModule,
        replay: Replay,
        cache: Cache,
        folder: Path,
        unread: Unread,
    ) -> None:
        super().__init__()
        self.splits, self.loader, self.reader = splits, loader, module.model.reader
        self.replay: Replay = replay
        self.module, self.cache, self.folder = module, cache, folder
        self.stored: dict[str, Stored] = {}
        self.unread = unread
        self.is_ready = False

    def setup(self, stage: str) -> None:
        trainer = cast(pl.Trainer, self.trainer)
        strategy = trainer.strategy
        self.splits = strategy.broadcast(self.splits)
        # Lightning would do the same later: the prefix must run on the device and in the precision of training.
        trainer.precision_plugin.convert_module(self.module).to(strategy.root_device)
        epochs = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None
        replayed = self.splits.source_train if self.replay else ()
        read = replace(self.splits, train=(*self.splits.train, *replayed))
        self.loader = keep_within_memory(
            self.module.model, read.train, self.loader, trainer.precision_plugin.forward_context
        )
        try:
            cached = cache_prefix(
                self.module.model, read, self.loader, self.cache, epochs, self.folder,
                trainer.precision_plugin.forward_context,
                Processes(trainer.global_rank, trainer.world_size, strategy.barrier, gathered),
            )  # fmt: skip
        except InputError as error:
            # Several processes wait for each other here, so they cannot go on without the one that failed.
            if self.unread.on_error == "stop" or trainer.world_size > 1:
                raise
            log.warning("Training without cached outputs of frozen layers: %s", error)
            cached = None
        if cached is not None:
            self.module.prefix, self.stored = cached
        self.is_ready = True

    def train_dataloader(self) -> DataLoader:
        return self.loader.training(
            self.splits.train, self.reader, self.splits.source_train, self.replay, self.stored.get("train"), self.unread
        )

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        if not self.splits.validation:
            return []
        return self.loader.validation(self.splits.validation, self.reader, self.stored.get("validation"), self.unread)

    def share_unread(self) -> None:
        """Tell each process what the others could not read."""
        for found in gathered(self.unread.found):
            self.unread.found.update(found)


@contextmanager
def _stopping() -> Iterator[None]:
    """Within this context, SIGTERM raises `Stopped`, also where Lightning handles the signal itself."""
    ours = signal.getsignal(signal.SIGTERM)
    if signals.installed() and SLURMEnvironment.detect():
        # Lightning would call our handler after its own, which on SLURM let the job be requeued first.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    except SIGTERMException:
        raise signals.Stopped(signal.SIGTERM) from None
    finally:
        if signals.installed():
            signal.signal(signal.SIGTERM, ours)


class _Signals(Callback):
    """Keeps our handler of SIGTERM: Lightning's would end the process with status 0, or wait for other processes."""

    def on_train_start(self, *_: Any) -> None:  # Lightning sets its handler only after `setup` and `on_fit_start`
        if signals.installed() and not SLURMEnvironment.detect():
            signals.install()

    def on_train_batch_end(self, *_: Any) -> None:
        signals.check()

    def on_validation_batch_end(self, *_: Any) -> None:
        signals.check()


class _EpochBar(Callback):
    """A progress bar for the current epoch, on a terminal."""

    batches: Generator[int, None, None] | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self.batches = track(range(int(trainer.num_training_batches)), f"epoch {trainer.current_epoch + 1}")
        next(self.batches)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *rest: Any) -> None:
        if self.batches is None:  # the epoch goes on after an interruption
            self.on_train_epoch_start(trainer, module)
            self._skip(rest[-1])
        self._skip(1)

    def _skip(self, count: int) -> None:
        for _ in range(count):
            next(cast(Generator[int, None, None], self.batches), None)

    def on_validation_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self._close()

    def on_train_epoch_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self._close()

    def _close(self) -> None:
        if self.batches is not None:
            self.batches.close()
            self.batches = None


class _History(Callback):
    """Logs a line and records a row of figures after each epoch. The rows are kept when a run is resumed."""

    def __init__(self, metrics: Sequence[Metric], began: float, spent: float) -> None:
        self.metrics, self.began, self.spent = metrics, began, spent
        self.rows: list[dict[str, float]] = []
        self.started = time.perf_counter()
        self.earlier = 0.0
        self.began_training = False

    def state_dict(self) -> dict[str, Any]:
        now = time.perf_counter()
        seconds = self.earlier + (now - self.started if self.began_training else 0.0)
        return {"rows": self.rows, "spent": self.spent + now - self.began, "seconds": seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rows = list(state["rows"])
        self.earlier = state.get("seconds", self.rows[-1]["seconds"] if self.rows else 0.0)

    def on_train_start(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        self.started = time.perf_counter()
        self.began_training = True

    def on_train_epoch_end(self, trainer: pl.Trainer, _: pl.LightningModule) -> None:
        names = {f"{name}_epoch": name for name in ("train_loss", "penalty_loss", "topographic_loss")}
        names |= {"val_loss": "val_loss"}
        names |= {f"val_{metric.key}": f"val_{metric.key}" for metric in self.metrics}
        row = {
            name: float(trainer.callback_metrics[key]) for key, name in names.items() if key in trainer.callback_metrics
        }
        row |= {
            "epoch": trainer.current_epoch + 1,
            "learning_rate": max(float(group["lr"]) for group in trainer.optimizers[0].param_groups),
            "seconds": self.earlier + time.perf_counter() - self.started,
        }
        self.rows.append(row)
        main = self.metrics[0]
        validation = ""
        if f"val_{main.key}" in row:
            value = amount(row[f"val_{main.key}"], main)
            validation = f"   validation loss {row['val_loss']:.3f}, {main.label} {value}"
        log.info(
            "epoch %2d/%s   loss %.3f%s   %.0f s",
            row["epoch"], trainer.max_epochs, row["train_loss"], validation, row["seconds"],
        )  # fmt: skip
