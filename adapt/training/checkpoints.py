"""Checkpoints: written whole, with a checksum beside them, and read without unpickling.

Beside `last.ckpt` lies `last.ckpt.sha256`, in the format of `sha256sum`. It is written before the checkpoint replaces
the old one, and names both, so that a process may be killed between the two.
"""

import hashlib
import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from adapt.checks import is_number
from adapt.errors import InputError
from adapt.files import atomic, is_file, resolved, write_text

log = logging.getLogger(__name__)

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")
_ENTRIES = {"state_dict": dict, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list, "loops": dict}


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes and reads the checkpoints of Lightning's trainer."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str, storage_options: Any = None) -> None:
        """Write a checkpoint and its checksum."""
        # Let Python open the file: if torch does, the error on a full disk is about a wrong file position.
        with atomic(path) as part:
            with open(part, "wb") as file:
                torch.save(checkpoint, file)
            sums = [sha256(part), *([sha256(Path(path))] if is_file(Path(path)) else [])]
            write_text(_sums_of(Path(path)), "".join(f"{one}  {Path(path).name}\n" for one in sums))

    def load_checkpoint(self, path: Any, *args: Any, **options: Any) -> dict[str, Any]:
        """Return a checkpoint. Raises InputError as `read_checkpoint` does."""
        # If the folder was moved, Lightning forgets the best epoch, and a worse one would replace it.
        checkpoint = read_checkpoint(Path(path))
        folder = resolved(path).parent
        for state in checkpoint["callbacks"].values():
            if "best_k_models" in state:
                moved = {name: str(folder / Path(state[name]).name) for name in _PATHS if state[name]}
                best = {str(folder / Path(name).name): score for name, score in state["best_k_models"].items()}
                state.update(moved, best_k_models=best, dirpath=str(folder))
        return checkpoint


def read_checkpoint(path: Path, whole: bool = True) -> dict[str, Any]:
    """Return a checkpoint's content, on the CPU. It may hold tensors and plain values only; no code of it is run.

    Args:
        path: The file.
        whole: Whether training can continue from it; if not, it has the weights of the best epoch only.

    Raises:
        InputError: the file is damaged, is not what was written, or is no checkpoint of a training run.
    """
    advice = "Restore it, or start again in another folder."
    try:
        state = path.stat()
        if not _is_as_written(path, state.st_mtime_ns, state.st_size):
            raise InputError(
                f"'{path}' was changed or damaged after it was written: it does not have the checksum in "
                f"'{_sums_of(path).name}'. {advice}"
            )
        content = torch.load(path, weights_only=True, map_location="cpu")
    except InputError:
        raise
    except Exception as error:  # torch.load has no list of the errors that damaged files raise
        if type(error).__name__ == "UnpicklingError":
            raise InputError(
                f"'{path}' holds more than tensors and plain values, or is damaged. It may be the checkpoint of "
                f"another program; such a file could run code, and is not read. {advice}"
            ) from None
        message = " ".join(str(error).split())[:200]
        raise InputError(
            f"'{path}' is not a complete checkpoint ({type(error).__name__}: {message}). {advice}"
        ) from None
    if not _is_ours(content, whole):
        raise InputError(f"'{path}' is no checkpoint of a training run of innertune. {advice}")
    return content


def check_weights(path: Path, content: dict[str, Any], expected: Mapping[str, Any], base: str) -> None:
    """Check that a checkpoint holds the weights of a module: their names, shapes and types.

    Args:
        path: The file.
        content: Its content.
        expected: The weights of the module that a checkpoint holds.
        base: The fingerprint of the model before training.

    Raises:
        InputError: it holds others, or was written for another base.
    """
    if content.get("base", base) != base:
        raise InputError(
            f"'{path}' has only what trained, and belongs to another base: its fingerprint was "
            f"{str(content['base'])[:12]}, and is {base[:12]}. Resume with the base that the run was started with."
        )
    found = content["state_dict"]
    names = [name for name in [*expected, *found] if not _alike(found.get(name), expected.get(name))]
    if names:
        raise InputError(
            f"'{path}' belongs to another model, or another tuning of this one: '{names[0]}' is "
            f"{_described(found.get(names[0]))} there and {_described(expected.get(names[0]))} here. Resume with the "
            "model and the options that the run was started with."
        )


def callback_state(content: dict[str, Any], callback: str) -> dict[str, Any]:
    """Return the state of the first callback whose name starts with `callback`; empty if there is none."""
    return next((state for key, state in content["callbacks"].items() if str(key).startswith(callback)), {})


def spent(folder: Path) -> float:
    """Return the seconds that a run had taken at its last checkpoint in `folder`, over all its restarts.

    Time after the last checkpoint does not count. The result is 0 if there is no checkpoint.
    """
    last = folder / "last.ckpt"
    seconds = callback_state(read_checkpoint(last), "_History").get("spent", 0.0) if is_file(last) else 0.0
    return float(seconds) if isinstance(seconds, (int, float)) else 0.0


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache  # a checkpoint is read several times in a run, and may have gigabytes
def _is_as_written(path: Path, changed: int, size: int) -> bool:
    sums = _sums_of(path)
    if not is_file(sums):
        log.warning("'%s' has no checksum beside it, as those of earlier versions; it cannot be checked.", path)
        return True
    expected = [line.partition(" ")[0] for line in sums.read_text(encoding="utf-8", errors="replace").splitlines()]
    return sha256(path) in expected


def _sums_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _is_ours(content: Any, whole: bool) -> bool:
    """Return whether a checkpoint has the entries that Lightning and our callbacks restore, of the right types."""
    entries = _ENTRIES if whole else {"state_dict": dict}
    if not isinstance(content, dict) or any(not isinstance(content.get(key), kind) for key, kind in entries.items()):
        return False
    if not whole:
        return True
    states = [*content["callbacks"].values(), *content["optimizer_states"], *content["lr_schedulers"]]
    history = callback_state(content, "_History") if all(isinstance(one, dict) for one in states) else {}
    rows = history.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and is_number(row.get("seconds")) for row in rows):
        return False
    if len(content["optimizer_states"]) != 1 or len(content["lr_schedulers"]) != 1:
        return False
    (optimizer,), (rate,) = content["optimizer_states"], content["lr_schedulers"]
    return (
        all(type(content.get(name)) is int for name in ("epoch", "global_step"))
        and isinstance(optimizer.get("state"), dict)
        and isinstance(optimizer.get("param_groups"), list)
        and type(rate.get("last_epoch")) is int
        and isinstance(rate.get("base_lrs"), list)
        and all(map(is_number, rate["base_lrs"]))
    )


def _alike(one: Any, other: Any) -> bool:
    both = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    return both and one.shape == other.shape and one.dtype == other.dtype


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} of shape {tuple(value.shape)}".removeprefix("torch.")
    return "not" if value is None else f"a {type(value).__name__}"
