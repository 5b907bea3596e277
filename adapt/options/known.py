"""Which options something reads: those of the configuration, and the further arguments of what its nodes name."""

import importlib
from collections.abc import Collection, Iterator, Mapping
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from adapt.errors import InputError
from adapt.files import is_file, is_folder
from adapt.options.composed import choices, names, near

# Arguments that the commands give themselves, so that a user's value would be ignored.
_GIVEN = {"loaded", "model", "data", "splits", "loader", "learned", "folder", "params", "path", "result"}
TRAINER_GIVEN = {
    "callbacks", "logger", "plugins", "default_root_dir", "enable_progress_bar", "enable_model_summary",
    "num_sanity_val_steps", "use_distributed_sampler",
}  # fmt: skip
_HYDRAS = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}
_OPEN = ("rates",)  # options without a node of their own that are mappings with any keys


def find(options: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    """Return whether the composed options have `key`, and its value."""
    value: Any = options
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def accepted(options: Mapping[str, Any], key: str, conf: Path) -> bool:
    """Return whether an option that is not in the configuration is nevertheless read.

    It is an argument of the function or class that its node names, or an entry of an option that is a mapping. A model
    of any family (model=pretrained) takes the options of all families; loading it checks them.
    """
    families = of_all_families(options, conf)
    if families and key.startswith("model."):
        return key in families or key.rpartition(".")[2] in _HYDRAS
    parts = key.split(".")
    for count in range(len(parts) - 1, 0, -1):
        has, node = find(options, ".".join(parts[:count]))
        if has and isinstance(node, Mapping) and "_target_" in node:
            return takes(node, parts[count], nested=len(parts) > count + 1)
        if has and not isinstance(node, Mapping) and node is not None:
            return False
    return parts[0] in options and parts[0] in _OPEN


def of_all_families(options: Mapping[str, Any], conf: Path) -> list[str]:
    """Return the options that a model of any family may have, if the command loads one; else nothing."""
    node = options.get("model")
    if not isinstance(node, Mapping) or not str(node.get("_target_", ".load_model")).endswith(".load_model"):
        return []
    lines = [line for path in sorted((conf / "model").glob("*.yaml")) for line in path.read_text("utf-8").splitlines()]
    leaves = [line.partition(":")[0] for line in lines if line[:1].isalpha()]
    return [f"model.{leaf}" for leaf in dict.fromkeys(leaves) if leaf != "config"]


def takes(node: Mapping[str, Any], name: str, nested: bool = False) -> bool:
    """Return whether what a node names has an argument `name`; `nested`: one that is a mapping."""
    if name in _HYDRAS:
        return not nested
    target = str(node["_target_"])
    if target == "torch.nn.Identity":  # takes any arguments, and uses none
        return False
    try:
        parameters = signature(_located(target)).parameters
    except (ImportError, AttributeError, TypeError, ValueError):
        return True  # building the node reports what is wrong with it
    given = _GIVEN if node.get("_partial_") else set()
    if target == "pytorch_lightning.Trainer":
        given = given | TRAINER_GIVEN
    if name in parameters and parameters[name].kind is not Parameter.VAR_KEYWORD:
        annotation = str(parameters[name].annotation)
        return name not in given and (not nested or "Mapping" in annotation or "dict" in annotation)
    return not nested and any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values())


def unknown(command: str, options: Mapping[str, Any], key: str, conf: Path, folder: str | None) -> InputError:
    """Return the error for an option that nothing reads, with the nearest ones."""
    group, _, leaf = key.partition(".")
    has, value = find(options, group)
    choice = _choice(value, conf / group)
    chosen = f" with {group}={choice}" if leaf and choice else ""
    if key.startswith("trainer.") and leaf in TRAINER_GIVEN:
        return InputError(f"innertune {command} sets {key} itself, so it cannot be given.")
    text = f"There is no option {key}{chosen}."
    others = [name for name in choices(group, conf, folder) if _has_option(conf / group / f"{name}.yaml", leaf)]
    leaves = [name for name in names(options) if not isinstance(find(options, name)[1], Mapping)]
    close = near(key, [*leaves, *of_all_families(options, conf)])
    if leaf and others:
        text += f" It is an option of {group}={', '.join(others)}."
    elif close:
        text += f" Did you mean {' or '.join(close)}?"
    elif has and isinstance(value, Mapping):
        own = [f"{group}.{name}" for name in value if not str(name).startswith("_")]
        text += f" Options here: {', '.join(own)}." if own else " It has no options."
    return InputError(f"{text} (`innertune {command} --cfg job` shows all options.)")


def check_nodes(command: str, options: Mapping[str, Any], conf: Path, folder: str | None) -> None:
    """Check every node of a configuration with files of the user's. Raises InputError if nothing reads an option."""
    for path, node in _nodes(options):
        for name in node:
            ours = name in ("page", "on_error", "check", "group_by")  # read by the command itself
            if not str(name).startswith("_") and not ours and not takes(node, name):
                bare = {key: value for key, value in node.items() if key != name}
                raise unknown(command, _replaced(options, path, bare), f"{path}.{name}", conf, folder)


def check_top(command: str, options: Mapping[str, Any], ours: Collection[str], conf: Path, folder: str | None) -> None:
    """Check that each top-level option is one of `ours` or used in another one by `${...}`. Raises InputError."""
    for name in options:
        if name not in ours and f"${{{name}" not in str({**options, name: None}):
            raise unknown(command, {key: options[key] for key in options if key in ours}, str(name), conf, folder)


def _located(target: str) -> Any:
    parts = target.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for name in parts[count:]:
            found = getattr(found, name)
        return found
    raise ImportError(target)


def _nodes(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, value in options.items():
        if isinstance(value, Mapping):
            if "_target_" in value:
                yield f"{prefix}{key}", value
            yield from _nodes(value, f"{prefix}{key}.")


def _replaced(options: Mapping[str, Any], path: str, node: Mapping[str, Any]) -> dict[str, Any]:
    name, _, rest = path.partition(".")
    return {**options, name: _replaced(options[name], rest, node) if rest else node}


def _choice(node: Any, folder: Path) -> str:
    """Return the choice of a group that has the node's target, and "" if several or none have it."""
    if not isinstance(node, Mapping) or "_target_" not in node or not is_folder(folder):
        return ""
    target = f"_target_: {node['_target_']}\n"
    found = [path.stem for path in sorted(folder.glob("*.yaml")) if target in path.read_text(encoding="utf-8")]
    return found[0] if len(found) == 1 else ""


def _has_option(path: Path, name: str) -> bool:
    if not is_file(path):
        return False
    return any(line.startswith(f"{name}:") for line in path.read_text(encoding="utf-8").splitlines())
