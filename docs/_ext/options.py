"""The directives `options` and `choices`: what the YAML files in conf/ say about a command, or about a group.

```{options} adapt
```
```{choices} tuning
```
"""

import re
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from adapt.option_texts import Option, command_options, config_folder, first_comment, group_options, members

CONF = config_folder()


def table(options: Sequence[Option]) -> list[str]:
    """Return options as a table in Markdown."""
    if not options:
        return []
    lines = ["", "| option | default | |", "| --- | --- | --- |"]
    for option in options:
        text = f"one of {', '.join(option.choices)}. {option.text}" if option.choices else option.text
        cells = (f"`{option.name}`", f"`{option.default}`" if option.default else "", text)
        lines.append("| " + " | ".join(_escape(cell) for cell in cells) + " |")
    return [*lines, ""]


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|") if cell.startswith("`") else re.sub(r"([|*<\[\]_])", r"\\\1", cell)


def command_page(command: str) -> str:
    """Return the options of a command, in Markdown."""
    return "\n".join([_escape(first_comment(CONF / f"{command}.yaml")), *table(command_options(command))])


def group_page(group: str) -> str:
    """Return the choices of a group, each with its options, in Markdown."""
    lines = []
    for name, text in members(group):
        options = [] if group == "experiment" else group_options(group, name)
        lines += [f"### `{group}={name}`", "", _escape(text), *table(options)]
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
