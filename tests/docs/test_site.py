"""The site: it builds without a warning and without a network, and its reference is complete."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import adapt
import interventions
from adapt.cli import COMMANDS
from adapt.commands.show import config_folder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]+src=["']?(?:https?:)?//|<link[^>]+href=["']?(?:https?:)?//"""
    r"""|url\(["']?(?:https?:)?//|@import\s+["'](?:https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The built site. Tutorials that did not change since the last build in this checkout are not run again."""
    folder = tmp_path_factory.mktemp("site")
    unreachable = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")}
    own = {"INNERTUNE_CACHE": str(folder / "cache"), "INNERTUNE_DATA": str(folder / "data")}
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(folder / "html")],
        cwd=ROOT, capture_output=True, text=True, env=os.environ | unreachable | own,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return folder / "html"


def test_no_page_fetches_anything(site):
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        assert not FETCHED.search(path.read_text(encoding="utf-8")), path


def test_tutorials_were_executed(site):
    pages = [path for path in (site / "tutorials").glob("*.html") if path.stem != "index"]
    assert len(pages) == 8
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert "cell_output" in text and str(Path.home()) not in text and str(ROOT) not in text, path


def test_the_reference_has_every_public_name_command_and_choice(site):
    def read(name: str) -> str:
        return (site / "reference" / f"{name}.html").read_text(encoding="utf-8")

    for name in set(adapt.__all__) - {"measures", "tunings"}:
        assert f'id="adapt.{name}"' in read("adapt"), name
    for name in set(interventions.__all__) - {"GENERATED", "PROMPT"}:
        assert f'id="interventions.{name}"' in read("interventions"), name
    for command in COMMANDS:
        assert f'id="{command}"' in read("commands"), command
    for path in config_folder().glob("*/*.yaml"):
        assert f"{path.parent.name}={path.stem}" in read("configs"), path


def test_every_table_of_results_is_on_its_page(site):
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "results").glob("*.html"))
    assert text.count("results-source") >= len(list((ROOT / "docs" / "results").glob("*.json")))
