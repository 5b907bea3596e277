"""`innertune adapt dry_run=true`: what a tuning would cost, beside full fine-tuning and LoRA, before it is trained.

Weights and FLOPs are counted, memory and time measured in a few real steps on copies, at a batch of middle length.
"""

import copy
import logging
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adapt.data.loader import Batch, Loader, collate
from adapt.data.manifest import Splits
from adapt.data.replay import Replay
from adapt.errors import InputError
from adapt.models.flops import counted_flops
from adapt.models.model import Model
from adapt.training.prefix import Prefix, UncachedError, train_mode
from adapt.training.prefix_cache import Cache, cut_for, free_bytes, plan, size, what_is_read
from adapt.tuning.layers import full
from adapt.tuning.lora import lora
from interventions.freeze import freeze_all_but

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cost:
    """What one way of tuning costs. FLOPs and seconds are of one step over a batch of middle length; memory in bytes.

    `activation_bytes` are what the forward pass keeps for the backward pass. `epoch_seconds` is the training part of an
    epoch; `total_seconds` that of all of them with what a cached prefix takes first, None where their number is not
    known. `prefix` says what is cached, or why nothing is.
    """

    way: str
    trained: int
    forward_flops: int
    backward_flops: int
    weight_bytes: int
    gradient_bytes: int
    state_bytes: int
    activation_bytes: int
    step_seconds: float
    epoch_seconds: float
    total_seconds: float | None
    prefix: str

    @property
    def bytes(self) -> int:
        """All that a step needs."""
        return self.weight_bytes + self.gradient_bytes + self.state_bytes + self.activation_bytes


@dataclass(frozen=True)
class Training:
    """What a run trains on and how, as far as it bears on cost.

    `epochs` None: their number is not known. `folder` is where a cache would be. `context` is entered around a forward
    pass, for mixed precision. `replay` says how much of `splits.source_train` each epoch has besides.
    """

    splits: Splits
    loader: Loader
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    cache: Cache
    epochs: int | None
    folder: Path
    device: torch.device = torch.device("cpu")
    context: Callable[[], AbstractContextManager] = nullcontext
    replay: Replay = 0.0


def dry_run(chosen: Model, plain: Model, training: Training) -> list[Cost]:
    """The costs of a model whose chosen parameters train, and of a plain copy of it under full fine-tuning and under
    LoRA of rank 8, where it can have that. Neither model is changed.
    """
    ways: dict[str, Callable[[], Model]] = {"this tuning": lambda: copy.deepcopy(chosen)}
    ways["full fine-tuning"] = lambda: _tuned(plain, full)
    ways["LoRA, r=8"] = lambda: _tuned(plain, lora)
    costs = []
    for way, make in ways.items():
        try:
            costs.append(cost(way, make().to(training.device), training))
        except InputError as error:
            if way == "this tuning":
                raise
            log.info("%s is not compared: %s", way, error)
    return costs


def _tuned(plain: Model, tuning: Callable[[Model], list[str]]) -> Model:
    model = copy.deepcopy(plain)
    freeze_all_but(model, tuning(model))
    return model


def cost(way: str, model: Model, training: Training) -> Cost:
    """What it costs to train a model's free parameters, which are trained a few steps."""
    batch, share = _middle_batch(model, training)
    batch = batch.to(training.device)
    again = training.splits.source_train if training.replay else ()
    read = replace(training.splits, train=(*training.splits.train, *again))
    sets = what_is_read(model, read, training.loader, training.epochs)
    prefix, first, said = None, 0.0, ""
    try:
        if training.cache.use == "off":
            raise UncachedError("cache.use=off")
        cut = cut_for(model, sets, training.epochs)
        with training.context():
            prefix, total = plan(model, cut, batch, sets, free_bytes(training.folder, training.cache.gigabytes))
            once, made = _timed(lambda: prefix.record(batch), training.device)
        heard = sum(model.reader.length(examples[n]) / speed for examples, pairs in sets.values() for n, speed in pairs)
        first = once * heard / sum(map(model.reader.length, batch.examples))
        names = [layer.name for layer in model.layers]
        said = f"{names.index(cut.last) + 1} of {len(names)} layers, {size(total)}"
        batch = replayed(batch, made, model).to(training.device)
    except UncachedError as error:
        said = f"no: {error}"
    stepper = _Stepper(model, batch, training, prefix)
    activations = stepper.activations()
    times = [_timed(stepper.step, training.device)[0] for _ in range(3)]
    forward, backward = stepper.flops()
    free = stepper.parameters
    state = (held for own in stepper.optimizer.state.values() for held in own.values() if isinstance(held, Tensor))
    second = statistics.median(times)
    return Cost(
        way, sum(p.numel() for p in free), forward, backward, sum(p.nbytes for p in model.parameters()),
        sum(p.nbytes for p in free), sum(held.nbytes for held in state), activations, second, second / share,
        None if training.epochs is None else training.epochs * second / share + first, said,
    )  # fmt: skip


def replayed(batch: Batch, made: list[list[Tensor]], model: Model) -> Batch:
    """A batch with what a prefix made of it, as the loader gives it where that is cached."""
    heard = model.reader.unit == "seconds"
    items = [
        (example, torch.zeros(0) if heard else own[:length].cpu(), length, tuple(parts))
        for example, own, length, parts in zip(batch.examples, batch.inputs, batch.lengths.tolist(), made, strict=True)
    ]
    return collate(items)


class _Stepper:
    """A model that is trained on one batch."""

    def __init__(self, model: Model, batch: Batch, training: Training, prefix: Prefix | None) -> None:
        self.model, self.batch, self.context, self.prefix = model, batch, training.context, prefix
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = training.optimizer(self.parameters)

    def _loss(self) -> Tensor:
        below = nullcontext() if self.prefix is None else self.prefix.replayed(self.batch.stored)
        with train_mode(self.model), self.context(), below:
            return self.model.task.loss(self.model, self.batch)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self._loss().backward()
        self.optimizer.step()

    def activations(self) -> int:
        """Take a step, and say how many bytes the forward pass kept that are no weights."""
        weights = {own.untyped_storage().data_ptr() for own in (*self.model.parameters(), *self.model.buffers())}
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = self._loss()
        loss.backward()
        self.optimizer.step()
        return sum(kept.values())

    def flops(self) -> tuple[int, int]:
        """Of the forward and of the backward pass."""
        with counted_flops() as counter:
            loss = self._loss()
            forward = counter.get_total_flops()
            loss.backward()
        return forward, counter.get_total_flops() - forward


def _middle_batch(model: Model, training: Training) -> tuple[Batch, float]:
    """A training batch of middle length, and its share of an epoch's padded length."""
    splits = training.splits
    batches = training.loader.training(splits.train, model.reader, splits.source_train, training.replay)
    sampler = batches.batch_sampler
    sizes = {n: max(sampler.lengths[k] for k, _ in keys) * len(keys) for n, keys in enumerate(sampler)}
    middle = sorted(sizes, key=sizes.get)[len(sizes) // 2]
    return collate([batches.dataset[key] for key in list(sampler)[middle]]), sizes[middle] / sum(sizes.values())


def _timed(run: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    result = run()
    wait()
    return time.perf_counter() - started, result


def table(costs: list[Cost]) -> Any:
    """The costs beside each other, for a terminal."""
    from rich.table import Table

    drawn = Table(
        title="Dry run: one step on a batch of middle length; times are of training alone", title_justify="left"
    )
    drawn.add_column("")
    for one in costs:
        drawn.add_column(one.way, justify="right", overflow="fold")

    def add(name: str, value: Callable[[Cost], str]) -> None:
        drawn.add_row(name, *map(value, costs))

    full = next(one for one in costs if one.way == "full fine-tuning")
    add("weights trained", lambda one: f"{one.trained:,}")
    add("GFLOPs forward", lambda one: f"{one.forward_flops / 1e9:.3g}")
    add("GFLOPs backward", lambda one: f"{one.backward_flops / 1e9:.3g}")
    add("memory: weights", lambda one: size(one.weight_bytes))
    add("  gradients", lambda one: size(one.gradient_bytes))
    add("  optimizer state", lambda one: size(one.state_bytes))
    add("  activations", lambda one: size(one.activation_bytes))
    add("  together", lambda one: size(one.bytes))
    add("time of a step", lambda one: f"{1000 * one.step_seconds:.3g} ms")
    add("  / full fine-tuning", lambda one: f"{one.step_seconds / full.step_seconds:.2f}")
    add("time of an epoch", lambda one: duration(one.epoch_seconds))
    add("time in all", lambda one: "-" if one.total_seconds is None else duration(one.total_seconds))
    add("cached prefix", lambda one: one.prefix.partition(":")[0])
    reason = costs[0].prefix.partition(": ")[2]
    drawn.caption = f"No cached prefix: {reason}." if reason else None
    return drawn


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
