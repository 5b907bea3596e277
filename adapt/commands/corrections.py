"""List, show, remove, forget, export, import, fold and evaluate the corrections of a model."""

import json
import logging
from pathlib import Path

from omegaconf import DictConfig

from adapt.commands._device import loaded_model
from adapt.corrections import manage
from adapt.corrections.evaluate import evaluate_memory, format_evaluation
from adapt.corrections.forget import forget, format_forgotten
from adapt.corrections.paths import store_path
from adapt.corrections.stored import shown_texts
from adapt.errors import InputError
from adapt.files import user_path
from adapt.formatting import counted
from adapt.models.loaded import Loaded
from adapt.options.early import check_corrections
from adapt.report.corrections import print_corrections
from adapt.terminal import say

log = logging.getLogger(__name__)
ACTIONS = ("list", "show", "undo", "forget", "export", "import", "fold", "evaluate")


def main(cfg: DictConfig) -> None:
    """Do `cfg.action` with the corrections of a model."""
    loaded: Loaded = loaded_model(cfg)
    path = store_path(loaded, str(cfg.corrections))
    if path is None:
        raise InputError("corrections=off selects no corrections. Leave it out, or give a file.")
    check_corrections(cfg)
    match cfg.action:
        case "list":
            print_corrections(manage.list_corrections(loaded, path), loaded.reference, path)
        case "show":
            record = manage.get_correction(loaded, _number(cfg), path)
            shown = {"number": record.number, "made": record.made, "by": record.author, **record.facts}
            say(json.dumps({**shown, "bytes": record.bytes}, indent=2, ensure_ascii=False), lines=True)
        case "undo":
            record = manage.undo_correction(loaded, _number(cfg), path)
            log.info("Removed correction %d, '%s'.", record.number, shown_texts(record.facts)[1])
        case "forget":
            numbers = [] if cfg.target is None else [_number(cfg)]
            forgotten = forget(loaded, path, numbers, cfg.speaker, cfg.file)
            log.info("%s", format_forgotten(forgotten, path))
        case "export":
            file = _target(cfg, "export FILE.safetensors")
            count = len(manage.export_corrections(loaded, file, path, cfg.names))
            log.info("Exported %s to %s", counted(count, "correction"), file)
        case "import":
            file = _target(cfg, "import FILE.safetensors")
            numbers = ", ".join(map(str, manage.import_corrections(loaded, file, path)))
            present = f"No corrections were imported: all corrections in {file} are stored already."
            log.info("%s", f"Imported corrections: {numbers}." if numbers else present)
        case "fold":
            folder = _target(cfg, "fold FOLDER")
            count = len(manage.fold_corrections(loaded, folder, path, cfg.names))
            log.info(
                "Folded %s into the weights of the adaptation in %s. Its store has them too, and each can still be "
                "removed there.", counted(count, "correction"), folder.absolute(),
            )  # fmt: skip
        case "evaluate":
            for line in format_evaluation(evaluate_memory(manage.open_memory(loaded, path))):
                log.info("%s", line)
        case _:
            raise InputError(f"action={cfg.action}: expected one of {', '.join(ACTIONS)}.")


def _number(cfg: DictConfig) -> int:
    if not str(cfg.target).isdecimal():
        raise InputError(f"Give the number of a correction; got {cfg.target}. See innertune corrections list.")
    return int(cfg.target)


def _target(cfg: DictConfig, usage: str) -> Path:
    if cfg.target is None:
        raise InputError(f"Give a path: innertune corrections {usage}.")
    return user_path(str(cfg.target))
