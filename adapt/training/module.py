"""The one Lightning module around any base model: it trains what a tuning lets it, and no other bit moves."""

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from adapt.checks import check_choice, check_share
from adapt.data.loader import Batch
from adapt.errors import InputError
from adapt.models.task import Task
from adapt.training.prefix import Prefix
from interventions.freeze import eval_frozen

Schedule = Literal["constant", "linear", "cosine"]


class AdaptationModule(pl.LightningModule):
    """Train `model` on `task`; parameters with `requires_grad=False` are not given to the optimizer, and what holds
    only such parameters stays in eval mode, batch-norm statistics included.

    `optimizer` makes an optimizer from parameters. The learning rate rises over the first `warmup` (a share of all
    steps) and then stays, or falls to zero on a line or a half cosine (`schedule`). Each epoch starts from a random
    state that follows from `seed`, the epoch and the process alone, so that a resumed run equals an uninterrupted one.

    `rates` are factors of the learning rate by parameter name, 1 where there is none. `keep` is a penalty that is added
    to the loss, and logged by itself, as is `topographic`. `unfreeze(model, epoch)` says at the start of each epoch
    what trains in it.

    Where several processes train, each gives its share of the batches, the gradient is the mean over them, and what is
    validated is what one process alone would have: every example once, in the same batches and order.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Schedule = "cosine",
        warmup: float = 0.1,
        seed: int = 0,
        rates: Mapping[str, float] | None = None,
        keep: nn.Module | None = None,
        unfreeze: Callable[[nn.Module, int], None] | None = None,
        topographic: Callable[[], Tensor] | None = None,
    ) -> None:
        super().__init__()
        check_choice("schedule", schedule, ("constant", "linear", "cosine"))
        check_share("warmup", warmup, zero=True)
        self.model, self.task = model, task
        self.make_optimizer, self.schedule, self.warmup, self.seed = optimizer, schedule, warmup, seed
        self.rates, self.keep, self.unfreeze = dict(rates or {}), keep, unfreeze
        self.topographic = topographic
        self.prefix: Prefix | None = None  # of which what it puts out is stored
        self.validated: list[tuple[float, list[str], list[str]]] = []  # a batch's loss, references and answers

    def train(self, mode: bool = True) -> "AdaptationModule":
        """Set train or eval mode, frozen parts always to eval."""
        super().train(mode)
        if mode:
            eval_frozen(self.model)
        return self

    def on_train_epoch_start(self) -> None:
        if self.unfreeze is not None:
            self.unfreeze(self.model, self.current_epoch)
            self.train()
        # Each process masks its own batches by draws of its own.
        draw = self.seed * 1_000_003 + self.global_rank * 10_007 + self.current_epoch
        torch.manual_seed(draw)
        np.random.seed(draw % 2**32)  # transformers' models draw their SpecAugment masks from it

    def training_step(self, batch: Batch, number: int) -> Tensor:
        with self._replayed(batch):
            loss = self.task.loss(self.model, batch)
        if not torch.isfinite(loss):
            files = ", ".join(example.where or example.name for example in batch.examples[:3])
            raise InputError(
                f"The loss became {loss.item()} in epoch {self.current_epoch + 1}, batch {number + 1} ({files}, ...). "
                "Lower optimizer.lr, or clip gradients by trainer.gradient_clip_val=1. The last whole epoch is kept: "
                "resume=true goes on from it."
            )
        often = {"on_step": True, "on_epoch": True, "batch_size": len(batch.examples), "sync_dist": True}
        self.log("train_loss", loss, **often)
        for name, penalty in (("keep", self.keep), ("topographic", self.topographic)):
            if penalty is not None:
                added = penalty()
                self.log(f"{name}_loss", added, **often)
                loss = loss + added
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        with self._replayed(batch):
            loss = float(self.task.loss(self.model, batch))
        with self._replayed(batch, generating=True):
            answers = self.task.decode(self.model, batch)
        self.validated.append((loss, [example.text for example in batch.examples], answers))

    def _replayed(self, batch: Batch, generating: bool = False) -> AbstractContextManager:
        return nullcontext() if self.prefix is None else self.prefix.replayed(batch.stored, generating)

    def on_validation_epoch_end(self) -> None:
        shares = [self.validated]
        if self.trainer.world_size > 1:
            shares = [[] for _ in range(self.trainer.world_size)]
            torch.distributed.all_gather_object(shares, self.validated)
        self.validated = []
        # In the order of one process; batches that came again to fill the last round stand at the end.
        examples = len(self.trainer.val_dataloaders.dataset)
        losses, references, answers = 0.0, [], []
        for loss, said, answered in (batch for turn in zip(*shares, strict=True) for batch in turn):
            if len(references) < examples:
                losses, references, answers = losses + loss * len(said), references + said, answers + answered
        self.log("val_loss", losses / len(references))
        for key, value in self.task.evaluate(references, answers).values().items():
            self.log(f"val_{key}", value)

    def configure_optimizers(self) -> dict[str, object]:
        # All that will ever train, from the start: one without a gradient is left alone, by decay and momentum too.
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(self.rates.get(name, 1.0), []).append(parameter)
        optimizer = self.make_optimizer([{"params": parameters} for parameters in groups.values()])
        for group, factor in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] *= factor
        steps = int(self.trainer.estimated_stepping_batches)
        rate = LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, self.schedule, self.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def checked_optimizer(make: Callable[[Iterable[nn.Parameter]], Optimizer]) -> Callable[..., Optimizer]:
    """The same, tried on a parameter of its own. Raises InputError where an option is none of this optimizer."""
    try:
        make([{"params": [nn.Parameter(torch.zeros(1))]}])
    except (TypeError, ValueError) as error:
        raise InputError(f"optimizer: {' '.join(str(error).split())}. Give optimizer.lr=0.001 and its like.") from None
    return make


def learning_rate_factor(step: int, steps: int, schedule: Schedule, warmup: float) -> float:
    """What the learning rate is multiplied by at `step` of `steps`, 0..1."""
    rising = warmup * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    done = min(1.0, (step - rising) / max(1.0, steps - rising))
    return {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}[schedule]
