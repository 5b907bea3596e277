"""Forget a speaker, a recording or a correction, so that nothing of it is left in the file."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapt.corrections.calibrate import measure_limits
from adapt.corrections.collect import collect_protected
from adapt.corrections.manage import open_store
from adapt.corrections.model_memory import protected_facts
from adapt.corrections.stored import Facts, check_records, protected_rows
from adapt.data.kinds import from_row, input_exists
from adapt.errors import InputError, as_input_errors
from adapt.files import user_path
from adapt.formatting import counted
from adapt.models.encoder_cache import cached_encoder
from adapt.models.loaded import Loaded
from interventions.corrections.memory import Memory
from interventions.corrections.store import CorrectionStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Forgotten:
    """What was forgotten.

    Args:
        numbers: the numbers of the corrections.
        protected: number of protected examples.
    """

    numbers: tuple[int, ...]
    protected: int


def forget(
    loaded: Loaded,
    path: Path | None = None,
    numbers: Collection[int] = (),
    speaker: str | None = None,
    file: Path | str | None = None,
) -> Forgotten:
    """Remove corrections and protected examples from a model's store, without a trace in the file or its log.

    If a protected example is removed, the statistics and limits are computed again from the others, and the remaining
    corrections are stored on the new grids. Exports and folded adaptations that were made before keep what they have.

    Args:
        loaded: the model.
        path: path of the store; None: the default of `store_path`.
        numbers: numbers of corrections to forget.
        speaker: forget everything of this speaker.
        file: forget everything of this audio file.

    Raises:
        InputError: If nothing matches, too few protected examples remain, or another process holds the store.
    """
    if speaker is not None and not speaker.strip():
        raise InputError("speaker is empty. Give the name.")
    store = open_store(loaded, path)
    with as_input_errors():
        records, facts = check_records(store.records(), store.path), store.facts
    unknown = sorted(set(numbers) - {record.number for record in records})
    if unknown:
        raise InputError(f"There is no correction {unknown[0]} in '{store.path}'.")
    chosen = tuple(record.number for record in records
                   if record.number in numbers or _matches(record.facts.get("example"), speaker, file))  # fmt: skip
    rows = [row for part in protected_rows(facts, store.path) for row in part]
    kept = [row for row in rows if not _matches(row, speaker, file)]
    if not chosen and len(kept) == len(rows):
        raise InputError(
            f"Nothing in '{store.path}' is of {f'speaker {speaker}' if speaker else file}. Corrections that have no "
            "speaker, as those of version 0.1, can be forgotten by number or file=..."
        )
    _warn(store, facts, rows, speaker is not None or file is not None)
    with as_input_errors():
        if len(kept) == len(rows):
            store.forget(chosen)
        else:
            memory, new = _without(loaded, store, facts, kept, chosen)
            store.forget(chosen, new, memory)
    return Forgotten(chosen, len(rows) - len(kept))


def _matches(row: Facts | None, speaker: str | None, file: Path | str | None) -> bool:
    if not row:
        return False
    if speaker is not None and row.get("speaker") == speaker:
        return True
    return file is not None and row.get("audio") == str(user_path(file).absolute())


def _warn(store: CorrectionStore, facts: Facts, rows: Sequence[Facts], by_input: bool) -> None:
    more = int(facts.get("examples", 0)) - len(rows)
    if by_input and more > 0:
        log.warning(
            "%d of the protected examples in '%s' are not named there, so it is unknown whose they are. Their "
            "statistics stay.", more, store.path,
        )  # fmt: skip
    if store.contents().memory.folded is not None:
        log.warning(
            "The weights of this adaptation contain a map that was fitted to all corrections, forgotten ones included. "
            "To be without them, fold again from the store of the original model."
        )


@torch.inference_mode(False)
def _without(
    loaded: Loaded, store: CorrectionStore, facts: Facts, rows: Sequence[Facts], forgotten: Collection[int]
) -> tuple[Memory, dict[str, Any]]:
    """Return a memory whose protected examples are `rows`, with the remaining corrections, and the facts about it."""
    examples = [example for example in map(from_row, rows) if input_exists(example)]
    model, old = loaded.model, store.memory()
    try:
        with cached_encoder(model):
            statistics = collect_protected(model, old.protected.layer, examples)
            limits = measure_limits(model, statistics, old.ridge_strength, examples)
    except (InputError, ValueError) as error:
        raise InputError(f"Nothing was forgotten, because too few protected examples would be left: {error}") from None
    new = dict(facts) | protected_facts(examples)
    if limits is not None:
        new["limits"] = limits.as_dict()
    memory = Memory.new(statistics, old.ridge_strength, old.folded)
    inputs, values = old.protected.input_step, old.protected.value_step
    for number, entry in old.entries.items():
        if number not in forgotten:
            changed = memory.entry(entry.inputs * inputs, entry.values * values, entry.targets * values)
            memory.add(number, changed)
    return memory, new


def format_forgotten(forgotten: Forgotten, path: Path) -> str:
    """Say in a sentence or two what was deleted from the store at `path`."""
    numbers = f" ({', '.join(map(str, forgotten.numbers))})" if forgotten.numbers else ""
    return (
        f"Forgot {counted(len(forgotten.numbers), 'correction')}{numbers} and "
        f"{counted(forgotten.protected, 'protected example')}. Nothing of them is left in '{path}'."
    )
