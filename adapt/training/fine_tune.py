"""Fine-tuning and pretraining as functions, with the defaults of the commands.

adapted = fine_tune(load_model("us-english"), splits, tuning, epochs=2)
adapted.save("scottish/adaptation")
"""

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch

from adapt.checks import check_count, check_flag, check_number, check_type
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.files import is_file, user_path
from adapt.models.devices import device_of
from adapt.models.loaded import Loaded
from adapt.training.adapted import Adapted
from adapt.training.defaults import Defaults, lacks_rate, recipe_options
from adapt.training.prefix_cache import Cache
from adapt.training.prepare import prepare
from adapt.tuning.layers import full
from adapt.tuning.tuned import Tuning

log = logging.getLogger(__name__)


def fine_tune(
    base: Loaded,
    splits: Splits,
    tuning: Tuning = full,
    *,
    epochs: int | None = None,
    learning_rate: float | None = None,
    folder: Path | str | None = None,
    resume: bool = False,
    logger: Any = False,
    seed: int = 0,
    **options: Any,
) -> Adapted:
    """Fine-tune a copy of a model on the CPU, with the defaults of `innertune adapt`.

    Args:
        base: The model to start from (`load_model`); it is not changed.
        splits: Training and validation examples, for example from `accents()` or `read_splits(train=...)`.
        tuning: What may train; see `adapt.tunings`.
        epochs: The number of epochs; None for what the model's family needs for so many examples
            (`adapt/models/recipe.py`).
        learning_rate: The highest learning rate of AdamW; None for that of the family, the size of the network and what
            trains.
        folder: Where to keep checkpoints; None keeps them only while training.
        resume: Continue the interrupted run in `folder`.
        logger: One of Lightning's loggers, or False.
        seed: The same seed reproduces a run on the same machine.
        options: Further options of `adapt.training.prepare.prepare`; `trainer=` and `optimizer=` replace the defaults.
            `loader`, `schedule` and `warmup` are by default those of the family.

    Returns:
        The trained model with its record.

    Raises:
        InputError: as `prepare`, or `folder` holds a run and `resume` is False.
    """
    from torch.optim import AdamW

    _check(base, splits, learning_rate, seed)
    own = recipe_options(base.model, len(splits.train))
    replaced = {"epochs": epochs, "schedule": options.get("schedule"), "warmup": options.get("warmup")}
    replaced |= dict.fromkeys(("speeds", "batch_tokens"), options.get("loader"))
    replaced |= {"epochs": options["trainer"]} if "trainer" in options else {}
    filled = {name: value for name, value in own.items() if replaced[name] is None}
    own_loader = {name: own[name] for name in ("speeds", "batch_tokens") if name in own}
    options = {
        "loader": Loader(**own_loader, seed=seed),
        "optimizer": partial(cast(Any, AdamW), lr=learning_rate, weight_decay=0.0),
        "cache": Cache(), "blend": "auto", **options,
    }  # fmt: skip
    count: int = own["epochs"] if epochs is None else epochs
    return _train(base, splits, tuning, count, folder, resume, logger, seed, options, filled)


def pretrain(
    base: Loaded,
    splits: Splits,
    *,
    epochs: int = 12,
    learning_rate: float | None = None,
    folder: Path | str | None = None,
    resume: bool = False,
    logger: Any = False,
    seed: int = 0,
    **options: Any,
) -> Adapted:
    """Train a new model from random weights, with the defaults of `innertune pretrain`.

    Args:
        base: A model with random weights, such as `wav2letter_small()`.
        splits: Training and validation examples.
        epochs: The number of epochs.
        learning_rate: The highest learning rate of Adam; None for one that fits the size of the network.
        folder: As in `fine_tune`.
        resume: As in `fine_tune`.
        logger: As in `fine_tune`.
        seed: As in `fine_tune`.
        options: Further options of `adapt.training.prepare.prepare`.

    Returns:
        The trained model; `save_model` writes it.

    Raises:
        InputError: as `fine_tune`.
    """
    from torch.optim import Adam

    _check(base, splits, learning_rate, seed)
    options = {"loader": Loader(seed=seed), "optimizer": partial(cast(Any, Adam), lr=learning_rate), **options}
    return _train(base, splits, full, epochs, folder, resume, logger, seed, options, {})


def default_trainer(epochs: int, device: torch.device) -> Callable[..., Any]:
    """Return a function that makes a trainer with one process on a device, as `conf/trainer/auto.yaml` does."""
    import pytorch_lightning as pl

    return partial(
        pl.Trainer,
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        max_epochs=epochs,
        gradient_clip_val=1.0,
        log_every_n_steps=10,
    )


def _check(base: Any, splits: Any, learning_rate: Any, seed: Any) -> None:
    check_type("base", base, Loaded, "load_model() returns one.")
    check_type("splits", splits, Splits, "accents(), domains() and read_splits() return one, or Splits(train=...).")
    if learning_rate is not None:
        check_number("learning_rate", learning_rate, 0.0)
    check_count("seed", seed, 0, 2**32 - 1)


def _train(
    base: Loaded,
    splits: Splits,
    tuning: Tuning,
    epochs: int,
    folder: Path | str | None,
    resume: bool,
    logger: Any,
    seed: int,
    options: dict[str, Any],
    filled: dict[str, Any],
) -> Adapted:
    import pytorch_lightning as pl

    started = time.perf_counter()
    if not callable(tuning):
        raise InputError(f"tuning must be one of adapt.tunings, such as tunings.head(); got {tuning!r}.")
    check_flag("resume", resume)
    if resume and folder is None:
        raise InputError("resume=True needs folder=, where the interrupted run is.")
    known = {name for name, one in signature(prepare).parameters.items() if one.kind is one.KEYWORD_ONLY}
    if not options.keys() <= known:
        name = min(options.keys() - known)
        raise InputError(
            f"There is no option {name}. Options: epochs, learning_rate, folder, resume, logger, "
            f"{', '.join(sorted(known - {'resume_from'}))}."
        )
    pl.seed_everything(seed, verbose=False)
    place = None if folder is None else user_path(folder)
    interrupted = place is not None and is_file(place / "checkpoints" / "last.ckpt")
    if interrupted and not resume:
        raise InputError(f"'{place}' holds a run already. Give resume=True to continue it, or another folder.")
    trainer = default_trainer(epochs, device_of(base.model))
    options = {"trainer": trainer, "resume_from": place if interrupted else None, **options}
    run = prepare(base, splits, tuning, seed=seed, **options)
    if lacks_rate(options["optimizer"]):
        filled = {"learning_rate": run.learning_rate, **filled}
    run = replace(run, defaults=Defaults(base.model.recipe.family, run.trains, filled))
    if filled:
        log.info("%s", run.defaults)
    with TemporaryDirectory() as passing:
        adapted = run.fit(place or Path(passing), logger, started)
    if adapted is None:
        raise SystemExit(0)  # a process that only helped to train ends here; the first one continues
    return adapted
