"""List, undo, export, import or fold in a user's corrections."""

import copy
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from adapt.build import build
from adapt.corrections.model_memory import ModelMemory, store_path
from adapt.errors import InputError, as_input_errors
from adapt.models.adaptation_files import save_adaptation
from adapt.models.loaded import Loaded
from adapt.models.state import model_fingerprint
from interventions.corrections.store import CorrectionStore, Record
from interventions.fold import fold

log = logging.getLogger(__name__)


def main(cfg: DictConfig) -> None:
    """Do what `cfg.action` says with the corrections of a model."""
    loaded: Loaded = build(cfg.model)
    path = store_path(loaded, str(cfg.corrections))
    if path is None:
        raise InputError("corrections=off: there are none to look at. Leave it out, or give a file.")
    actions = {
        "list": _list, "show": _show, "undo": _undo, "export": _export, "import": _import, "fold": _fold,
        "evaluate": _evaluate,
    }  # fmt: skip
    if cfg.action not in actions:
        raise InputError(f"action={cfg.action}: expected one of {', '.join(actions)}.")
    with as_input_errors():
        actions[cfg.action](cfg, loaded, path)


def _list(cfg: DictConfig, loaded: Loaded, path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    records = _store(loaded, path).records()
    if not records:
        log.info("%s: no corrections in %s.", loaded.reference, path)
        return
    table = Table(title=f"{loaded.reference}: corrections in {path}", title_justify="left")
    for column in ("", "made", "by", "before", "corrected", "kB"):
        table.add_column(column, justify="right" if column in ("", "kB") else "left", overflow="fold")
    for record in records:
        facts = record.facts
        size = "hint" if facts.get("hint") else f"{record.bytes / 1000:.1f}"
        made = record.made.removesuffix("+00:00").replace("T", " ")
        table.add_row(str(record.number), made, record.author, facts["before"], facts["text"], size)
    Console().print(table)


def _show(cfg: DictConfig, loaded: Loaded, path: Path) -> None:
    print(json.dumps(_said(_record(_store(loaded, path), cfg.of)), indent=2, ensure_ascii=False))


def _undo(cfg: DictConfig, loaded: Loaded, path: Path) -> None:
    store = _store(loaded, path)
    record = store.remove(_record(store, cfg.of).number)
    log.info("Taken back: correction %d, '%s'.", record.number, record.facts["text"])


def _export(cfg: DictConfig, loaded: Loaded, path: Path) -> None:
    store, target = _store(loaded, path), _place(cfg, "corrections export FILE.safetensors")
    store.export(target)
    log.info("%d corrections: %s", len(store.records()), target)


def _import(cfg: DictConfig, loaded: Loaded, path: Path) -> None:
    source = _place(cfg, "corrections import FILE.safetensors")
    _, numbers = CorrectionStore.load(path, source, loaded.fingerprint)
    if numbers:
        log.info("%d corrections came in, as %s.", len(numbers), ", ".join(map(str, numbers)))
    else:
        log.info("None came in: all that there are in %s are here already.", source)


def _fold(cfg: DictConfig, loaded: Loaded, path: Path) -> None:
    folder = _place(cfg, "corrections fold FOLDER")
    if (folder / "adaptation").exists():
        raise InputError(f"'{folder}' holds an adaptation already. Give another folder.")
    store = _store(loaded, path)
    memory = store.memory(gated=False)
    if not memory.entries:
        raise InputError("There is nothing to fold: the model has no correction that edits it.")
    model = copy.deepcopy(loaded.model)
    try:
        fold(model, replace(memory, parts="ridge"))
    except ValueError as error:
        raise InputError(str(error)) from None
    weight, bias, _, _ = memory.corrections.fitted()
    stands = torch.cat([weight, bias[:, None]], 1)
    store.copy(folder / "adaptation" / "corrections.db", model_fingerprint(model), stands)
    save_adaptation(folder / "adaptation", loaded, model, corrections=sorted(memory.entries))
    log.info(
        "The ridge map of %d corrections is in the weights of %s; their codebook goes with it, and each can still be "
        "taken back there.", len(memory.entries), folder.absolute(),
    )  # fmt: skip


def _evaluate(cfg: DictConfig, loaded: Loaded, path: Path) -> None:
    found = _memory(loaded, path).evaluate()
    total = found["corrections"]
    if not total:
        raise InputError("There is no correction whose input is still there.")
    for name, where in (("held", "alone"), ("held_in_batches", "in batches")):
        lost = [number for number, held in zip(found["numbers"], found[name], strict=True) if not held]
        more = f"; no longer: {', '.join(map(str, lost))}" if lost else ""
        log.info("%d of %d corrections hold, %s%s.", total - len(lost), total, where, more)
    if found["protected"]:
        log.info("%d of %d protected answers are unchanged.", found["protected_unchanged"], found["protected"])


def _store(loaded: Loaded, path: Path) -> CorrectionStore:
    _need(loaded, path)
    return CorrectionStore(path, loaded.fingerprint)  # without its vectors, so that a damaged one can be taken back


def _memory(loaded: Loaded, path: Path) -> ModelMemory:
    _need(loaded, path)
    return ModelMemory.open(loaded, path)


def _need(loaded: Loaded, path: Path) -> None:
    if not CorrectionStore.exists(path):
        raise InputError(
            f"'{loaded.reference}' has no corrections ({path}). innertune correct makes the first; corrections=FILE "
            "names another store."
        )


def _record(store: CorrectionStore, number: Any) -> Record:
    if not isinstance(number, int) or isinstance(number, bool):
        raise InputError(f"Say which: innertune corrections show NUMBER, or undo NUMBER; got {number}.")
    return store.record(number)


def _place(cfg: DictConfig, usage: str) -> Path:
    if cfg.of is None:
        raise InputError(f"Say where: innertune {usage}.")
    return Path(str(cfg.of)).expanduser()


def _said(record: Record) -> dict[str, Any]:
    return {"number": record.number, "made": record.made, "by": record.author, **record.facts, "bytes": record.bytes}
