"""The house keeps its shape: imports point one way, heavy libraries come late, nothing is unpickled."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def test_interventions_know_nothing_of_adapt():
    allowed = {"torch", "safetensors", "interventions"} | set(sys.stdlib_module_names)
    for path in modules("interventions"):
        assert {name.split(".")[0] for name in imports(path)} <= allowed, path


# From the top down; a place imports from places below it only, in late and type-only imports too.
LAYERS = (
    ("adapt.cli",),
    ("adapt.commands",),
    ("adapt.studio", "adapt.report"),
    ("adapt.training", "adapt.evaluation"),
    ("adapt.tuning", "adapt.comparison", "adapt.corrections"),
    ("adapt.introspect",),
    ("adapt.models",),
    ("adapt.metrics",),
    ("adapt.data",),
    ("adapt.build", "adapt.run", "adapt.run_files", "adapt.run_lock", "adapt.renamed"),
    ("adapt.checks", "adapt.errors", "adapt.files", "adapt.progress", "adapt.distributed"),
    ("interventions",),
)  # fmt: skip


def test_only_commands_and_build_know_hydra():
    allowed = {ROOT / "adapt" / f"{name}.py" for name in ("build", "cli", "run")}
    for path in modules("adapt"):
        if {name.split(".")[0] for name in imports(path)} & {"hydra", "omegaconf"}:
            assert path in allowed or path.parent.name == "commands", path


def test_only_build_instantiates():
    assert [path.name for path in modules("adapt") if "instantiate(" in path.read_text()] == ["build.py"]


def test_nothing_unpickles():
    for path in [*modules("adapt"), *modules("interventions")]:
        text = path.read_text()
        assert "import pickle" not in text and "weights_only=False" not in text, path
        for call in re.findall(r"torch\.load\(.*", text):
            assert "weights_only=True" in call, path


@pytest.mark.parametrize("command", ["--help", "show"])
def test_help_imports_nothing_heavy(command):
    code = f"import sys; sys.argv[1:] = ['{command}']\n"
    code += "try:\n    from adapt.cli import main; main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'numpy', 'hydra', 'omegaconf', 'rich'} & sys.modules.keys()), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]", done.stderr


@pytest.mark.parametrize("command", ["adapt", "sites"])
def test_composing_a_config_imports_no_torch(command):
    code = f"import sys; sys.argv[1:] = ['{command}', '--cfg', 'job']\nfrom adapt.cli import main; main()\n"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True)
    assert "pretrained: us-english" in done.stdout
    assert "| torch\n" not in done.stderr and "numpy" not in done.stderr
