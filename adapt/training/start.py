"""What a run was started with: its base, its data and its options. A resumed run must have the same.

`checkpoints/start.json` holds fingerprints, not the data. It also names the files that a resumed run reads again (the
selected neurons, a penalty's measurements), with their checksums.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from adapt.checks import is_number
from adapt.data.checksums import checksums
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.manifest import Splits, Utterance
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.data.replay import Replay
from adapt.errors import InputError
from adapt.files import is_file, write_json
from adapt.models.loaded import Loaded
from adapt.training.checkpoints import sha256

log = logging.getLogger(__name__)

_NAME = "start.json"
_READ_IN_TRAINING = ("train", "validation", "source_train")


@dataclass(frozen=True)
class Start:
    """What a run is started with.

    Attributes:
        base: The base's reference and fingerprint. The fingerprint is "" for random weights: all of them are trained.
        data: For each split that is read in training: the number of examples, a digest of what the model reads, and one
            of the reference texts.
        options: The options that change the result, as plain values.
    """

    base: Mapping[str, str]
    data: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Any]

    @classmethod
    def of(cls, base: Loaded, splits: Splits, options: Mapping[str, Any]) -> "Start":
        """Describe a run. Options that are not plain values are described by their plain attributes."""
        known = "" if base.reference == "new" else base.fingerprint
        return cls(
            {"reference": base.reference, "fingerprint": known},
            {name: digests(getattr(splits, name)) for name in _READ_IN_TRAINING},
            json.loads(json.dumps({name: plain(value) for name, value in options.items()})),
        )

    def check(self, folder: Path) -> None:
        """Check that the run in `folder`, if there is one, was started with the same, and that its files are whole.

        Raises:
            InputError: something differs; the message says what.
        """
        path = folder / "checkpoints" / _NAME
        if not is_file(path):
            if is_file(folder / "checkpoints" / "last.ckpt"):
                log.warning("The run in '%s' is of an earlier version: its base and data cannot be checked.", folder)
            return
        before = _read(path)
        advice = "Restore what the run was started with, or start again in another folder."
        if (old := before["base"]).get("fingerprint") != self.base["fingerprint"]:
            raise InputError(
                f"The base '{self.base['reference']}' was changed after the run in '{folder}' was started: its "
                f"fingerprint was {str(old.get('fingerprint'))[:12]} ('{old.get('reference')}'), and is "
                f"{self.base['fingerprint'][:12]}. `innertune remove` takes back what `innertune apply` changed. "
                f"{advice}"
            )
        for name, now in self.data.items():
            if difference := _difference(before["data"].get(name), now):
                raise InputError(
                    f"The data of the run in '{folder}' were changed after it was started: {name} {difference}. "
                    f"{advice}"
                )
        for name, value in self.options.items():
            if name in before["options"] and before["options"][name] != value:
                old = before["options"][name]
                raise InputError(f"The run in '{folder}' was started with {_named(name, old, value)}. {advice}")
        for name, checksum in before["files"].items():
            if not is_file(folder / name) or sha256(folder / name) != checksum:
                raise InputError(f"'{folder / name}' is missing, or was changed after it was written. {advice}")

    def write(self, folder: Path, files: Iterable[Path]) -> None:
        """Write `start.json`. `files` are those that a resumed run reads again, in `folder`."""
        sums = {str(file.relative_to(folder)): sha256(file) for file in files if is_file(file)}
        facts = {"base": dict(self.base), "data": dict(self.data), "options": dict(self.options), "files": sums}
        write_json(folder / "checkpoints" / _NAME, facts)


def plain(value: Any) -> Any:
    """Return a value as JSON data: numbers and texts as they are, anything else by its type and plain attributes."""
    if value is None or isinstance(value, (bool, str)) or is_number(value):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    attributes = getattr(value, "__dict__", {})
    shown = {key: plain(one) for key, one in sorted(attributes.items()) if _is_plain(one) and not key.startswith("_")}
    return {"type": type(value).__name__, **shown}


def described(value: Any) -> Any:
    """Return an option as JSON data: functions by their names and with the arguments that are set, all else `plain`."""
    if isinstance(value, Mapping):
        return {str(key): described(one) for key, one in value.items()}
    if isinstance(value, partial):
        return [described(value.func), *map(described, value.args), described(value.keywords)]
    name = getattr(value, "__qualname__", None)
    return plain(value) if name is None else str(name)


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, str)) or is_number(value)


def replay_of_run(folder: Path, default: Replay) -> Replay:
    """Return the replay that the run in `folder` was started with; `default` if there is no run yet.

    Version 0.1 did not store it, and replayed nothing unless it was told to.
    """
    path = folder / "checkpoints" / _NAME
    if is_file(path):
        return _read(path)["options"].get("replay", default)
    return 0.0 if is_file(folder / "checkpoints" / "last.ckpt") else default


def started_without(folder: Path, option: str) -> bool:
    """Return whether the run in `folder` was started by an earlier version, which did not have an option."""
    path = folder / "checkpoints" / _NAME
    return not is_file(path) or option not in _read(path)["options"]


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        kept = {name: facts[name] for name in ("base", "data", "options", "files")}
        if all(isinstance(value, dict) for value in kept.values()):
            return kept
        problem = "an entry is no object"
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise InputError(
        f"'{path}' is damaged ({problem}). It says what the run was started with. Restore it, or start again in "
        "another folder."
    )


def _named(name: str, before: Any, now: Any) -> str:
    """Return what differs in an option: for options with parts, the first part that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        part = next(key for key in [*before, *now] if before.get(key) != now.get(key))
        return _named(f"{name}.{part}", before.get(part), now.get(part))
    if isinstance(before, list) and isinstance(now, list) and len(before) > 10:
        return f"other {name} ({len(before)}, and now {len(now)})"
    return f"{name}={before}, not {now}"


def _difference(before: Any, now: Mapping[str, Any]) -> str:
    """Return what differs between two descriptions of a split, as the rest of a sentence; empty if nothing does."""
    before = before if isinstance(before, dict) else {}
    if before.get("examples") != now["examples"]:
        return f"had {before.get('examples')} examples, and has {now['examples']}"
    if before.get("texts") != now["texts"]:
        return "has other texts, or the same in another order"
    return "" if before.get("inputs") == now["inputs"] else "has other inputs: recordings or sentences were changed"


def digests(examples: Sequence[Example]) -> dict[str, Any]:
    """Return the number of examples, and digests of their texts and of what the model reads.

    Audio files are read whole, each once, unless their checksums are remembered from an earlier run. Sizes and times
    of files would not do: a copied corpus has other times, and an edited recording may have its old size.
    """
    texts, inputs = hashlib.sha256(), hashlib.sha256()
    files = checksums({example.audio_filepath for example in examples if isinstance(example, Utterance)})
    for example in examples:
        texts.update(json.dumps(example.text).encode() + b"\n")
        if isinstance(example, Utterance):
            inputs.update(f"{files[example.audio_filepath]} {example.offset} {example.duration}\n".encode())
        elif isinstance(example, Recording):
            inputs.update(f"{example.sample_rate} {len(example.samples)}\n".encode() + example.samples.tobytes())
        elif isinstance(example, Pair):
            inputs.update(json.dumps(example.source).encode() + b"\n")
    return {"examples": len(examples), "texts": texts.hexdigest(), "inputs": inputs.hexdigest()}


def loader_options(loader: Loader) -> dict[str, Any]:
    """Return the options of a loader that change the result; how many processes read ahead does not."""
    options = {name: value for name, value in vars(loader).items() if name != "workers"}
    if loader.memory is None:  # runs of earlier versions had no such option
        del options["memory"]
    return options
