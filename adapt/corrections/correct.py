"""Open or create a model's memory, and correct one or many examples.

memory = open_or_create(loaded, protected)
outcomes = correct_examples(memory, examples, author="ann")
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from adapt.corrections.collect import default_protected
from adapt.corrections.model_memory import ModelMemory
from adapt.corrections.outcome import Outcome
from adapt.corrections.paths import store_path
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.normalisers import Normalise, check_normalise
from adapt.errors import InputError
from adapt.models.loaded import Loaded
from interventions.corrections.store import CorrectionStore


def open_or_create(
    loaded: Loaded,
    protected: Sequence[Example] | None = None,
    path: Path | None = None,
    site: str | None = None,
    strength: float | None = None,
    loader: Loader | None = None,
) -> ModelMemory:
    """Open a model's memory, or create one if it has none.

    Args:
        loaded: the model.
        protected: examples whose answers corrections should leave unchanged. None: for the embedded models, synthetic
            examples like their training data. Only used to create a memory.
        path: path of the correction store; None: the default of `store_path`.
        site: name of the site that holds the corrections; None: the existing memory's site, or the default of the
            model's family for a new memory.
        strength: see `ModelMemory.create`.
        loader: see `ModelMemory.create`.

    Raises:
        InputError: If the memory's corrections are at another site, or a memory must be created and nothing is
            protected.
    """
    path = path or store_path(loaded)
    if path is not None and CorrectionStore.exists(path):
        memory = ModelMemory.open(loaded, path)
        if site is not None and site != memory.site:
            raise InputError(
                f"site={site}: the corrections of this model are at '{memory.site}' ({path}), and their layer cannot "
                "be changed. Leave out the site, or use another store."
            )
        return memory
    protected = protected if protected is not None else default_protected(loaded)
    if protected is None:
        what = "FOLDER: recordings" if loaded.model.reads_audio else "FILE: sentences"
        raise InputError(
            f"The first correction of '{loaded.reference}' needs protected={what} that it answers well, and whose "
            "answers must not change. Their texts are not needed."
        )
    return ModelMemory.create(loaded, protected, path, site, strength, loader)


def correct_examples(
    memory: ModelMemory,
    examples: Sequence[Example],
    author: str = "",
    force: bool = False,
    check_protected: bool = True,
    report: Callable[[Example, Outcome], None] | None = None,
    normalise: Normalise = "auto",
) -> list[Outcome]:
    """Correct examples one after another. If there are several, those that cannot be read are reported as refused.

    Args:
        memory: the memory of a model.
        examples: examples with their corrected texts.
        author: who makes the corrections.
        force: see `ModelMemory.correct`.
        check_protected: see `ModelMemory.correct`.
        report: called with each example and its outcome.
        normalise: see `ModelMemory.correct`.

    Raises:
        InputError: If the only example cannot be read.
    """
    check_normalise(normalise)
    outcomes: list[Outcome] = []
    for example in examples:
        try:
            outcome = memory.correct(example, author, force, None, check_protected, normalise)
        except InputError as error:
            if len(examples) == 1:
                raise
            outcome = Outcome(None, example.text, "", "", str(error))
        outcomes.append(outcome)
        if report is not None:
            report(example, outcome)
    return outcomes
