"""Draw docstrings, messages and page sentences at random, for a reader who has not seen the code.

    python scripts/sample_texts.py --seed 0 --count 30

A third of the texts are docstrings of modules, classes and functions, a third are messages of errors and logs, and a
third are sentences of page templates. One text in thirty may need a second reading.
"""

import argparse
import ast
import random
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("adapt", "interventions")


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and its functions."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and (text := ast.get_docstring(node)):
            yield text


def messages(tree: ast.AST) -> Iterator[str]:
    """Yield the messages of raised errors and of log calls; values stand in braces."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            call = node.exc
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_log(node.func):
            call = node
        else:
            continue
        text = "".join(map(_text, call.args[:1]))
        if len(text.split()) > 3:
            yield text


def page_sentences(template: str) -> Iterator[str]:
    """Yield the paragraphs of a page template, without tags; expressions stand in braces."""
    for paragraph in re.findall(r"<p[^>]*>(.*?)</p>", template, re.DOTALL):
        text = re.sub(r"\{%.*?%\}|<[^>]+>", "", paragraph)
        text = re.sub(r"\{\{\s*(.*?)\s*\}\}", r"{\1}", text)
        if len(text.split()) > 4:
            yield " ".join(text.split())


def sample(seed: int, count: int) -> list[tuple[str, str]]:
    """Return `count` texts with the file of each, a third of each kind."""
    kinds: list[list[tuple[str, str]]] = [[], [], []]
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        tree, name = ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(ROOT))
        kinds[0] += [(name, text) for text in docstrings(tree)]
        kinds[1] += [(name, text) for text in messages(tree)]
    for path in sorted((ROOT / "adapt").rglob("*.j2")):
        kinds[2] += [(str(path.relative_to(ROOT)), text) for text in page_sentences(path.read_text(encoding="utf-8"))]
    draw = random.Random(seed)
    return [text for number, texts in enumerate(kinds) for text in draw.sample(texts, (count + number) // 3)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=30)
    args = parser.parse_args()
    for number, (name, text) in enumerate(sample(args.seed, args.count), start=1):
        print(f"{number}. {name}\n\n{text}\n")


def _is_log(function: ast.Attribute) -> bool:
    return isinstance(function.value, ast.Name) and function.value.id == "log"


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    return f"{{{ast.unparse(node.value)}}}" if isinstance(node, ast.FormattedValue) else f"{{{ast.unparse(node)}}}"


if __name__ == "__main__":
    main()
