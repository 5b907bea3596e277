"""Measure what a tuning would cost, compared with full fine-tuning and LoRA, before it is trained (`dry_run=true`).

Weights and FLOPs are counted. Memory and time are measured in a few real steps on copies, with a batch of median size.
"""

import copy
import logging
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adapt.data.batches import BatchesByLength
from adapt.data.loader import Batch, Loader, collate
from adapt.data.manifest import Splits
from adapt.data.replay import Replay
from adapt.errors import InputError
from adapt.models.batch_memory import keep_within_memory
from adapt.models.flops import counted_flops
from adapt.models.model import Model
from adapt.terminal import Table
from adapt.training.prefix import Prefix, UncachedError, train_mode
from adapt.training.prefix_cache import Cache, cut_for, free_bytes, plan, size, what_is_read
from adapt.training.single_values import single_values_in_eval
from adapt.tuning.layers import full
from adapt.tuning.lora import lora
from adapt.tuning.tuned import Tuning
from interventions.freeze import freeze_all_but

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cost:
    """What one tuning costs. FLOPs and seconds are for one step on a batch of median size; memory is in bytes.

    `activation_bytes` is what the forward pass stores for the backward pass. `epoch_seconds` is the training time of an
    epoch, and `total_seconds` that of all epochs and of filling the cache (None if the number of epochs is unknown).
    `prefix` says what is cached, or why nothing is.
    """

    name: str
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
        """The total memory of a step."""
        return self.weight_bytes + self.gradient_bytes + self.state_bytes + self.activation_bytes


@dataclass(frozen=True)
class Setup:
    """What a run trains on and how, as far as it affects the cost.

    `epochs` is None if their number is unknown. `folder` is where a cache would be stored. `context` makes a context
    manager for forward passes, for mixed precision. `replay` is how many examples of `splits.source_train` are added to
    each epoch.
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


def dry_run(chosen: Model, plain: Model, setup: Setup) -> list[Cost]:
    """Measure the cost of training `chosen` as set up, and that of `plain` with full fine-tuning and with rank-8 LoRA.

    LoRA is left out if the model cannot have it. Neither model is changed.
    """
    tunings: dict[str, Callable[[], Model]] = {"this tuning": lambda: copy.deepcopy(chosen)}
    tunings["full fine-tuning"] = lambda: _tuned(plain, full)
    tunings["LoRA, r=8"] = lambda: _tuned(plain, lora)
    costs = []
    for name, make in tunings.items():
        try:
            costs.append(cost(name, make().to(setup.device), setup))
        except InputError as error:
            if name == "this tuning":
                raise
            log.info("%s is left out of the comparison: %s", name, error)
    return costs


def _tuned(plain: Model, tuning: Tuning) -> Model:
    model = copy.deepcopy(plain)
    freeze_all_but(model, tuning(model, None).names)
    return model


def cost(name: str, model: Model, setup: Setup) -> Cost:
    """Measure the cost of training a model's trainable parameters by training them for a few steps."""
    if setup.loader.memory is not None:
        loader = keep_within_memory(model, setup.splits.train, setup.loader, setup.context)
        setup = replace(setup, loader=loader)
    batch, share = _middle_batch(model, setup)
    batch = batch.to(setup.device)
    replay = setup.splits.source_train if setup.replay else ()
    read = replace(setup.splits, train=(*setup.splits.train, *replay))
    sets = what_is_read(model, read, setup.loader, setup.epochs)
    prefix, filling, summary = None, 0.0, ""
    try:
        if setup.cache.use == "off":
            raise UncachedError("cache.use=off")
        cut = cut_for(model, sets, setup.epochs)
        with setup.context():
            prefix, total = plan(model, cut, batch, sets, free_bytes(setup.folder, setup.cache.gigabytes))
            once, made = _timed(lambda: prefix.record(batch), setup.device)
        heard = sum(model.reader.length(examples[n]) / speed for examples, pairs in sets.values() for n, speed in pairs)
        filling = once * heard / sum(map(model.reader.length, batch.examples))
        names = [layer.name for layer in model.layers]
        summary = f"{names.index(cut.last) + 1} of {len(names)} layers, {size(total)}"
        batch = replayed(batch, made, model).to(setup.device)
    except UncachedError as error:
        summary = f"no: {error}"
    stepper = _Stepper(model, batch, setup, prefix)
    activations = stepper.activations()
    times = [_timed(stepper.step, setup.device)[0] for _ in range(3)]
    forward, backward = stepper.flops()
    free = stepper.parameters
    state = (held for own in stepper.optimizer.state.values() for held in own.values() if isinstance(held, Tensor))
    second = statistics.median(times)
    return Cost(
        name, sum(p.numel() for p in free), forward, backward, sum(p.nbytes for p in model.parameters()),
        sum(p.nbytes for p in free), sum(held.nbytes for held in state), activations, second, second / share,
        None if setup.epochs is None else setup.epochs * second / share + filling, summary,
    )  # fmt: skip


def replayed(batch: Batch, made: list[list[Tensor]], model: Model) -> Batch:
    """Return the batch that the loader would yield with the cached outputs of a prefix."""
    is_audio = model.reads_audio
    items = [
        (example, torch.zeros(0) if is_audio else own[:length].cpu(), length, tuple(parts))
        for example, own, length, parts in zip(batch.examples, batch.inputs, batch.lengths.tolist(), made, strict=True)
    ]
    return collate(items)


class _Stepper:
    """Trains a model on one batch."""

    def __init__(self, model: Model, batch: Batch, setup: Setup, prefix: Prefix | None) -> None:
        self.model, self.batch, self.context, self.prefix = model, batch, setup.context, prefix
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = setup.optimizer(self.parameters)

    def _loss(self) -> Tensor:
        below = nullcontext() if self.prefix is None else self.prefix.replayed(self.batch.stored)
        with train_mode(self.model), single_values_in_eval(self.model), self.context(), below:
            return self.model.task.loss(self.model, self.batch)

    def step(self) -> None:
        self.optimizer.zero_grad()
        self._loss().backward()
        self.optimizer.step()

    def activations(self) -> int:
        """Take a step, and return the bytes that the forward pass stored for the backward pass, weights excluded."""
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
        """Return the FLOPs of the forward and of the backward pass."""
        with counted_flops() as counter:
            loss = self._loss()
            forward = counter.get_total_flops()
            loss.backward()
        return forward, counter.get_total_flops() - forward


def _middle_batch(model: Model, setup: Setup) -> tuple[Batch, float]:
    """Return a training batch of median size, and its share of an epoch. Sizes include padding."""
    splits = setup.splits
    batches = setup.loader.training(splits.train, model.reader, splits.source_train, setup.replay)
    sampler = cast(BatchesByLength, batches.batch_sampler)
    sizes = [sampler.size([number for number, _ in keys]) for keys in sampler]
    middle = sorted(range(len(sizes)), key=lambda number: sizes[number])[len(sizes) // 2]
    return collate([batches.dataset[key] for key in list(sampler)[middle]]), sizes[middle] / sum(sizes)


def _timed(run: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    result = run()
    wait()
    return time.perf_counter() - started, result


def table(costs: list[Cost]) -> Table:
    """Return a table that compares the costs, for a terminal."""
    reason = costs[0].prefix.partition(": ")[2]
    drawn = Table(
        "Dry run: one step on a batch of median size; times without validation",
        ("", *(one.name for one in costs)),
        caption=f"No cached prefix: {reason}." if reason else "",
    )

    def add(name: str, value: Callable[[Cost], str]) -> None:
        drawn.row(name, *map(value, costs))

    full = next(one for one in costs if one.name == "full fine-tuning")
    add("weights trained", lambda one: f"{one.trained:,}")
    add("GFLOPs forward", lambda one: f"{one.forward_flops / 1e9:.3g}")
    add("GFLOPs backward", lambda one: f"{one.backward_flops / 1e9:.3g}")
    add("memory: weights", lambda one: size(one.weight_bytes))
    add("  gradients", lambda one: size(one.gradient_bytes))
    add("  optimizer state", lambda one: size(one.state_bytes))
    add("  activations", lambda one: size(one.activation_bytes))
    add("  total", lambda one: size(one.bytes))
    add("time per step", lambda one: f"{1000 * one.step_seconds:.3g} ms")
    add("  relative to full fine-tuning", lambda one: f"{one.step_seconds / full.step_seconds:.2f}")
    add("time per epoch", lambda one: duration(one.epoch_seconds))
    add("total time", lambda one: "-" if one.total_seconds is None else duration(one.total_seconds))
    add("cached prefix", lambda one: one.prefix.partition(":")[0])
    return drawn


def duration(seconds: float) -> str:
    """Return seconds as text: `45 s`, `3.5 min`, `1.2 h`."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
