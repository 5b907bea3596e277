"""Prepare a training run: check everything that can be checked, and choose what trains. `Run.fit` then trains."""

import copy
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from adapt.checks import check_type, is_number
from adapt.data.lengths import Check
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.normalisers import Normalise
from adapt.data.replay import Replay, replay_count
from adapt.data.selection import load_selections, save_selections
from adapt.data.splits import SPLITS, OnError, check_splits
from adapt.data.tuning_data import TuningData
from adapt.data.unread import Unread
from adapt.distributed import is_first
from adapt.errors import InputError
from adapt.files import is_file, read_json, write_json
from adapt.introspect.topography.cells import cells_of_model, cells_to_text
from adapt.models.devices import device_of
from adapt.models.factors import merge_factors
from adapt.models.loaded import Loaded
from adapt.models.mapped import map_weights
from adapt.models.model import Model
from adapt.models.recipe import Schedule
from adapt.models.state import model_fingerprint
from adapt.models.writing import choose_normaliser
from adapt.training.adapted import Adapted
from adapt.training.alphabet import with_alphabet
from adapt.training.blend import Blend, Blending, blended
from adapt.training.checkpoints import spent
from adapt.training.defaults import Defaults, default_rate, lacks_rate, what_trains, with_rate
from adapt.training.dry_run import Cost, Setup, dry_run
from adapt.training.fit import fit, watch
from adapt.training.long_recordings import Cuts, cut_splits, save_cuts
from adapt.training.module import AdaptationModule, MakeOptimizer
from adapt.training.optimizers import check_steps, checked_optimizer
from adapt.training.option_checks import Every, check_options
from adapt.training.own_writing import WrittenLike, check_written_like, in_own_writing
from adapt.training.prefix_cache import Cache
from adapt.training.start import Start, loader_options, plain, replay_of_run, started_without
from adapt.training.timestamps import set_timestamps, timestamp_share
from adapt.training.trainer import bare_trainer
from adapt.training.unchanged import check_frozen, frozen_buffers
from adapt.tuning.layers import full
from adapt.tuning.penalty import Penalty
from adapt.tuning.rates import layer_rates
from adapt.tuning.surgical import auto_rgn
from adapt.tuning.topographic import Topographic
from adapt.tuning.tuned import Tuned, Tuning
from adapt.tuning.unfreeze import Unfreeze, gradual
from interventions.freeze import freeze_all_but, updated_norms
from interventions.rows import merge_rows

log = logging.getLogger(__name__)

REPLAY = 0.2  # the share of source examples, where there are any: docs/results/demo.md has the measurement
_RATES = ("layer-rates.json", "choice-rates.json")  # the second name was used up to version 0.1

MakePenalty = Callable[[Model, TuningData | None], Penalty | None]
MakeTopographic = Callable[..., Topographic | None]


@dataclass
class Run:
    """A training run that has been checked and can start.

    Attributes:
        base: The model to start from; it is not changed.
        unmodified: The base with the alphabet of the run: `base.model` itself unless the alphabet changes.
        module: The Lightning module around the copy that trains.
        splits: The examples that can be used.
        skipped: For each example that cannot be used: a sentence that says why.
        tuned: The parameters that train, and how they were selected.
        topographic: The topographic loss, if any.
        start: What the run is started with; None in a process that only helps to train.
        blending: How the result is blended with the base.
        trains: What kind of parameters train, in words.
        cuts: How long recordings were cut.
        on_error: What to do about examples that turn out to be unreadable: "stop" or "skip".
        defaults: The options that the model's family filled in.
        every: How often a checkpoint is written within an epoch; None for never.
    """

    base: Loaded
    unmodified: Model
    module: AdaptationModule
    splits: Splits
    skipped: list[str]
    tuned: Tuned
    topographic: Topographic | None
    loader: Loader
    trainer: Callable[..., Any]
    cache: Cache
    replay: Replay
    monitor: str | None
    patience: int | None
    augment: nn.Module
    measured_rates: Mapping[str, float] | None
    learned: dict[str, Any]
    start: Start | None
    blending: Blending
    cuts: Cuts
    on_error: OnError = "stop"
    trains: str = ""
    defaults: Defaults = Defaults("", "")
    every: Every | None = None

    @property
    def learning_rate(self) -> float | None:
        """The highest learning rate; None if the optimizer has none that is a number."""
        rate = _optimizer_options(self.module.make_optimizer).get("lr")
        return rate if is_number(rate) else None

    def fit(self, folder: Path, logger: Any = False, started: float | None = None) -> Adapted | None:
        """Train, and return the model of the best epoch.

        Args:
            folder: Where checkpoints and selections are kept. Training continues from the checkpoint found there.
            logger: One of Lightning's loggers, or False.
            started: When the run began in this process, as a value of `time.perf_counter()`; None for now.

        Returns:
            The trained model; None in a process that only helps to train.
        """
        started = time.perf_counter() if started is None else started
        checkpoints = folder / "checkpoints"
        if self.start is not None:
            self.start.check(folder)
            self.start.write(folder, ())
            save_selections(folder, self.tuned.selections)
            save_cuts(folder, self.cuts)
            if self.measured_rates is not None:
                write_json(folder / _RATES[0], dict(self.measured_rates))
        if self.module.penalty is not None:
            self.module.penalty.prepare(checkpoints)
        if self.topographic is not None:
            self.topographic.prepare(checkpoints)
        if self.start is not None:
            measured = [checkpoints / name for name in ("fisher.safetensors", "topographic.json")]
            self.start.write(folder, [*measured, folder / _RATES[0], *folder.glob("selection*.safetensors")])
        map_weights(self.unmodified, checkpoints)  # it is not needed before the end, when it is compared
        self._log_start()
        earlier, unread = spent(checkpoints), Unread(self.on_error)
        history = fit(
            self.module, self.splits, self.loader, self.trainer, checkpoints, self.monitor, self.patience, logger,
            self.replay, self.cache, started, unread, self.every,
        )  # fmt: skip
        self._leave_out(unread)
        if not is_first():
            return None
        self.module.to(device_of(self.unmodified))  # Lightning leaves a model on the CPU
        adapted = blended(self._adapted(folder, history), self.unmodified, self.splits, self.loader, self.blending)
        return replace(adapted, seconds=earlier + time.perf_counter() - started)

    def _leave_out(self, unread: Unread) -> None:
        # What could not be read in training is not read afterwards, and is reported with what was skipped before.
        if not unread.found:
            return
        reasons = list(unread.found.values())
        log.warning(
            "Examples that could not be read in training, and were left out: %d, the first: %s",
            len(reasons),
            reasons[0],
        )
        self.skipped += reasons
        parts = {name: getattr(self.splits, name) for name in SPLITS}
        read = {
            name: tuple(one for one in examples if (one.where or one.name) not in unread.found)
            for name, examples in parts.items()
        }
        self.splits = replace(self.splits, **read)

    def dry_run(self) -> list[Cost]:
        """Measure what a training step costs, compared with full fine-tuning and LoRA. Nothing is trained."""
        trainer = bare_trainer(self.trainer)
        plain = copy.deepcopy(self.unmodified)
        plain.set_augment(self.augment)
        setup = Setup(
            self.splits, self.loader, self.module.make_optimizer, self.cache,
            trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None, Path.cwd(), trainer.strategy.root_device,
            trainer.precision_plugin.forward_context, self.replay,
        )  # fmt: skip
        return dry_run(self.module.model, plain, setup)

    def _log_start(self) -> None:
        parameters = list(self.module.model.parameters())
        trains = sum(p.numel() for p in parameters if p.requires_grad)
        total = sum(p.numel() for p in self.unmodified.parameters())
        again = replay_count(self.replay, len(self.splits.train), len(self.splits.source_train))
        rate, epochs = self.learning_rate, getattr(self.trainer, "keywords", {}).get("max_epochs")
        log.info(
            "Training %s of %s weights (%.1f %%) on %d %ss%s%s%s.",
            f"{trains:,}", f"{total:,}", 100 * trains / total, len(self.splits.train),
            self.module.task.example_name, f", and {again} of the source in each epoch" if again else "",
            f", for {epochs} epochs" if epochs else "", f", at a learning rate of {rate:g}" if rate else "",
        )  # fmt: skip
        norms = updated_norms(self.module.model)
        if norms:
            log.info("Training also updates the running statistics of %d batch norms.", len(norms))
        unfreeze = self.module.unfreeze
        if isinstance(unfreeze, Unfreeze) and epochs is not None and unfreeze.epochs > epochs:
            log.info("All layers would train from epoch %d on, but there are only %d.", unfreeze.epochs, epochs)

    def _adapted(self, folder: Path, history: list[dict[str, float]]) -> Adapted:
        model = self.module.model
        if isinstance(self.module.unfreeze, Unfreeze):
            # Layers that were not unfrozen before the end count as trained too: the run could have trained them.
            self.module.unfreeze(model, self.module.unfreeze.epochs)
        whole = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
        frozen = frozen_buffers(model)
        merged_rows = merge_rows(model)
        rows = {name: len(units) for name, units in merged_rows.items()}
        merged = merge_factors(model)
        counts = merged.counts
        # Compared by identity, because the parameters of a module with factors had other names during training.
        trained = tuple(
            name
            for name, parameter in model.named_parameters()
            if id(parameter) in whole or name in rows or name in counts
        )
        check_frozen(self.unmodified, model, trained, merged_rows, merged, frozen)
        # Sites without a new grid keep that of the base, which is still the best map of their units.
        cells = self.learned | ({} if self.topographic is None else self.topographic.cells)
        grids = {"topographic": cells_to_text(cells)} if cells else {}
        model.eval()
        set_timestamps(model, 0.0)  # for training only
        base = {"reference": self.base.reference, "fingerprint": self.base.fingerprint}
        record = {"trained": list(trained), "trained_rows": rows, "trained_factors": counts}
        header = {**model.header(), **record, "base": {**base, "model": self.base.model.header()}, **grids}
        loaded = Loaded(model, str(folder), model_fingerprint(model), header)
        return Adapted(
            self.base, loaded, trained, rows, merged.factors, counts, grids, history, self.tuned.selections,
            self.skipped,
        )  # fmt: skip


def prepare(
    base: Loaded,
    splits: Splits,
    tuning: Tuning = full,
    *,
    loader: Loader,
    trainer: Callable[..., Any],
    optimizer: MakeOptimizer,
    cache: Cache | None = None,
    augment: nn.Module | None = None,
    penalty: MakePenalty | None = None,
    topographic: MakeTopographic | None = None,
    schedule: Schedule | None = None,
    warmup: float | None = None,
    layer_decay: float = 1.0,
    rates: Mapping[str | int, float] | str | None = None,
    unfreeze: int | None = None,
    replay: Replay | None = None,
    alphabet: str = "keep",
    monitor: str | None = None,
    patience: int | None = None,
    blend: Blend = "off",
    forget: float | str | None = None,
    seed: int = 0,
    on_error: OnError = "stop",
    check: Check = "headers",
    timestamps: float | None = None,
    normalise: Normalise = "auto",
    written_like: WrittenLike = "references",
    checkpoint_every: int | str | None = None,
    resume_from: Path | None = None,
) -> Run:
    """Check a run and choose what trains.

    Args:
        base: The model to start from. A copy of it is trained.
        splits: `train` is trained on and `validation` picks the best epoch; `source_train` can be replayed.
        tuning: What may train; `adapt.tunings` has them.
        loader: Batches the examples.
        trainer: A function that takes the remaining options of `pytorch_lightning.Trainer` and returns one.
        optimizer: A function that takes the parameters and returns an optimizer. If it is a `partial` with `lr=None`,
            it gets the learning rate of the model's family for what trains (`adapt/models/recipe.py`).
        cache: Whether the outputs of frozen lower layers may be cached on disk while training; None for no.
        augment: Augments features `(batch, features, time)` while training.
        penalty: Makes a penalty on moving away from the base (`adapt.tuning.penalty`).
        topographic: Makes a topographic loss (`adapt.tuning.topographic`).
        schedule: "constant", "linear" or "cosine" decay of the learning rate; None for the family's own.
        warmup: The share of all steps over which the learning rate rises; None for the family's own.
        layer_decay: The ratio of each layer's learning rate to that of the layer above.
        rates: Further learning-rate factors by layer or parameter, or "auto" for auto-RGN.
        unfreeze: Unfreeze one more layer after every `unfreeze` epochs, from the top down; None trains all at once.
        replay: The share of an epoch's examples that come from `source_train`, or "all" to use all of them; None: a
            fifth if there are any, otherwise 0.
        alphabet: "keep", "extend", or "=" followed by characters (`with_alphabet`).
        monitor: The value that decides on the best epoch, such as "val_wer"; None for the task's first metric.
        patience: Stop after this many epochs without improvement; None never stops early.
        blend: "auto" searches for a blend with the base on validation data, "off" keeps what was trained, and a number
            is the factor from 0 (the base) to 1 (`adapt.training.blend`).
        forget: How much worse the source may become in the blend: in points of the metric, or "10%" of the base's.
        seed: Seed of each epoch's random state.
        on_error: What to do about examples that cannot be used: "stop" or "skip".
        check: "headers" checks the headers of the training recordings, and finds what is damaged inside of them in
            training, where `on_error` decides; "full" decodes them before (`adapt.data.splits.check_splits`).
        timestamps: The share of examples of a Whisper that are trained on targets with timestamps
            (`adapt.training.timestamps`); None for half.
        normalise: How texts are normalised before they are compared (`adapt.models.writing.choose_normaliser`): "auto",
            "none", "basic" or "english". It is not applied to what the model learns.
        written_like: What the texts to learn are written like: "references" as they are, "model" in the base's own
            punctuation, case and digits where its words agree (`adapt.training.own_writing`).
        checkpoint_every: How often a checkpoint is written within an epoch: a number of steps, or a time such as "10m"
            (`adapt.training.within_epoch`); None for one checkpoint after each epoch.
        resume_from: The folder of an interrupted run, whose selections are used again.

    Returns:
        The run, ready to `fit`.

    Raises:
        InputError: an option is out of range, or the model and the data do not fit each other.
    """
    check_type("loader", loader, Loader, "Give Loader(batch_seconds=24), say.")
    for name, made, functions in (("penalty", penalty, "adapt.tuning.penalty"),
                                  ("topographic", topographic, "adapt.tuning.topographic")):  # fmt: skip
        if made is not None and not callable(made):
            raise InputError(f"{name} must be a function of {functions}, or partial() of one, or None; got {made!r}.")
    check_options(
        schedule=schedule, warmup=warmup, layer_decay=layer_decay, unfreeze=unfreeze, replay=replay, patience=patience,
        blend=blend, forget=forget, timestamps=timestamps, checkpoint_every=checkpoint_every,
    )  # fmt: skip
    device = bare_trainer(trainer).strategy.root_device
    scratch, rateless = base.reference == "new", lacks_rate(optimizer)
    blending, every = Blending.of(blend, forget), Every.of(checkpoint_every)
    if replay is None:
        replay = REPLAY if splits.source_train and not scratch else 0.0
        if resume_from is not None:
            replay = replay_of_run(resume_from, replay)
    make_optimizer = checked_optimizer(with_rate(optimizer, 1e-3) if rateless else optimizer)
    recipe = base.model.recipe
    schedule = recipe.schedule if schedule is None else schedule
    warmup = (recipe.scratch_warmup if scratch else recipe.warmup) if warmup is None else warmup
    texts = (example.text for example in (*splits.train, *splits.validation))
    unmodified = with_alphabet(base.model, alphabet, texts)
    if resume_from is not None:  # a run of an earlier version goes on as it began
        if timestamps is None and started_without(resume_from, "timestamps"):
            timestamps = 0.0
        if normalise == "auto" and started_without(resume_from, "normalise"):
            normalise = "none"
        if check == "headers" and started_without(resume_from, "check"):
            check = "full"
    share = timestamp_share(unmodified, timestamps)
    # Chosen before examples are left out, which only the first process does: all processes need the same one.
    heard = (*splits.train, *splits.validation, *splits.test, *splits.source_test)
    normaliser = choose_normaliser(unmodified, heard, normalise)
    skipped: list[str] = []
    cuts: Cuts = {}
    if is_first():  # the first process checks the examples and tells the others which are usable
        splits, cuts, left_out = cut_splits(base, unmodified, splits, resume_from)
        check_written_like(unmodified, splits, written_like)
        splits, skipped = check_splits(splits, unmodified, on_error, loader.speeds, check=check, long_tests=True)
        skipped += left_out
        splits = in_own_writing(unmodified, splits, loader) if written_like == "model" else splits
    if not splits.train:
        raise InputError("There is nothing to train on: give data.train=...")
    replay_count(replay, len(splits.train), len(splits.source_train))
    blending, splits = blending.prepared(splits, replay)
    model = copy.deepcopy(unmodified)
    set_timestamps(model, share)
    model.task = replace(model.task, normaliser=normaliser)
    selections = {} if resume_from is None else load_selections(resume_from)
    data = TuningData(splits.train, splits.source_train, loader, selections)
    measured = _measured_rates(model, data, resume_from) if rates == "auto" else None
    tuned = tuning(model, data)
    freeze_all_but(model, tuned.names)
    if rateless:
        make_optimizer = with_rate(optimizer, default_rate(model, tuned.names, scratch))
    augment = nn.Identity() if augment is None else augment
    model.set_augment(augment)
    made_penalty = None if penalty is None else penalty(model, data)
    learned = cells_of_model(base.header, base.reference)
    grids = None if topographic is None else topographic(model, learned=learned)
    given = None if isinstance(rates, str) and rates == "auto" else cast(Mapping[str | int, float] | None, rates)
    factors = layer_rates(model, tuned.names, layer_decay, given, measured)
    check_steps(make_optimizer, model, factors, device)
    schedule_of_layers = None if unfreeze is None else gradual(model, tuned.names, unfreeze)
    module = AdaptationModule(
        model,
        model.task,
        make_optimizer,
        schedule,
        warmup,
        seed,
        factors,
        made_penalty,
        schedule_of_layers,
        grids,
        "" if scratch else base.fingerprint,
    )
    watch(model.task.metrics, monitor, patience)
    start = None
    if is_first():
        options = {
            "trainer": getattr(trainer, "keywords", {}), "loader": loader_options(loader), "augment": augment,
            "optimizer": _optimizer_options(make_optimizer), "penalty": made_penalty, "topographic": grids,
            "schedule": schedule, "warmup": warmup, "layer_decay": layer_decay, "rates": rates, "unfreeze": unfreeze,
            "replay": replay, "monitor": monitor, "patience": patience, "blend": blend, "forget": forget, "seed": seed,
            "timestamps": share, "normalise": normalise, "written_like": written_like,
            "check": check, "model": dict(model.header()), "trained": sorted(tuned.names),
        }  # fmt: skip
        start = Start.of(base, splits, options)
        if resume_from is not None:
            start.check(Path(resume_from))
    return Run(
        base, unmodified, module, splits, skipped, tuned, grids, loader, trainer, cache or Cache("off"), replay,
        monitor, patience, augment, measured, learned, start, blending, cuts,
        on_error, what_trains(model, tuned.names), every=every,
    )  # fmt: skip


def _optimizer_options(make: MakeOptimizer) -> dict[str, Any]:
    optimizer = make([{"params": [nn.Parameter(torch.zeros(1))]}])
    return {"type": type(optimizer).__name__, **{name: plain(value) for name, value in optimizer.defaults.items()}}


def _measured_rates(model: Model, data: TuningData, resume_from: Path | None) -> Mapping[str, float]:
    for name in _RATES if resume_from is not None else ():
        path = Path(str(resume_from)) / name
        if is_file(path):
            return read_json(path)
    return auto_rgn(model, data)
