"""The pages of results: each table comes from its JSON file, and each file is shown on one page."""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
FILES = sorted(path.stem for path in RESULTS.glob("*.json"))


@pytest.fixture(scope="module")
def extension():
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    try:
        import results

        yield results
    finally:
        sys.path.remove(str(ROOT / "docs" / "_ext"))


def test_no_page_has_a_table_of_its_own_and_each_file_is_on_one_page():
    shown = Counter()
    for page in RESULTS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"^\|", text, re.MULTILINE), f"{page.name} has a table that is not from a JSON file."
        shown.update(re.findall(r"^```\{results\} (\w+)$", text, re.MULTILINE))
    assert shown == Counter(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_table_has_all_cells_and_says_how_it_was_measured(extension, name):
    found = extension.read_results(RESULTS / f"{name}.json")
    text = extension.as_markdown(found)
    for row in (found["columns"], *found["rows"]):
        assert extension._row(row) in text.splitlines()
    assert found["command"] and (found["measured"] or (found["date"] and found["commit"] and found["machine"]))


def test_an_incomplete_file_is_refused(extension, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"columns": []}), encoding="utf-8")
    with pytest.raises(ValueError, match="expected"):
        extension.read_results(path)


def test_the_table_of_the_readme_is_that_of_the_demo():
    demo = json.loads((RESULTS / "demo.json").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in demo["rows"]:
        assert "| " + " | ".join(row) + " |" in readme
