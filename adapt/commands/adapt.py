"""`innertune adapt`: adapt a model to new data, and report what changed."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.build import build, build_splits, grouping
from adapt.commands._finish import finish
from adapt.comparison.compare import check_counts, compare_texts
from adapt.data.manifest import Splits
from adapt.data.replay import replayed
from adapt.data.sample import Sample
from adapt.data.splits import check_splits
from adapt.distributed import is_first
from adapt.errors import InputError
from adapt.introspect.topography.cells import cells_of_model, cells_to_text
from adapt.models.checkpoint import model_fingerprint, save_adaptation
from adapt.models.factors import merge_factors
from adapt.models.inference import decode_examples
from adapt.models.labels import Labels
from adapt.models.loaded import Loaded
from adapt.models.model import CTCModel
from adapt.run import check_flags, check_output, open_run, output_folder
from adapt.training.dry_run import Training, dry_run, table
from adapt.training.fit import fit, spent, watch
from adapt.training.module import AdaptationModule, checked_optimizer
from adapt.tuning.choice import sentences
from adapt.tuning.rates import layer_rates
from adapt.tuning.surgical import KEPT_RATES, auto_rgn
from adapt.tuning.unfreeze import gradual
from interventions.freeze import freeze_all_but
from interventions.rows import merge_rows

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Adapt as `conf/adapt.yaml` says. Leaves what DESIGN calls an adaptation, with metrics, report and checkpoints.

    With `dry_run=true` it only prints what that would cost.
    """
    import copy

    import pytorch_lightning as pl

    started = time.perf_counter()
    check_flags(cfg)
    if not cfg.dry_run:
        check_output(cfg)
    check_counts(causes=cfg.causes, inside=cfg.inside, players=cfg.players)
    pl.seed_everything(cfg.seed, verbose=False)
    base: Loaded = build(cfg.model)
    if base.reference == "new":
        raise InputError(
            "adapt needs a model to start from: model.pretrained=DIR, FILE or an embedded name. "
            "To train one from scratch use `innertune pretrain`."
        )
    splits: Splits = build_splits(cfg.data)
    model = with_alphabet(base.model, cfg.alphabet, splits)
    skipped: list[str] = []
    if is_first():  # the others are given what it found fit
        splits, skipped = check_splits(splits, model, cfg.data.on_error)
    if not splits.train or not splits.test:
        raise InputError("adapt needs something to train on and something to test on: data.train=... and data.test=...")
    again = replayed(cfg.replay, len(splits.train), len(splits.source_train))
    model = model if model is not base.model else copy.deepcopy(model)
    weights = sum(p.numel() for p in model.parameters())
    loader, make_trainer, cache = build(cfg.loader), build(cfg.trainer), build(cfg.cache)
    make_optimizer = checked_optimizer(build(cfg.optimizer))
    choice = output_folder(cfg) / "choice.safetensors"
    plain = copy.deepcopy(model) if cfg.dry_run else None
    sample = Sample(splits.train, splits.source_train, loader, None if cfg.dry_run else choice)
    with _unless_refused(cfg, choice):
        measured = auto_rgn(model, sample) if cfg.rates == "auto" else None
        trained = build(cfg.tuning)(model, sample=sample)
        freeze_all_but(model, trained)
        model.set_augment(build(cfg.augment))
        keep = build(cfg.keep)(model, sample=sample)
        learned = cells_of_model(base.header, base.reference)
        topographic = build(cfg.topographic)(model, learned=learned)
        rates = layer_rates(model, trained, cfg.layer_decay, None if cfg.rates == "auto" else cfg.rates, measured)
        unfreeze = None if cfg.unfreeze is None else gradual(model, trained, cfg.unfreeze)
        module = AdaptationModule(
            model, model.task, make_optimizer, cfg.schedule, cfg.warmup, cfg.seed, rates, keep, unfreeze, topographic
        )
        watch(model.task.metrics, cfg.monitor, cfg.patience)
        if plain is not None:
            plain.set_augment(build(cfg.augment))
            _dry_run(cfg, model, plain, splits, loader, make_trainer, make_optimizer, cache)
            return
        folder = open_run(cfg)
    logger = build(cfg.logger)(folder)
    if keep is not None:
        keep.prepare(folder / "checkpoints")
    if topographic is not None:
        topographic.prepare(folder / "checkpoints")
        learned |= topographic.cells

    sets = {name: part for name, part in (("target", splits.test), ("source", splits.source_test)) if part}
    before: dict[str, list[str]] = {}
    if is_first():
        log.info("Base: %s. Before:", base.reference)
        before = _answers(base.model, sets, loader)
    free = sum(p.numel() for p in model.parameters() if p.requires_grad)
    log.info(
        "Training %s of %s weights (%.1f %%) on %d %ss%s.",
        f"{free:,}", f"{weights:,}", 100 * free / weights, len(splits.train), model.task.example_name,
        f", and {again} of the source in each epoch" if again else "",
    )  # fmt: skip
    if unfreeze is not None and unfreeze.epochs > make_trainer.keywords.get("max_epochs", unfreeze.epochs):
        log.info("All layers would train from epoch %d on; there are not as many.", unfreeze.epochs)
    earlier = spent(folder / "checkpoints")
    history = fit(
        module, splits, loader, make_trainer, folder / "checkpoints", cfg.monitor, cfg.patience, logger, cfg.replay,
        cache, started,
    )  # fmt: skip
    if not is_first():
        return
    if unfreeze is not None:
        unfreeze(model, unfreeze.epochs)  # what still waited counts as what might have trained
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    rows, merged = {name: len(units) for name, units in merge_rows(model).items()}, merge_factors(model)
    whole = {id(parameter) for parameter in free}  # by what they are: inside of factors they had other names
    trained = [
        name
        for name, parameter in model.named_parameters()
        if id(parameter) in whole or name in rows or name in merged.counts
    ]
    # Of units that lay on a grid before and do not now, it is still the best map there is.
    grids = {"topographic": cells_to_text(learned)} if learned else {}
    save_adaptation(
        folder / "adaptation", base, model, merged.factors,
        trained=trained, trained_rows=rows, trained_factors=merged.counts, **grids,
    )  # fmt: skip
    log.info("After:")
    after = _answers(model, sets, loader)
    adapted = Loaded(model, str(folder), model_fingerprint(model), {**model.header(), **grids})
    comparison = compare_texts(
        base, adapted, sets, before, after, loader, grouping(cfg.data), trained, rows, merged.counts,
        causes=cfg.causes, inside=cfg.inside, players=cfg.players,
        title=cfg.title, history=history, skipped=skipped, config=OmegaConf.to_yaml(cfg, resolve=True),
        choice=sentences(choice),
    )  # fmt: skip
    comparison = replace(comparison, seconds=earlier + time.perf_counter() - started)
    finish(folder, cfg, comparison, adapted, logger)


@contextmanager
def _unless_refused(cfg: DictConfig, choice: Path) -> Iterator[None]:
    """For a block in which a new run chooses what trains: no other run's choice is read, and if it is refused after
    all, nothing is left of its own.
    """
    folder = choice.parent
    if cfg.dry_run or not is_first() or (cfg.resume and not cfg.overwrite and (folder / "config.yaml").is_file()):
        yield
        return

    def clear() -> None:
        for other in (*folder.glob("choice*.safetensors"), choice.with_name(KEPT_RATES)):
            other.unlink(missing_ok=True)

    there = folder.exists()
    clear()
    try:
        yield
    except BaseException:
        clear()
        if not there:
            with suppress(OSError):  # none, or something else lies there by now
                folder.rmdir()
        raise


def with_alphabet(model: Any, alphabet: str, splits: Splits) -> Any:
    """The model, its output layer rebuilt where it is to write other characters (Kunze et al. 2017).

    `alphabet` is "keep", "extend" (add what the training and validation texts have besides), or "=" and the characters.
    """
    if alphabet == "keep":
        return model
    if not isinstance(model, CTCModel) or model.labels is None:
        raise InputError(
            f"alphabet={alphabet} is for models with an alphabet of their own (wav2letter); this one writes what its "
            "tokenizer does. Leave it out (alphabet=keep)."
        )
    if alphabet == "extend":
        labels = model.labels.extended(example.text for example in (*splits.train, *splits.validation))
    elif str(alphabet).startswith("="):
        labels = Labels.of(str(alphabet)[1:])
    else:
        raise InputError(f"alphabet must be keep, extend, or '=' and the characters, got {alphabet!r}.")
    if labels == model.labels:
        return model
    kept = [c for c in labels.characters if c and c in model.labels.characters]
    new = [c for c in labels.characters if c not in model.labels.characters]
    log.info("Output layer rebuilt: %d characters kept, %d new (%s).", len(kept), len(new), "".join(new))
    return model.with_labels(labels)


def _dry_run(
    cfg: DictConfig, model: Any, plain: Any, splits: Splits, loader: Any, make_trainer: Any, make_optimizer: Any,
    cache: Any,
) -> None:  # fmt: skip
    from rich.console import Console

    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    trainer = make_trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    epochs = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None
    training = Training(
        splits, loader, make_optimizer, cache, epochs, Path.cwd(), trainer.strategy.root_device,
        trainer.precision_plugin.forward_context, cfg.replay,
    )  # fmt: skip
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table(dry_run(model, plain, training)))


def _answers(model: Any, sets: dict[str, Any], loader: Any) -> dict[str, list[str]]:
    texts = {}
    for name, examples in sets.items():
        texts[name] = decode_examples(model, model.task, examples, loader, name)
        quality = model.task.evaluate([example.text for example in examples], texts[name])
        log.info("  %s: %s (%d %ss)", name, quality, len(quality), model.task.example_name)
    return texts
