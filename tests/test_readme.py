"""The README: its length and its links. `tests/docs/test_snippets.py` runs its commands and its Python."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_is_read_in_one_sitting():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 220 and len(text.encode()) <= 15_000
    assert text.count("![") == 3


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (README.parent / target).exists(), target
