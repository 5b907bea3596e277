"""List, remove, export, import and fold the corrections of a model."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from adapt.corrections.model_memory import ModelMemory
from adapt.corrections.paths import store_path
from adapt.errors import InputError, as_input_errors
from adapt.files import exists
from adapt.models.adaptation_files import save_adaptation
from adapt.models.loaded import Loaded
from adapt.models.state import model_fingerprint
from interventions.corrections.store import CorrectionStore, Record
from interventions.fold import fold


def open_store(loaded: Loaded, path: Path | None = None) -> CorrectionStore:
    """Open the correction store of a model without loading its tensors, so that damaged corrections can be removed.

    Raises:
        InputError: If the model has no corrections, or the store belongs to another model or cannot be read.
    """
    path = path or store_path(loaded)
    if path is None or not CorrectionStore.exists(path):
        raise InputError(
            f"'{loaded.reference}' has no corrections ({path}). Make the first with `innertune correct`, or use "
            "another store."
        )
    with as_input_errors():
        return CorrectionStore(path, loaded.fingerprint)


def list_corrections(loaded: Loaded, path: Path | None = None) -> list[Record]:
    """Return the records of a model's corrections, the oldest first. Raises InputError as `open_store` does."""
    with as_input_errors():
        return open_store(loaded, path).records()


def get_correction(loaded: Loaded, number: int, path: Path | None = None) -> Record:
    """Return the record of one correction. Raises InputError if no correction has this number."""
    with as_input_errors():
        return open_store(loaded, path).record(number)


def undo_correction(loaded: Loaded, number: int, path: Path | None = None) -> Record:
    """Remove a correction, and return its record. Raises InputError if no correction has this number."""
    with as_input_errors():
        return open_store(loaded, path).remove(number)


def export_corrections(loaded: Loaded, file: Path, path: Path | None = None) -> list[Record]:
    """Write all corrections to a safetensors file, and return their records.

    Raises:
        InputError: As `open_store`, or if the file cannot be written.
    """
    with as_input_errors():
        store = open_store(loaded, path)
        store.export(file)
        return store.records()


def import_corrections(loaded: Loaded, file: Path, path: Path | None = None) -> list[int]:
    """Import a file that `export_corrections` wrote, and return the numbers of the corrections that are new.

    Raises:
        InputError: If the file is damaged or belongs to another model, or the store has another layer or other
            protected inputs.
    """
    path = path or store_path(loaded)
    assert path is not None  # the default path is never "off"
    with as_input_errors():
        _, numbers = CorrectionStore.load(path, file, loaded.fingerprint)
    return numbers


def fold_corrections(loaded: Loaded, folder: Path, path: Path | None = None) -> Sequence[int]:
    """Write an adaptation whose weights include the ridge map of all corrections.

    The adaptation gets a copy of the store, so the codebook still applies and each correction can still be removed. A
    folded map has no gate.

    Args:
        loaded: the model, which is left unchanged.
        folder: where to write the adaptation.
        path: path of the correction store; None: the default of `store_path`.

    Returns:
        The numbers of the corrections that were folded.

    Raises:
        InputError: If the folder has an adaptation already, no correction edits the model, or the layer cannot be
            folded.
    """
    if exists(folder / "adaptation"):
        raise InputError(f"'{folder}' has an adaptation already. Choose another folder.")
    with as_input_errors():
        store = open_store(loaded, path)
        memory = store.memory(gated=False)
        if not memory.entries:
            raise InputError("There is nothing to fold: the model has no correction that edits it.")
        model = copy.deepcopy(loaded.model)
        try:
            fold(model, replace(memory, parts="ridge"))
        except ValueError as error:
            raise InputError(str(error)) from None
        fit = memory.corrections.fitted()
        folded = torch.cat([fit.weight, fit.bias[:, None]], 1)
        store.copy(folder / "adaptation" / "corrections.db", model_fingerprint(model), folded)
        save_adaptation(folder / "adaptation", loaded, model, corrections=sorted(memory.entries))
    return sorted(memory.entries)


def open_memory(loaded: Loaded, path: Path | None = None) -> ModelMemory:
    """Open a model's memory. Raises InputError as `open_store` does."""
    open_store(loaded, path)
    return ModelMemory.open(loaded, path)
