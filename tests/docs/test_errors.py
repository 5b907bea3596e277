"""The page of error messages: each message that it lists is in the code."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "errors.md"


def code_texts() -> str:
    """Return all string constants of both packages, one per line; parts that are filled in are `…`."""
    texts = []
    for path in sorted([*ROOT.glob("adapt/**/*.py"), *ROOT.glob("interventions/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def messages() -> list[str]:
    """Return the messages of the page: lines of code that a definition follows."""
    found = re.findall(r"^(`+) ?(.+?) ?\1\n: ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [message for _, message in found]


CODE = code_texts()


def test_the_page_lists_messages():
    assert len(messages()) > 50


@pytest.mark.parametrize("message", messages())
def test_each_message_is_in_the_code(message):
    """A name in quotes may be filled in by more or fewer parts than the page shows."""
    pattern = ".{0,60}?".join(re.escape(part) for part in message.split("…"))
    assert re.search(pattern, CODE), f"docs/reference/errors.md has a message that no code prints: {message}"
