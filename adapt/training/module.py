"""The Lightning module around any base model. It trains what a tuning allows; all else stays bit-identical."""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from adapt.checks import check_choice, check_share
from adapt.data.batches import BatchesByLength
from adapt.data.loader import Batch
from adapt.errors import InputError
from adapt.models.encoder_cache import cached_encoder
from adapt.models.model import Model
from adapt.models.recipe import Schedule
from adapt.models.task import Task
from adapt.training.optimizers import MakeOptimizer, parameter_groups
from adapt.training.prefix import Prefix
from adapt.training.single_values import single_values_in_eval
from adapt.training.trained_weights import trained_names, trained_state, whole_state
from adapt.training.windows import window_weights
from adapt.tuning.penalty import Penalty
from interventions.freeze import eval_frozen

DIVERGED = "The loss became"  # how the message of a loss that is not finite begins


class AdaptationModule(pl.LightningModule):
    """Train a model on a task.

    Parameters with `requires_grad=False` are not given to the optimizer. Modules that hold only such parameters stay in
    eval mode, so that their batch-norm statistics do not change.

    Each epoch starts from a random state that depends on the seed, the epoch and the process alone, so that a resumed
    run equals an uninterrupted one. With several processes, each takes a share of the batches. A step follows the mean
    over all examples (CTC) or target tokens of its batches, those of other processes included. Validation sees every
    example once, in the batches and the order of a single process.

    Args:
        model: The model, with `requires_grad` set as the tuning says.
        task: Its loss, decoding and metrics.
        optimizer: Makes an optimizer from parameters.
        schedule: After the warm-up, the learning rate is "constant", or falls to zero ("linear", "cosine").
        warmup: The share of all steps over which the learning rate rises.
        seed: Seed of each epoch's random state.
        rates: Learning-rate factors by parameter name; parameters without an entry have factor 1.
        penalty: A term that is added to the loss and logged separately.
        unfreeze: Called as `unfreeze(model, epoch)` at the start of each epoch; sets what trains in it.
        topographic: A further term that is added to the loss and logged separately.
        base: The fingerprint of the model before training. Checkpoints hold what trains, and belong to this base only.

    Raises:
        InputError: `schedule` or `warmup` is out of range.
    """

    model: Model
    unfreeze: Callable[[nn.Module, int], None] | None
    penalty: Penalty | None

    def __init__(
        self,
        model: Model,
        task: Task,
        optimizer: MakeOptimizer,
        schedule: Schedule = "cosine",
        warmup: float = 0.1,
        seed: int = 0,
        rates: Mapping[str, float] | None = None,
        penalty: Penalty | None = None,
        unfreeze: Callable[[nn.Module, int], None] | None = None,
        topographic: Callable[[], Tensor] | None = None,
        base: str = "",
    ) -> None:
        super().__init__()
        check_choice("schedule", schedule, ("constant", "linear", "cosine"))
        check_share("warmup", warmup, zero=True)
        self.model, self.task = model, task
        self.make_optimizer, self.warmup, self.seed = optimizer, warmup, seed
        self.schedule: Schedule = schedule
        self.rates, self.penalty, self.unfreeze = dict(rates or {}), penalty, unfreeze
        self.topographic = topographic
        self.base, self.trained = base, trained_names(self)
        self.prefix: Prefix | None = None  # the prefix whose outputs are cached; None if there is no cache
        self.weights: list[float] = []  # the factor on the loss of each batch of the epoch; empty if all are 1
        self._terms: list[int] = []  # of each training example, in the mean that the loss is
        self.validated: list[tuple[float, list[str], list[str]]] = []  # by batch: loss, references, hypotheses

    def train(self, mode: bool = True) -> "AdaptationModule":
        """Set train or eval mode. Frozen parts are always in eval mode."""
        super().train(mode)
        if mode:
            eval_frozen(self.model)
        return self

    def trained_state(self) -> dict[str, Tensor]:
        """Return what a checkpoint holds of the weights (`adapt.training.trained_weights`)."""
        return trained_state(self, self.trained)

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """Load what `trained_state` returned, or a whole state as earlier versions saved it."""
        self.load_state_dict(whole_state(self, saved))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"], checkpoint["base"] = self.trained_state(), self.base

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = whole_state(self, checkpoint["state_dict"])

    def on_train_epoch_start(self) -> None:
        if self.unfreeze is not None:
            self.unfreeze(self.model, self.current_epoch)
            self.train()
        # Each process draws its own SpecAugment masks.
        draw = self.seed * 1_000_003 + self.global_rank * 10_007 + self.current_epoch
        torch.manual_seed(draw)
        np.random.seed(draw % 2**32)  # transformers draws its masks from numpy
        self.weights = self._window_weights()

    def _window_weights(self) -> list[float]:
        """Return the factor on the loss of each batch of this epoch (`window_weights`)."""
        trainer, data = self.trainer, cast(DataLoader, self.trainer.train_dataloader)
        window, ranks = trainer.accumulate_grad_batches, trainer.world_size
        if window * ranks == 1:
            return []
        if not self._terms:
            self._terms = [self.task.terms(self.model, example) for example in cast(Any, data.dataset).examples]
        batches = cast(BatchesByLength, data.batch_sampler).every()
        counts = [sum(self._terms[number] for number in batch) for batch in batches]
        return window_weights(counts, window, ranks, trainer.global_rank, int(trainer.num_training_batches))

    def training_step(self, batch: Batch, number: int) -> Tensor:
        with self._replayed(batch), single_values_in_eval(self.model):
            loss = self.task.loss(self.model, batch)
        if not torch.isfinite(loss):
            files = ", ".join(example.where or example.name for example in batch.examples[:3])
            raise InputError(
                f"The loss became {loss.item()} in epoch {self.current_epoch + 1}, batch {number + 1} ({files}, ...). "
                "Start again (overwrite=true) with a lower optimizer.lr, or clip the gradients more: "
                "trainer.gradient_clip_val=0.1."
            )
        logged = {"on_step": True, "on_epoch": True, "batch_size": len(batch.examples), "sync_dist": True}
        self.log("train_loss", loss, **logged)
        for name, term in (("penalty", self.penalty), ("topographic", self.topographic)):
            if term is not None:
                added = term()
                self.log(f"{name}_loss", added, **logged)
                loss = loss + added
        weight = self.weights[number] if self.weights else 1.0
        return loss if weight == 1 else weight * loss

    def validation_step(self, batch: Batch, _: int) -> None:
        if not batch.examples:  # none of them could be read
            self.validated.append((0.0, [], []))
            return
        if self.task.validate is not None:
            with self._replayed(batch):
                loss, hypotheses = self.task.validate(self.model, batch)
        else:
            with cached_encoder(self.model, keep=False):
                with self._replayed(batch):
                    loss = self.task.loss(self.model, batch)
                with self._replayed(batch, generating=True):
                    hypotheses = self.task.decode(self.model, batch)
        references = self.task.comparable(batch.examples, [example.text for example in batch.examples])
        self.validated.append((float(loss), references, self.task.comparable(batch.examples, hypotheses)))

    def _replayed(self, batch: Batch, generating: bool = False) -> AbstractContextManager:
        return nullcontext() if self.prefix is None else self.prefix.replayed(batch.stored, generating)

    def on_validation_epoch_end(self) -> None:
        shares = [self.validated]
        if self.trainer.world_size > 1:
            shares = [[] for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather_object(shares, self.validated)
        self.validated = []
        # In the order of a single process. The last ones, repeated so that each process has equally many, are dropped.
        count = len(cast(Any, self.trainer.val_dataloaders).batch_sampler.every())
        total, references, hypotheses = 0.0, [], []
        for loss, texts, decoded in [batch for turn in zip(*shares, strict=True) for batch in turn][:count]:
            total += loss * len(texts)
            references, hypotheses = references + texts, hypotheses + decoded
        if not references:
            raise InputError("None of the validation examples can be read any more.")
        self.log("val_loss", total / len(references))
        for key, value in self.task.evaluate(references, hypotheses).values().items():
            self.log(f"val_{key}", value)

    def configure_optimizers(self) -> dict[str, object]:
        # Includes parameters that are unfrozen later: while they have no gradient, the optimizer does not change them.
        groups = parameter_groups(self.model, self.rates)
        optimizer = self.make_optimizer([{"params": parameters} for parameters in groups.values()])
        for group, factor in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] *= factor
        steps = int(self.trainer.estimated_stepping_batches)
        rate = LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, self.schedule, self.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def learning_rate_factor(step: int, steps: int, schedule: Schedule, warmup: float) -> float:
    """Return the factor of the learning rate at `step` of `steps`, from 0 to 1."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    done = min(1.0, (step - rising) / max(1.0, steps - rising))
    return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[schedule]
