"""The house keeps its shape: imports point one way, heavy libraries come late, nothing is unpickled."""

import ast
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_COMMAND_LINES = 90


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
# "adapt" is the package's own __init__.py, which names what is public.
LAYERS = (
    ("adapt.cli", "adapt._entry"),
    ("adapt.commands", "adapt.options"),
    ("adapt",),
    ("adapt.blended",),
    ("adapt.api", "adapt.measures", "adapt.tunings"),
    ("adapt.studio", "adapt.report"),
    ("adapt.planning", "adapt.unlabelled", "adapt.hot_words", "adapt.adversarial"),
    ("adapt.training", "adapt.evaluation", "adapt.export"),
    ("adapt.tuning", "adapt.comparison", "adapt.corrections", "adapt.blending"),
    ("adapt.introspect",),
    ("adapt.transcription",),
    ("adapt.models",),
    ("adapt.metrics",),
    ("adapt.data",),
    (
        "adapt.build",
        "adapt.run",
        "adapt.run_files",
        "adapt.run_lock",
        "adapt.renamed",
        "adapt.formatting",
        "adapt.option_texts",
        "adapt.option_help",
    ),
    (
        "adapt.checks",
        "adapt.files",
        "adapt.memory",
        "adapt.progress",
        "adapt.distributed",
        "adapt.terminal",
        "adapt.signals",
    ),
    ("adapt.errors",),
    ("interventions",),
)
LEVELS = {place: level for level, places in enumerate(LAYERS) for place in places}


def place_of(module: str) -> str:
    """The entry of `LAYERS` that a module belongs to."""
    parts = module.split(".")
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next((name for name in names if name in LEVELS and (name != "adapt" or module == "adapt")), "")


def folder_of(module: str) -> str:
    """The folder of a module; a file directly in `adapt/` counts as a folder of its own."""
    package = (ROOT / module.replace(".", "/")).is_dir()
    parent = module if package else module.rpartition(".")[0]
    return module if parent == "adapt" else parent


@cache
def import_graph() -> dict[str, set[str]]:
    """Which of our modules each of our modules imports."""
    files = [*modules("adapt"), *modules("interventions")]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files}
    known = set(names.values())
    graph = {}
    for path, name in names.items():
        imported = imports(path) & known
        # `from package import module` names the package as well, but reads nothing from it.
        graph[name] = {other for other in imported if not any(one.startswith(f"{other}.") for one in imported)} - {name}
    return graph


def test_every_module_has_a_place():
    assert [module for module in import_graph() if not place_of(module)] == []


def test_imports_point_down():
    upward = [
        f"{module} imports {other}"
        for module, imported in import_graph().items()
        for other in imported
        if LEVELS[place_of(module)] > LEVELS[place_of(other)]
    ]
    assert upward == []


def test_no_files_import_each_other_in_a_circle():
    with_parents = {module: tuple(imported) for module, imported in import_graph().items()}
    try:
        tuple(TopologicalSorter(with_parents).static_order())
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_two_folders_import_each_other():
    pairs = {
        (folder_of(module), folder_of(other))
        for module, imported in import_graph().items()
        for other in imported
        if folder_of(module) != folder_of(other)
    }
    assert sorted((one, other) for one, other in pairs if one < other and (other, one) in pairs) == []


def test_commands_are_short():
    lengths = {path.name: len(path.read_text().splitlines()) for path in modules("adapt/commands")}
    assert {name: length for name, length in lengths.items() if length > MAX_COMMAND_LINES} == {}


def test_every_module_has_a_docstring():
    files = [*modules("adapt"), *modules("interventions")]
    assert [str(path.relative_to(ROOT)) for path in files if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_models_are_told_apart_by_their_types():
    """`isinstance(model, CTCModel)`, not `hasattr(model, "blank")`: only `adapt/models` may look for attributes."""
    probes = []
    for path in modules("adapt"):
        if path.is_relative_to(ROOT / "adapt" / "models"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                asked = node.args[0]
                name = asked.id if isinstance(asked, ast.Name) else getattr(asked, "attr", "")
                looks = node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3)
                if looks and name in ("model", "before", "after"):
                    probes.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert probes == []


def test_only_commands_and_build_know_hydra():
    allowed = {ROOT / "adapt" / f"{name}.py" for name in ("build", "cli", "run")}
    for path in modules("adapt"):
        if {name.split(".")[0] for name in imports(path)} & {"hydra", "omegaconf"}:
            assert path in allowed or path.parent.name in ("commands", "options"), path


def test_only_build_instantiates():
    assert [path.name for path in modules("adapt") if "instantiate(" in path.read_text()] == ["build.py"]


def test_nothing_unpickles():
    for path in [*modules("adapt"), *modules("interventions")]:
        text = path.read_text()
        assert "import pickle" not in text and "weights_only=False" not in text, path
        for call in re.findall(r"torch\.load\(.*", text):
            assert "weights_only=True" in call, path


@pytest.mark.slow
@pytest.mark.parametrize("command", ["--help", "show"])
def test_help_imports_nothing_heavy(command):
    code = f"import sys; sys.argv[1:] = ['{command}']\n"
    code += "try:\n    from adapt.cli import main; main()\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'numpy', 'hydra', 'omegaconf', 'rich'} & sys.modules.keys()), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]", done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["adapt", "sites"])
def test_composing_a_config_imports_no_torch(command):
    code = f"import sys; sys.argv[1:] = ['{command}', '--cfg', 'job']\nfrom adapt.cli import main; main()\n"
    done = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True)
    assert "pretrained: us-english" in done.stdout
    assert "| torch\n" not in done.stderr and "numpy" not in done.stderr
