"""Adaptations put into a model's own file and taken out again, bit for bit, one on top of another.

What an adaptation replaces is kept beside the model in one file, `model.replaced.safetensors`, and nothing else is
needed to go back. A process killed at any instant leaves the model from before or the one from after: that file is
written before the model when something goes in, and after it when something comes out, and an entry that the model has
not got yet, or no more, is told by the model's fingerprint.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor, nn

from adapt.errors import InputError
from adapt.files import atomic
from adapt.models.checkpoint import (
    FORMAT,
    adapted_fingerprint,
    adapted_tensors,
    load_model,
    load_weights,
    read_adaptation,
    weights,
)
from adapt.models.loaded import Loaded
from interventions.files import FileError, read_tensors, write_tensors

_KIND = "what adaptations replaced"


@dataclass(frozen=True)
class Level:
    """An adaptation in a model's file: the model's fingerprints without and with it, and the file's metadata before."""

    adaptation: str
    before: str
    after: str
    metadata: dict[str, str]
    tensors: list[str]


def apply_to_file(model: str, adaptation: str) -> Level:
    """Put an adaptation into the file of the model that it was made from, `model` (a folder, or a .safetensors file).

    Raises:
        InputError: there is no such model or adaptation, one belongs to another base, or the file cannot be changed.
    """
    place = _file(model)
    base = load_model(model)
    levels, kept = _levels(place, base.fingerprint)
    path, facts = read_adaptation(adaptation)
    wanted = facts["base"]["fingerprint"]
    if wanted != base.fingerprint:
        there = f" In it are: {', '.join(level.adaptation for level in levels)}." if levels else ""
        raise InputError(
            f"The adaptation '{adaptation}' belongs to another base: it was made from fingerprint {wanted[:12]}, and "
            f"'{model}' has {base.fingerprint[:12]}.{there}"
        )
    tensors, exact = adapted_tensors(path, facts, base.model)
    new = {alias: tensors[name].clone() for name in tensors for alias in _in_file(base.model.net, name, place)}
    stored, metadata = _read(place)
    adapted = base.model.with_header(facts["model"])
    load_weights(adapted, {**weights(base.model.net), **tensors}, path.parent / "weights.safetensors")
    after = adapted_fingerprint(path, facts, adapted, exact)
    level = Level(str(Path(adaptation).absolute()), base.fingerprint, after, metadata, sorted(new))
    header = json.loads(metadata.get("innertune", "{}")) or {"format": FORMAT}
    header |= {**facts["model"], "fingerprint": after}
    _keep(place, [*levels, level], {**kept, **{f"{len(levels)}:{name}": stored[name] for name in level.tensors}})
    _write(place, model, {**stored, **new}, {**metadata, "innertune": json.dumps(header, ensure_ascii=False)}, after)
    return level


def remove_from_file(model: str, adaptation: str | None = None) -> Level:
    """Take the last adaptation out of a model's file; `adaptation` may say which one that should be.

    Raises:
        InputError: there is none in it, another one is on top, or the file was changed since; it is left as it was.
    """
    place = _file(model)
    levels, kept = _levels(place, load_model(model).fingerprint)
    if not levels:
        raise InputError(f"No adaptation was applied to '{model}': there is nothing to remove.")
    level = levels[-1]
    if adaptation is not None and level.adaptation != str(Path(adaptation).absolute()):
        raise InputError(f"In '{model}', '{level.adaptation}' was applied last. Remove that first.")
    stored, _ = _read(place)
    prefix = f"{len(levels) - 1}:"
    old = {name.removeprefix(prefix): tensor for name, tensor in kept.items() if name.startswith(prefix)}
    _write(place, model, {**stored, **old}, level.metadata, level.before)
    _keep(place, levels[:-1], {name: tensor for name, tensor in kept.items() if not name.startswith(prefix)})
    return level


def _file(model: str) -> Path:
    path = Path(model).expanduser()
    if (path / "model.safetensors.index.json").is_file():
        raise InputError(f"The weights in '{model}' are in several files. Write them into one: innertune export.")
    place = path / "model.safetensors" if path.is_dir() else path
    if place.suffix != ".safetensors" or not place.is_file():
        raise InputError(
            f"'{model}' holds no weights of its own to be changed. Give a folder with model.safetensors, or a "
            ".safetensors file; of an adaptation or an embedded model, what `innertune export` makes of it."
        )
    return place


def _in_file(net: nn.Module, name: str, place: Path) -> list[str]:
    """The names that a tensor has in the file: tied ones may stand there under another, or several times."""
    state = net.state_dict(keep_vars=True)
    there = _names(place)
    found = [other for other, tensor in state.items() if tensor is state[name] and other in there]
    if not found:
        raise InputError(
            f"'{place}' has no tensor '{name}': it calls its tensors otherwise than the network does. What `innertune "
            "export` writes can be changed."
        )
    return found


def _names(place: Path) -> set[str]:
    from safetensors import safe_open

    with safe_open(place, framework="pt") as file:
        return set(file.keys())


def _read(place: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(place, framework="pt") as file:
        # A copy: what is read from a file that is about to be replaced may be that file's own memory.
        return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def _write(place: Path, model: str, tensors: Mapping[str, Tensor], metadata: dict[str, str], wanted: str) -> None:
    from safetensors.torch import save_file

    with atomic(place) as part:
        save_file(dict(tensors), part, metadata=metadata)
        found = _loaded(part, place, Path(model).expanduser()).fingerprint
        if found != wanted:
            raise InputError(
                f"'{place}' was left as it is: with these tensors the model would have fingerprint {found[:12]}, and "
                f"not {wanted[:12]}."
            )


def _loaded(part: Path, place: Path, model: Path) -> Loaded:
    # What would be there, read before it is: the other files of its folder are only pointed at.
    with TemporaryDirectory() as folder:
        trial = Path(folder)
        (trial / place.name).symlink_to(part.absolute())
        if not model.is_dir():
            if place.with_name("model.json").is_file():  # what an export says of the weights
                (trial / "model.json").symlink_to(place.with_name("model.json").absolute())
            return load_model(str(trial / place.name))
        for other in model.iterdir():
            if other.is_file() and other.suffix != ".safetensors" and not other.name.startswith("."):
                (trial / other.name).symlink_to(other.absolute())
        return load_model(str(trial))


def _levels(place: Path, found: str) -> tuple[list[Level], dict[str, Tensor]]:
    """What is in a model's file with that fingerprint, from the bottom up, and the tensors that it replaced."""
    path = _beside(place)
    if not path.is_file():
        return [], {}
    try:
        header, tensors = read_tensors(path, _KIND)
        levels = [Level(**level) for level in header["levels"]]
    except (FileError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' is damaged ({error}); without it, what was applied cannot be removed.") from None
    if levels and levels[-1].after != found and levels[-1].before == found:  # a kill was between the two files
        levels = levels[:-1]
    if levels and levels[-1].after != found:
        raise InputError(
            f"'{place}' was changed since '{levels[-1].adaptation}' was applied: it has fingerprint {found[:12]}, and "
            f"not {levels[-1].after[:12]}. If that is as you want it, delete '{path}'."
        )
    return levels, {name: tensor for name, tensor in tensors.items() if int(name.split(":")[0]) < len(levels)}


def _keep(place: Path, levels: list[Level], tensors: Mapping[str, Tensor]) -> None:
    path = _beside(place)
    if levels:
        write_tensors(path, _KIND, {"levels": [asdict(level) for level in levels]}, tensors)
    else:
        path.unlink(missing_ok=True)


def _beside(place: Path) -> Path:
    return place.with_name(f"{place.stem}.replaced.safetensors")
