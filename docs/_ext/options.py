"""The directives `options` and `choices`: what the YAML files in conf/ say about a command, or about a group.

```{options} adapt
```
```{choices} tuning
```
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

CONF = Path(__file__).resolve().parent.parent.parent / "conf"
_LINE = re.compile(r"^(?P<indent> *)(?P<key>[^\s#:][^:#]*):(?: (?P<value>[^#].*?)?)??(?:\s+# (?P<comment>.*))?$")
_HIDDEN = ("_target_", "_partial_", "defaults", "hydra", "page")


@dataclass(frozen=True)
class Option:
    """An option as a user writes it, its default, and its comment."""

    name: str
    default: str
    comment: str


def read_options(path: Path) -> tuple[str, list[Option]]:
    """Return the first comment of a config file, and its options in order."""
    first, options, parents = "", [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            first = first or ("" if "@package" in line else line.lstrip("# "))
        elif match := _LINE.match(line):
            depth = len(match["indent"]) // 2
            parents = [*parents[:depth], match["key"]]
            if match["key"].startswith("_") or any(part in _HIDDEN for part in parents):
                continue
            value, comment = (match["value"] or "").strip(), (match["comment"] or "").strip()
            if value or comment:
                options.append(Option(".".join(parents), value.strip("\"'") if value else "", comment))
    return first, options


def read_defaults(path: Path) -> list[Option]:
    """Return the groups that a command chooses from, with the choice that it makes by itself."""
    found = re.findall(r"^  - (?:override )?/?(\w+): (\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    groups = [(group, choice) for group, choice in found if (CONF / group).is_dir()]
    return [Option(group, choice, f"one of {', '.join(choices(group))}") for group, choice in groups]


def choices(group: str) -> list[str]:
    """Return the names of the choices of a group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def table(options: list[Option], prefix: str = "") -> list[str]:
    """Return options as a table in Markdown."""
    if not options:
        return []
    lines = ["", "| option | default | |", "| --- | --- | --- |"]
    for option in options:
        cells = (f"`{prefix}{option.name}`", f"`{option.default}`" if option.default else "", option.comment)
        lines.append("| " + " | ".join(_escape(cell) for cell in cells) + " |")
    return [*lines, ""]


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|") if cell.startswith("`") else re.sub(r"([|*<\[\]_])", r"\\\1", cell)


def command_page(command: str) -> str:
    """Return what a command's config file says, in Markdown."""
    path = CONF / f"{command}.yaml"
    first, own = read_options(path)
    shared = read_options(CONF / "base.yaml")[1] if re.search(r"^  - base$", path.read_text(), re.MULTILINE) else []
    known = {option.name for option in own}
    rest = [option for option in shared if option.name not in known]
    return "\n".join([_escape(first), *table([*read_defaults(path), *own, *rest])])


def group_page(group: str) -> str:
    """Return what the config files of a group say, in Markdown."""
    lines = []
    for name in choices(group):
        first, options = read_options(CONF / group / f"{name}.yaml")
        prefix = "" if group == "experiment" else f"{group}."
        lines += [f"### `{group}={name}`", "", _escape(first), *table(options, prefix)]
    return "\n".join(lines)


class Options(SphinxDirective):
    """Draw the options of a command."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        for path in CONF.glob("*.yaml"):
            self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(command_page(self.arguments[0]))


class Choices(SphinxDirective):
    """Draw the choices of a group, each with its options."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        for path in (CONF / self.arguments[0]).glob("*.yaml"):
            self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(group_page(self.arguments[0]), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives to Sphinx."""
    app.add_directive("options", Options)
    app.add_directive("choices", Choices)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
