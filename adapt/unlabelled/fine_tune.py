"""Adaptation without labels as one function, with the defaults of `innertune adapt labels=none`.

adapted, found = fine_tune_without_labels(load_model("us-english"), splits)
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from adapt.checks import check_count, check_type
from adapt.comparison.unlabelled import Trial, Unlabelled
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.splits import check_splits
from adapt.files import user_path
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.training.adapted import Adapted
from adapt.training.fine_tune import fine_tune
from adapt.tuning.layers import full
from adapt.tuning.tuned import Tuning
from adapt.unlabelled.adapt import adapt_without_labels
from adapt.unlabelled.options import WithoutLabels

REPLAY = 0.5  # the share of source examples in an epoch, if there are any and no other is given


def fine_tune_without_labels(
    base: Loaded,
    splits: Splits,
    tuning: Tuning = full,
    *,
    how: WithoutLabels | None = None,
    epochs: int | None = None,
    folder: Path | str | None = None,
    seed: int = 0,
    observe: Callable[[Model, Trial], None] | None = None,
    **options: Any,
) -> tuple[Adapted, Unlabelled]:
    """Adapt a copy of a model to examples whose texts are not known, on the CPU.

    Args:
        base: The model to start from; it is not changed.
        splits: `train` is unlabelled (texts that it has are not used), and so is `validation`, on which the steps are
            judged; without it, part of `train` is held out. `source_train` is labelled data of the source.
        tuning: What may train in the rounds of self-training; see `adapt.tunings`.
        how: What is done; None for the defaults.
        epochs: The number of epochs of all rounds together; None for the default of the model's family.
        folder: Where to keep checkpoints; None keeps them only while training.
        seed: The same seed reproduces a run on the same machine.
        observe: Called with each model that was tried and its figures.
        options: Further options of `fine_tune`, such as `learning_rate` and `replay`, for each round.

    Returns:
        The adapted model with its record, and what was tried. If nothing helped, the model is the base.

    Raises:
        InputError: as `fine_tune`, or there are too few examples.
    """
    check_type("splits", splits, Splits, "Give Splits(train=...).")
    recipe, how = base.model.recipe, how or WithoutLabels()
    epochs = recipe.number_of_epochs(len(splits.train)) if epochs is None else epochs
    check_count("epochs", epochs, 1)
    loader = Loader(speeds=recipe.speeds, batch_tokens=recipe.batch_tokens, seed=seed)
    splits, skipped = check_splits(splits, base.model, speeds=recipe.speeds, labelled=False)
    del skipped  # with on_error="stop", there are none
    options = {
        "loader": loader,
        "on_error": "skip",
        "blend": "off",
        "replay": REPLAY if splits.source_train else 0.0,
        **options,
    }
    train = partial(
        _round, tuning=tuning, epochs=max(1, round(epochs / max(how.rounds, 1))), seed=seed, options=options
    )
    with TemporaryDirectory() as passing:
        place = Path(passing) if folder is None else user_path(folder)
        return adapt_without_labels(base, splits, train, how, options["loader"], place, observe)


def _round(
    base: Loaded, splits: Splits, folder: Path, *, tuning: Tuning, epochs: int, seed: int, options: dict[str, Any]
) -> Adapted:
    return fine_tune(base, splits, tuning, epochs=epochs, folder=folder, resume=True, seed=seed, **options)
