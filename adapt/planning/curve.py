"""A learning curve: train on nested subsets of the data, in several orders, and measure each model on the test data."""

import hashlib
import json
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any

from adapt.checks import check_count, check_share
from adapt.data.example import Example
from adapt.data.loader import as_loader
from adapt.data.manifest import Splits
from adapt.data.splits import check_splits
from adapt.errors import InputError
from adapt.files import is_file, make_folder, read_json, user_path, write_json
from adapt.formatting import amount, duration
from adapt.metrics import Metric, TextScores
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.models.writing import choose_normaliser
from adapt.training.fine_tune import fine_tune
from adapt.training.start import described, digests, loader_options
from adapt.tuning.layers import full
from adapt.tuning.tuned import Tuning

log = logging.getLogger(__name__)
SHARES = (0.125, 0.25, 0.5, 1.0)
ORDERS = 2
EPOCHS = 5
MOST_EPOCHS = 4  # times the epochs with all data


@dataclass(frozen=True)
class CurvePoint:
    """One trained model of a learning curve.

    Attributes:
        order: The number of the random order of the data, from 0.
        share: The share of the data that it was trained on: the first ones in this order.
        size: How much that is, in the curve's unit.
        examples: The number of examples.
        epochs: The number of epochs.
        value: The main metric on the test data.
        seconds: How long training and decoding took.
    """

    order: int
    share: float
    size: float
    examples: int
    epochs: int
    value: float
    seconds: float


@dataclass(frozen=True)
class LearningCurve:
    """The test results of models that were trained on more and more of the data.

    Attributes:
        metric: The task's main metric.
        unit: The unit of sizes: "minutes" of audio, or "sentences".
        before: The value of the metric before training.
        points: One point per order and share, by order and then by size.
        scores: The scores of the test examples at each point, with which `forecast` resamples them.
        settings: How the models were trained.
    """

    metric: Metric
    unit: str
    before: float
    points: tuple[CurvePoint, ...]
    scores: tuple[TextScores, ...] = field(repr=False)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def orders(self) -> int:
        """The number of orders of the data."""
        return len({point.order for point in self.points})

    @property
    def size(self) -> float:
        """The size of all the data."""
        return max(point.size for point in self.points)

    def figures(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`."""
        return {
            "metric": self.metric.key, "unit": self.unit, "before": self.before,
            "test_examples": len(self.scores[0]), "settings": self.settings,
            "points": [asdict(point) for point in self.points],
        }  # fmt: skip


@dataclass(frozen=True)
class Subset:
    """A run of a learning curve: the first part of the data in one order, and for how many epochs it trains."""

    order: int
    share: float
    train: tuple[Example, ...]
    size: float
    epochs: int


def learning_curve(
    base: Loaded,
    splits: Splits,
    tuning: Tuning = full,
    *,
    shares: Sequence[float] = SHARES,
    orders: int = ORDERS,
    epochs: int = EPOCHS,
    folder: Path | str | None = None,
    trainer: Callable[..., Any] | None = None,
    seed: int = 0,
    **options: Any,
) -> LearningCurve:
    """Train on nested subsets of `splits.train`, and measure each model on `splits.test`.

    In each of several random orders of the data, a subset has the first examples up to its share of the minutes (or
    sentences). A smaller subset trains for more epochs, so that all take about as many steps (but at most 4 times
    `epochs`): otherwise the curve would show the effect of fewer steps too.

    Args:
        base: The model to start from; it is not changed.
        splits: `train` is divided; `validation` selects the best epoch; `test` measures.
        tuning: What may train; see `adapt.tunings`.
        shares: The shares of the data, above 0 and up to 1. 1 is added if it is missing.
        orders: The number of random orders of the data. With one, there is no interval over orders.
        epochs: The number of epochs with all the data. Fewer than an adaptation has are enough for a forecast.
        folder: Where the results of finished runs are kept, so that an interrupted curve continues; None for nowhere.
        trainer: Makes a Lightning trainer (`conf/trainer`); None for one CPU process.
        seed: The seed of the orders and of training.
        options: Further options of `adapt.training.fine_tune.fine_tune`, such as `learning_rate`.

    Returns:
        The curve; `adapt.planning.forecast.forecast` extrapolates it.

    Raises:
        InputError: there is no training or test data, an option is out of range, or `folder` holds runs of another
            model or with other options.
    """
    loader = as_loader(options.get("loader"))
    splits, _ = check_splits(splits, base.model, options.pop("on_error", "stop"), loader.speeds)
    runs = subsets(base.model, splits, shares, orders, epochs, seed)
    place = None if folder is None else user_path(folder)
    settings = {"shares": sorted({run.share for run in runs}), "orders": orders, "epochs": epochs, "seed": seed}
    if place is not None:
        _check_settings(place / "settings.json", {**settings, **_identity(base, splits, tuning, options)})
    # Style that all models of a curve learn from few examples would look like a gain of more data.
    normaliser = choose_normaliser(base.model, (*splits.train, *splits.validation, *splits.test))
    task, test = replace(base.model.task, normaliser=normaliser), splits.test
    before = task.score(test, decode_examples(base.model, task, test, loader, "base"))
    points, scores = [], []
    for number, run in enumerate(runs, start=1):
        path = None if place is None else place / f"order-{run.order}-share-{run.share:g}.json"
        found = read_json(path) if path is not None and is_file(path) else None
        if found is None:
            found = _trained(base, splits, tuning, run, trainer, seed + run.order, options)
            if path is not None:
                write_json(path, found)
        scored = task.score(test, found["hypotheses"])
        value = scored.values()[task.metrics[0].key]
        points.append(CurvePoint(run.order, run.share, run.size, len(run.train), run.epochs, value, found["seconds"]))
        scores.append(scored)
        log.info(
            "Learning curve, %d of %d: %.3g %s, order %d: %s %s (%s)", number, len(runs), run.size,
            unit_of(base.model), run.order + 1, task.metrics[0].label, amount(value, task.metrics[0]),
            duration(found["seconds"]),
        )  # fmt: skip
    return LearningCurve(
        task.metrics[0], unit_of(base.model), before.values()[task.metrics[0].key], tuple(points), tuple(scores),
        settings,
    )  # fmt: skip


def subsets(model: Model, splits: Splits, shares: Sequence[float], orders: int, epochs: int, seed: int) -> list[Subset]:
    """Return the runs of a learning curve, by order and then by size.

    Raises:
        InputError: a number is out of range, there is no training or test data, or two subsets would be the same.
    """
    check_count("orders", orders, 1)
    check_count("epochs", epochs, 1)
    given = [shares] if isinstance(shares, (int, float)) else list(shares)
    for share in given:
        check_share("shares", share, one=True)
    if not splits.train or not splits.test:
        raise InputError("A learning curve needs examples to train on and to test on: splits.train and splits.test.")
    runs = []
    for order in range(orders):
        shuffled = list(splits.train)
        random.Random(f"order/{seed}/{order}").shuffle(shuffled)
        sizes = [size_of(model, example) for example in shuffled]
        for share in sorted({*map(float, given), 1.0}):
            count = _first(sizes, share)
            runs.append(
                Subset(
                    order, share, tuple(shuffled[:count]), sum(sizes[:count]),
                    min(max(1, round(epochs / share)), MOST_EPOCHS * epochs),
                )
            )  # fmt: skip
    if len({run.share for run in runs}) < 2:
        raise InputError("shares needs at least one share below 1, such as [0.25, 0.5, 1].")
    counts = [len(run.train) for run in runs if run.order == 0]
    if len(set(counts)) < len(counts):
        raise InputError(
            f"{len(splits.train)} training examples are too few for the shares {given}: two subsets are the same. Give "
            "more data, or fewer shares."
        )
    return runs


def size_of(model: Model, example: Example) -> float:
    """Return how much an example is: minutes of audio, or 1 for a sentence."""
    return model.reader.length(example) / 60 if model.reads_audio else 1.0


def unit_of(model: Model) -> str:
    """Return the unit of `size_of`: "minutes" or "sentences"."""
    return "minutes" if model.reads_audio else "sentences"


def _first(sizes: Sequence[float], share: float) -> int:
    """Return how many of the examples make up a share of all, at least one."""
    wanted, total = share * sum(sizes), 0.0
    for number, size in enumerate(sizes):
        if total + size / 2 > wanted and number:
            return number
        total += size
    return len(sizes)


def _trained(
    base: Loaded,
    splits: Splits,
    tuning: Tuning,
    run: Subset,
    trainer: Callable[..., Any] | None,
    seed: int,
    options: dict[str, Any],
) -> dict[str, Any]:
    started = time.perf_counter()
    if trainer is not None:
        options = {**options, "trainer": partial(trainer, max_epochs=run.epochs)}
    own = Splits(train=run.train, validation=splits.validation, source_train=splits.source_train)
    adapted = fine_tune(base, own, tuning, epochs=run.epochs, seed=seed, **options)
    model = adapted.loaded.model
    hypotheses = decode_examples(model, model.task, splits.test, as_loader(options.get("loader")), "test")
    return {"hypotheses": hypotheses, "seconds": time.perf_counter() - started}


def _identity(base: Loaded, splits: Splits, tuning: Tuning, options: dict[str, Any]) -> dict[str, Any]:
    """Return what else must be the same for kept runs to be used again, as JSON."""
    parts = [digests(one) for one in (splits.train, splits.validation, splits.test, splits.source_train)]
    data = hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()
    loader = as_loader(options.get("loader"))
    others = {name: value for name, value in options.items() if name != "loader"}
    return {
        "base": base.fingerprint, "data": data, "loader": loader_options(loader), "tuning": _described(tuning),
        "options": described(others),
    }  # fmt: skip


def _described(tuning: Tuning) -> str:
    if isinstance(tuning, partial):
        return f"{_described(tuning.func)} {tuning.args} {dict(sorted(tuning.keywords.items()))}"
    return tuning.__qualname__ if isinstance(tuning, FunctionType) else type(tuning).__name__


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    before = read_json(path) if is_file(path) else settings
    different = sorted(key for key in settings if before.get(key) != settings[key])
    if different:
        raise InputError(
            f"'{path.parent}' holds a learning curve with {different[0]}={before.get(different[0])}, not "
            f"{settings[different[0]]}. Give the same, or another folder."
        )
    make_folder(path.parent, "folder")
    write_json(path, settings)
