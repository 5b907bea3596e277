"""The options of the commands as data: name, default, choices and text, read from the comments in `conf/`.

A comment behind a value, or directly above it, is the option's text. If it begins with the only possible values, as in
`# constant|linear|cosine: how the learning rate changes`, these are its choices. Comments in a defaults list are the
texts of the config groups. The first comment of a file describes it, and lines below it that begin with `# $` are
examples. Neither Hydra nor torch is imported, so that help comes at once.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import yaml

from adapt.errors import InputError
from adapt.files import is_file, is_folder

GENERAL = "general"
_CHOICES = re.compile(r"([\w.-]+(?:\|[\w.-]+)+): (.*)", re.DOTALL)
_SKIPPED = ("defaults", "hydra")


@dataclass(frozen=True)
class Option:
    """An option of a command.

    Attributes:
        name: The full name, as on the command line: "tuning.top".
        default: The default as it is written in `conf/`; "???" if the option must be given.
        choices: The only possible values; empty if there are others.
        text: What the option does.
        group: The part of the configuration that it belongs to, such as "tuning"; "general" for options without one.
        chosen: The choice of the group that has the option, such as "neurons"; "" if the command has it always.
    """

    name: str
    default: str
    choices: tuple[str, ...]
    text: str
    group: str
    chosen: str = ""

    @property
    def required(self) -> bool:
        """Whether the option must be given."""
        return self.default == "???"


def config_folder() -> Path:
    """Return `conf/`: inside the package if it is installed, next to it in a checkout."""
    package = Path(__file__).parent
    inside = package / "conf"
    return inside if is_folder(inside) else package.parent / "conf"


def command_options(command: str, chosen: Mapping[str, str] | None = None, conf: Path | None = None) -> list[Option]:
    """Return the options of a command, in the order of its configuration.

    Args:
        command: The command's name, such as "adapt".
        chosen: Choices of config groups other than the defaults: {"tuning": "neurons"}, and {"experiment": NAME}.
        conf: The folder of the configuration; None for innertune's own.

    Raises:
        InputError: the command has no such group, or the group no such choice.
    """
    conf = conf or config_folder()
    chosen = dict(chosen or {})
    path = conf / f"{command}.yaml"
    defaults = list(_defaults(path))
    for group, choice in chosen.items():
        if group not in {default.group for default in defaults}:
            raise InputError(f"innertune {command} has no choice of '{group}'.{_near(group, _groups(defaults))}")
        if choice not in (names := [name for name, _ in members(group, conf)]):
            raise InputError(f"There is no {group}={choice}. Choices: {', '.join(names)}.{_near(choice, names)}")
    experiment = conf / "experiment" / f"{chosen.get('experiment')}.yaml"
    if "experiment" in chosen:
        chosen = {one.group: one.choice for one in _defaults(experiment) if one.override} | chosen
    found: dict[str, Option] = {}
    for default in defaults:
        if default.group == "_self_":
            _merge(found, _file_options(path))
        elif not default.group:
            _merge(found, _file_options(conf / f"{default.choice}.yaml"))
        elif not default.override:
            choice = chosen.get(default.group, default.choice)
            names = tuple(name for name, text in members(default.group, conf) if _fits(default.group, text, command))
            _merge(found, [Option(default.group, choice, names, default.text, default.group)])
            if choice not in ("null", "") and default.group != "experiment":
                _merge(found, group_options(default.group, choice, conf))
    if is_file(experiment):
        _merge(found, _file_options(experiment))
    return list(found.values())


def group_options(group: str, choice: str, conf: Path | None = None) -> list[Option]:
    """Return the options of a choice of a config group, such as those of `tuning=neurons`."""
    path = (conf or config_folder()) / group / f"{choice}.yaml"
    found: dict[str, Option] = {}
    for default in _defaults(path):
        if not default.group:
            _merge(found, group_options(group, default.choice, conf))
    _merge(found, [replace(one, name=f"{group}.{one.name}", group=group, chosen=choice) for one in _file_options(path)])
    return [replace(one, chosen=choice) for one in found.values()]


def members(group: str, conf: Path | None = None) -> list[tuple[str, str]]:
    """Return the choices of a config group, each with its description."""
    return [(path.stem, first_comment(path)) for path in sorted(((conf or config_folder()) / group).glob("*.yaml"))]


def groups(conf: Path | None = None) -> list[str]:
    """Return the names of all config groups."""
    return sorted(path.name for path in (conf or config_folder()).iterdir() if is_folder(path))


def examples(command: str, conf: Path | None = None) -> list[str]:
    """Return the example command lines of a command."""
    head = _head(_lines((conf or config_folder()) / f"{command}.yaml"))
    return [line.removeprefix("# $ ") for line in head if line.startswith("# $ ")]


def first_comment(path: Path) -> str:
    """Return the first comment of a config file, which describes the choice or the command."""
    return next((line.lstrip("# ") for line in _lines(path) if line.startswith("#") and "@package" not in line), "")


@dataclass(frozen=True)
class _Default:
    """An entry of a defaults list. `group` is "" for a file without a group, whose name is `choice`."""

    group: str
    choice: str
    text: str
    override: bool = False


def _defaults(path: Path) -> Iterator[_Default]:
    lines, root = _lines(path), _root(path)
    listed = dict((key.value, value) for key, value in root.value).get("defaults") if root else None
    for entry in listed.value if listed else ():
        if isinstance(entry, yaml.ScalarNode):
            yield _Default("_self_" if entry.value == "_self_" else "", entry.value, "")
            continue
        for key, value in entry.value:
            override = key.value.startswith("override ")
            group = key.value.removeprefix("override ").removeprefix("/").partition("@")[0]
            yield _Default(group, value.value, _comment(lines, key, value), override)


def _file_options(path: Path) -> list[Option]:
    lines, root = _lines(path), _root(path)
    return list(_walk(root, lines, "", len(_head(lines)))) if root else []


def _walk(node: yaml.MappingNode, lines: list[str], prefix: str, head: int) -> Iterator[Option]:
    for key, value in node.value:
        if not prefix and key.value in _SKIPPED:
            continue
        text = _comment(lines, key, value, head)
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _walk(value, lines, f"{prefix}{key.value}.", head)
        elif not key.value.startswith("_") or (key.value == "_target_" and text):
            written = "\n".join(lines)[value.start_mark.index : value.end_mark.index]
            choices, text = _split(text, written)
            name = f"{prefix}{key.value}"
            yield Option(name, written, choices, text, name.partition(".")[0] if prefix else GENERAL)


def _comment(lines: list[str], key: yaml.Node, value: yaml.Node, head: int = 0) -> str:
    """Return the comment behind a value, otherwise the comment lines directly above its key; "" without any."""
    nested = isinstance(value, yaml.MappingNode) and value.start_mark.line > key.start_mark.line
    end = key.end_mark if nested else value.end_mark
    behind = lines[end.line][end.column :].partition("#")[2].strip() if end.line < len(lines) else ""
    if behind:
        return behind
    above: list[str] = []
    number = key.start_mark.line - 1
    while number >= head and lines[number].lstrip().startswith("#"):
        above.insert(0, lines[number].lstrip("# ").rstrip())
        number -= 1
    return " ".join(above)


def _split(text: str, default: str) -> tuple[tuple[str, ...], str]:
    if match := _CHOICES.fullmatch(text):
        return tuple(match[1].split("|")), match[2]
    return (("true", "false") if default in ("true", "false") else ()), text


def _merge(found: dict[str, Option], options: list[Option]) -> None:
    """Override defaults. An option keeps its place, and its text and choices if the later file says nothing."""
    for option in options:
        before = found.get(option.name)
        if before is None:
            found[option.name] = option
        elif option.text:
            found[option.name] = replace(before, default=option.default, text=option.text, choices=option.choices)
        else:
            found[option.name] = replace(before, default=option.default)


def _fits(group: str, text: str, command: str) -> bool:
    return group != "experiment" or text.startswith(f"{command}:")


def _groups(defaults: list[_Default]) -> list[str]:
    return [default.group for default in defaults if default.group not in ("", "_self_") and not default.override]


def _near(name: str, names: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, names, 1)
    return f" Did you mean {near[0]}?" if near else ""


def _head(lines: list[str]) -> list[str]:
    count = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:count]


@cache
def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@cache
def _root(path: Path) -> yaml.MappingNode | None:
    root = yaml.compose("\n".join(_lines(path)))
    return root if isinstance(root, yaml.MappingNode) else None
