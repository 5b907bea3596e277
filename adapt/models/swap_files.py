"""Apply adaptations to a model's own file and remove them again, bit for bit. Several can be stacked.

The replaced tensors are stored in one file next to the model, `model.replaced.safetensors`; nothing else is needed to
go back. If the process is killed, the model file is either the old or the new one: the file of replaced tensors is
written before the model when an adaptation is applied, and after it when one is removed. An entry that does not belong
to the model file is recognised by the model's fingerprint.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor, nn

from adapt.errors import InputError
from adapt.files import atomic, is_file, is_folder, user_path
from adapt.models.adaptation_files import adapted_fingerprint, adapted_tensors, read_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.loaded import Loaded
from adapt.models.model_files import FORMAT
from adapt.models.state import load_weights, weights
from interventions.files import FileError, read_tensors, write_tensors

_KIND = "what adaptations replaced"  # stored in the files


@dataclass(frozen=True)
class Level:
    """An adaptation that was applied to a model's file.

    Args:
        adaptation: The absolute path of the adaptation.
        before: The model's fingerprint without it.
        after: The model's fingerprint with it.
        metadata: The metadata of the model's file without it.
        tensors: The names of the replaced tensors in the file.
    """

    adaptation: str
    before: str
    after: str
    metadata: dict[str, str]
    tensors: list[str]


def apply_to_file(model: str, adaptation: str) -> Level:
    """Write an adaptation into the file of its base, `model` (a folder, or a .safetensors file).

    Raises:
        InputError: there is no such model or adaptation, the adaptation belongs to another base, or the file cannot be
            changed.
    """
    file = _weights_file(model)
    base = load_model(model)
    levels, replaced = _levels(file, base.fingerprint)
    path, facts = read_adaptation(adaptation)
    expected = facts["base"]["fingerprint"]
    if expected != base.fingerprint:
        applied = f" Applied to it: {', '.join(level.adaptation for level in levels)}." if levels else ""
        raise InputError(
            f"The adaptation '{adaptation}' belongs to another base: it was made from fingerprint {expected[:12]}, but "
            f"'{model}' has {base.fingerprint[:12]}.{applied}"
        )
    tensors, exact = adapted_tensors(path, facts, base.model)
    new = {alias: tensors[name].clone() for name in tensors for alias in _names_in_file(base.model.net, name, file)}
    stored, metadata = _read(file)
    adapted = base.model.with_header(facts["model"])
    load_weights(adapted, {**weights(base.model.net), **tensors}, path.parent / "weights.safetensors")
    after = adapted_fingerprint(path, facts, adapted, exact)
    level = Level(str(Path(adaptation).absolute()), base.fingerprint, after, metadata, sorted(new))
    header = json.loads(metadata.get("innertune", "{}")) or {"format": FORMAT}
    header |= {**adapted.header(), "fingerprint": after}
    old = {f"{len(levels)}:{name}": stored[name] for name in level.tensors}
    _write_levels(file, [*levels, level], {**replaced, **old})
    _write(file, model, {**stored, **new}, {**metadata, "innertune": json.dumps(header, ensure_ascii=False)}, after)
    return level


def remove_from_file(model: str, adaptation: str | None = None) -> Level:
    """Remove the last applied adaptation from a model's file; if `adaptation` is given, it must be that one.

    Raises:
        InputError: no adaptation was applied, another one is on top, or the file was changed since. The file stays
            unchanged.
    """
    file = _weights_file(model)
    levels, replaced = _levels(file, load_model(model).fingerprint)
    if not levels:
        raise InputError(f"There is nothing to remove: no adaptation was applied to '{model}'.")
    level = levels[-1]
    if adaptation is not None and level.adaptation != str(Path(adaptation).absolute()):
        raise InputError(f"The last adaptation applied to '{model}' is '{level.adaptation}'. Remove it first.")
    stored, _ = _read(file)
    prefix = f"{len(levels) - 1}:"
    old = {name.removeprefix(prefix): tensor for name, tensor in replaced.items() if name.startswith(prefix)}
    _write(file, model, {**stored, **old}, level.metadata, level.before)
    kept = {name: tensor for name, tensor in replaced.items() if not name.startswith(prefix)}
    _write_levels(file, levels[:-1], kept)
    return level


def _weights_file(model: str) -> Path:
    path = user_path(model)
    if is_file(path / "model.safetensors.index.json"):
        raise InputError(f"The weights in '{model}' are split into several files. Merge them: innertune export.")
    file = path / "model.safetensors" if is_folder(path) else path
    if file.suffix != ".safetensors" or not is_file(file):
        raise InputError(
            f"'{model}' has no weights file that can be changed. Give a folder with model.safetensors, or a "
            ".safetensors file. For an adaptation or an embedded model, first run innertune export."
        )
    return file


def _names_in_file(net: nn.Module, name: str, file: Path) -> list[str]:
    """Return the names of a tensor in the file: a tied tensor may have another name there, or several."""
    from safetensors import safe_open

    state = net.state_dict(keep_vars=True)
    with safe_open(file, framework="pt") as opened:
        present = set(opened.keys())
    names = [other for other, tensor in state.items() if tensor is state[name] and other in present]
    if not names:
        raise InputError(
            f"'{file}' has no tensor '{name}': its tensors have other names than those of the network. Files that "
            "`innertune export` writes can be changed."
        )
    return names


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        # Clone: the tensors may be mapped from the file, which is about to be replaced.
        tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118 (not a dict)
        return tensors, dict(opened.metadata() or {})


def _write(file: Path, model: str, tensors: Mapping[str, Tensor], metadata: dict[str, str], expected: str) -> None:
    from safetensors.torch import save_file

    with atomic(file) as part:
        save_file(dict(tensors), part, metadata=metadata)
        actual = _load_part(part, file, user_path(model)).fingerprint
        if actual != expected:
            raise InputError(
                f"'{file}' was left unchanged: with these tensors, the model would have fingerprint {actual[:12]} "
                f"instead of {expected[:12]}."
            )


def _load_part(part: Path, file: Path, model: Path) -> Loaded:
    """Load the model as it will be once `part` replaces `file`: a temporary folder links to its other files."""
    with TemporaryDirectory() as folder:
        preview = Path(folder)
        (preview / file.name).symlink_to(part.absolute())
        if not is_folder(model):
            if is_file(file.with_name("model.json")):  # an export's description of the weights
                (preview / "model.json").symlink_to(file.with_name("model.json").absolute())
            return load_model(str(preview / file.name))
        for other in model.iterdir():
            if is_file(other) and other.suffix != ".safetensors" and not other.name.startswith("."):
                (preview / other.name).symlink_to(other.absolute())
        return load_model(str(preview))


def _levels(file: Path, actual: str) -> tuple[list[Level], dict[str, Tensor]]:
    """Return the adaptations applied to a file, the oldest first, and the tensors that they replaced.

    `actual` is the fingerprint of the model in the file.
    """
    path = _replaced_file(file)
    if not is_file(path):
        return [], {}
    try:
        header, tensors = read_tensors(path, _KIND)
        levels = [Level(**level) for level in header["levels"]]
    except (FileError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' is damaged ({error}); without it, adaptations cannot be removed.") from None
    if levels and levels[-1].after != actual and levels[-1].before == actual:  # killed between the two writes
        levels = levels[:-1]
    if levels and levels[-1].after != actual:
        raise InputError(
            f"'{file}' was changed since '{levels[-1].adaptation}' was applied: it has fingerprint {actual[:12]}, "
            f"expected {levels[-1].after[:12]}. To keep it like this, delete '{path}'."
        )
    return levels, {name: tensor for name, tensor in tensors.items() if int(name.split(":")[0]) < len(levels)}


def _write_levels(file: Path, levels: list[Level], tensors: Mapping[str, Tensor]) -> None:
    path = _replaced_file(file)
    if levels:
        write_tensors(path, _KIND, {"levels": [asdict(level) for level in levels]}, tensors)
    else:
        path.unlink(missing_ok=True)


def _replaced_file(file: Path) -> Path:
    return file.with_name(f"{file.stem}.replaced.safetensors")
