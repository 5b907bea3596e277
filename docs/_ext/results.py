"""The directive `results`: a table of docs/results/NAME.json, with the command, the date and the machine below it.

    ```{results} demo
    ```

Each file has `columns`, `rows` (lists of cells as text, in MyST), and what is needed to repeat the measurement:
`command`, `date`, `commit`, `seeds`, `machine` and `measured`. Unknown values are null. `notes` are sentences.
"""

import json
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

KEYS = ("title", "command", "date", "commit", "seeds", "machine", "measured", "columns", "rows", "notes")


def read_results(path: Path) -> dict[str, Any]:
    """Read a file of results, and check that it is complete.

    Raises:
        ValueError: a key is missing or unknown, or a row has another number of cells than there are columns.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    if set(found) != set(KEYS):
        raise ValueError(f"{path} has the keys {sorted(found)}; expected {sorted(KEYS)}.")
    for row in found["rows"]:
        if len(row) != len(found["columns"]):
            raise ValueError(f"{path}: {len(row)} cells in a table of {len(found['columns'])} columns: {row}")
    return found


def as_markdown(found: dict[str, Any]) -> str:
    """Return the table in Markdown, and below it how it was measured."""
    lines = [_row(found["columns"]), _row(["---"] * len(found["columns"])), *map(_row, found["rows"])]
    return "\n".join(["", *lines, "", *found["notes"], "", *_source(found)])


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(_keep_together(cell.replace("|", "\\|")) for cell in cells) + " |"


def _keep_together(cell: str) -> str:
    """Keep a number on one line with its unit and its interval."""
    return cell.replace(" %", "\u00a0%").replace(" ± ", "\u00a0±\u00a0")


def _source(found: dict[str, Any]) -> list[str]:
    commands = [found["command"]] if isinstance(found["command"], str) else found["command"] or []
    facts = [
        f"Measured {found['measured']}." if found["measured"] else f"Measured on {found['date']}.",
        f"Commit {found['commit'][:10]}." if found["commit"] else "",
        f"Seeds: {found['seeds']}." if found["seeds"] else "",
        f"Machine: {found['machine']}." if found["machine"] else "",
        "No script reproduces this table." if not commands else "",
    ]
    text = " ".join(filter(None, facts))
    code = ["```text", *commands, "```"] if commands else []
    return ["::::{container} results-source", text, "", *code, "::::", ""]


class Results(SphinxDirective):
    """Draw one file of results."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / "results" / f"{self.arguments[0]}.json"
        self.env.note_dependency(str(path))
        return self.parse_text_to_nodes(as_markdown(read_results(path)))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive to Sphinx."""
    app.add_directive("results", Results)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
