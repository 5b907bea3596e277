"""List, remove, export, import and fold the corrections of a model."""

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from adapt.corrections.model_memory import ModelMemory
from adapt.corrections.paths import store_path
from adapt.corrections.stored import check_records, without_names
from adapt.corrections.verify import verify
from adapt.errors import InputError, as_input_errors
from adapt.files import exists, is_folder
from adapt.models.adaptation_files import save_adaptation
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.models.state import model_fingerprint
from interventions.bits import changed_bits
from interventions.corrections.contents import read_export
from interventions.corrections.rows import Record
from interventions.corrections.store import CorrectionStore
from interventions.files import atomic_folder, private_folder
from interventions.fold import fold
from interventions.sites import Site

log = logging.getLogger(__name__)


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
    """Return the records of a model's corrections, the oldest first.

    Raises:
        InputError: As `open_store`, or if a correction is damaged.
    """
    with as_input_errors():
        store = open_store(loaded, path)
        return check_records(store.records(), store.path)


def get_correction(loaded: Loaded, number: int, path: Path | None = None) -> Record:
    """Return the record of one correction. Raises InputError if no correction has this number."""
    with as_input_errors():
        return open_store(loaded, path).record(number)


def undo_correction(loaded: Loaded, number: int, path: Path | None = None) -> Record:
    """Remove a correction, and return its record. Raises InputError if no correction has this number."""
    with as_input_errors():
        return open_store(loaded, path).remove(number)


def export_corrections(loaded: Loaded, file: Path, path: Path | None = None, names: bool = False) -> list[Record]:
    """Write all corrections to a safetensors file that only its owner can read, and return their records.

    Args:
        loaded: the model.
        file: the file to write.
        path: path of the correction store; None: the default of `store_path`.
        names: also export who made the corrections, who speaks, and the paths of the audio. With the audio at hand, a
            correction can be checked when it is imported.

    Raises:
        InputError: As `open_store`, or if the file cannot be written.
    """
    with as_input_errors():
        store = open_store(loaded, path)
        records = check_records(store.records(), store.path)
        store.export(file, None if names else without_names)
        return records


def import_corrections(loaded: Loaded, file: Path, path: Path | None = None) -> list[int]:
    """Import a file that `export_corrections` wrote, and return the numbers of the corrections that are new.

    All of it is imported or nothing. The file must match its checksum, its values must be those of a memory of this
    model, and each correction whose input exists must give its text.

    Raises:
        InputError: If the file is damaged, was changed, or belongs to another model, or the store has another layer or
            other protected inputs.
    """
    path = path or store_path(loaded)
    assert path is not None  # the default path is never "off"
    with as_input_errors():
        contents = read_export(file, loaded.fingerprint)
        if not contents.has_checksum:
            log.info("'%s' has no checksum, because version 0.1 wrote it. Its values were checked.", file)
        verify(loaded, contents, file)
        _, numbers = CorrectionStore.insert(path, contents)
    return numbers


def fold_corrections(loaded: Loaded, folder: Path, path: Path | None = None, names: bool = False) -> Sequence[int]:
    """Write an adaptation whose weights include the ridge map of all corrections, completely or not at all.

    The adaptation gets a copy of the store, so the codebook still applies and each correction can still be removed. A
    folded map has no gate.

    Args:
        loaded: the model, which is left unchanged.
        folder: where to write the adaptation.
        path: path of the correction store; None: the default of `store_path`.
        names: also copy who made the corrections, who speaks, and the paths of the audio.

    Returns:
        The numbers of the corrections that were folded.

    Raises:
        InputError: If the folder has an adaptation already, no correction edits the model, or the layer cannot be
            folded.
    """
    target = folder / "adaptation"
    if exists(target / "adaptation.json"):
        raise InputError(f"'{folder}' has an adaptation already. Choose another folder.")
    if exists(target) and (not is_folder(target) or any(target.iterdir())):
        raise InputError(f"'{target}' exists, but is no adaptation. Choose another folder, or delete it.")
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
        check_unfolded(loaded, model, memory.sites[0])
        fit = memory.corrections.fitted()
        folded = torch.cat([fit.weight, fit.bias[:, None]], 1)
        private_folder(folder)
        with atomic_folder(target, private=True) as part:
            strip = None if names else without_names
            store.copy(part / "corrections.db", model_fingerprint(model), folded, strip)
            save_adaptation(part, loaded, model, corrections=sorted(memory.entries))
    return sorted(memory.entries)


def check_unfolded(loaded: Loaded, folded: Model, site: Site) -> None:
    """Compare all weights but those of a site's module with the model's, bit for bit, before a fold is saved.

    Raises:
        InputError: A weight outside the module differs, is missing or is new, or the model is no longer the loaded one.
    """
    old, new = loaded.model.state_dict(), folded.state_dict()
    for name in sorted(old.keys() | new.keys()):
        if name.startswith(f"{site.name}."):
            continue
        same = name in old and name in new and old[name].shape == new[name].shape and old[name].dtype == new[name].dtype
        if not same or bool(changed_bits(old[name], new[name]).any()):
            raise InputError(
                f"Only '{site.name}' may change when corrections are folded, but '{name}' differs from the model's, so "
                "nothing was saved. Load the model again."
            )
    if model_fingerprint(loaded.model) != loaded.fingerprint:
        raise InputError(
            f"The weights of '{loaded.reference}' changed after it was loaded, so nothing was saved. Load it again."
        )


def open_memory(loaded: Loaded, path: Path | None = None) -> ModelMemory:
    """Open a model's memory. Raises InputError as `open_store` does."""
    open_store(loaded, path)
    return ModelMemory.open(loaded, path)
