"""What is installed holds all that a checkout has, runs from any folder, and notices a foreign package `adapt`."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from adapt._entry import _MARK

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def build(folder, kind="wheel"):
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(tmp_path_factory.mktemp("wheel"))


def install(wheel, site):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def install_toolbox(site):
    """What the distribution `adapt` of PyPI, a toolbox for domain adaptation, installs."""
    files = {"adapt/__init__.py": "import tensorflow\n", "adapt/metrics.py": "import tensorflow\n", "adapt/base.py": ""}
    files["adapt-0.4.4.dist-info/METADATA"] = "Metadata-Version: 2.1\nName: adapt\nVersion: 0.4.4\n"
    files["adapt-0.4.4.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files)
    for name, text in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text)


def uninstall_toolbox(site):
    for line in (site / "adapt-0.4.4.dist-info" / "RECORD").read_text().splitlines():
        (site / line.partition(",")[0]).unlink()


def innertune(site, *arguments, cwd, alone=False):
    """The console script of an installation in `site`, first in the search path, or `alone` in it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    code = f"import sys; sys.path.insert(0, {str(site)!r})\nimport innertune_main; innertune_main.main()"
    return subprocess.run(
        [sys.executable, *(["-S"] if alone else []), "-c", code, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=environment,
    )


def test_the_wheel_holds_configs_templates_and_models(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (scripts,) = (archive.read(name).decode() for name in names if name.endswith("entry_points.txt"))
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert f"adapt/conf/{path.relative_to(ROOT / 'conf')}" in names
    assert {"adapt/report/templates/page.html.j2", "adapt/models/embedded/us-english.safetensors"} <= names
    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert top == {"adapt", "interventions", "innertune_main.py"} and "adapt/_entry.py" not in names
    assert "innertune = innertune_main:main" in scripts


def test_help_and_show_of_the_wheel(wheel, tmp_path):
    site = install(wheel, tmp_path / "site")
    done = innertune(site, "adapt", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "optimizer.lr=null           the highest learning rate; null: the family's own" in done.stdout
        and "Hydra" not in done.stdout
    )
    done = innertune(site, "show", "intervention", cwd=tmp_path)
    assert done.stdout.startswith("ablate  ablate the neurons"), done.stderr
    done = innertune(site, "--version", cwd=tmp_path)
    assert done.stdout.strip() == "0.2.0", done.stderr
    done = innertune(site, "adapt", "--cfg", "job", cwd=tmp_path)
    assert "pretrained: us-english" in done.stdout, done.stderr


def test_adapt_of_the_wheel_trains_the_embedded_model(wheel, speech, tmp_path):
    site = install(wheel, tmp_path / "site")
    done = innertune(
        site, "adapt", "tuning=head", "data=manifest", f"data.train={speech['high_validation']}",
        f"data.test={speech['high_test']}", "trainer.max_epochs=1", "causes=2", "compare_neurons=4", "audio_clips=1",
        "output=run", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {"report.html", "metrics.json", "adaptation"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_the_entry_point_knows_our_package_by_its_first_line():
    assert _MARK in (ROOT / "adapt" / "__init__.py").read_text().splitlines()[0]


def test_a_toolbox_installed_after_ours_is_named(wheel, tmp_path):
    site = install(wheel, tmp_path / "site")
    install_toolbox(site)
    done = innertune(site, "adapt", "--help", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1 and "tensorflow" not in done.stderr
    assert "the distribution 'adapt' has a package 'adapt' too" in done.stderr
    assert "pip uninstall adapt " in done.stderr and "pip install --force-reinstall --no-deps innertune" in done.stderr
    uninstall_toolbox(site)  # takes our file with it
    done = innertune(site, "show", cwd=tmp_path, alone=True)
    assert done.returncode == 1 and "pip install --force-reinstall --no-deps innertune" in done.stderr
    install(wheel, site)
    assert innertune(site, "show", cwd=tmp_path).returncode == 0


def test_a_toolbox_installed_before_ours_does_no_harm_until_it_is_removed(wheel, tmp_path):
    site = tmp_path / "site"
    install_toolbox(site)
    install(wheel, site)
    done = innertune(site, "show", "tuning", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("auto "), done.stderr
    uninstall_toolbox(site)
    done = innertune(site, "show", cwd=tmp_path, alone=True)
    assert done.returncode == 1 and "its package 'adapt' is " in done.stderr, done.stderr


def test_a_toolbox_hides_an_editable_installation(tmp_path):
    """Its folder in site-packages comes before ours, in whatever order both were installed."""
    site = install(build(tmp_path / "wheel", "wheel:editable"), tmp_path / "site")
    assert (site / "innertune_main.py").is_file()
    install_toolbox(site)
    done = innertune(site, "show", cwd=tmp_path)
    assert done.returncode == 1 and "pip uninstall adapt " in done.stderr and "-e ." in done.stderr


def test_a_users_own_package_is_not_called_a_distribution(wheel, tmp_path):
    site = install(wheel, tmp_path / "site")
    (tmp_path / "adapt").mkdir()
    (tmp_path / "adapt" / "__init__.py").write_text("")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(site)!r}]\nimport innertune_main; innertune_main.main()"
    )
    done = subprocess.run([sys.executable, "-c", code, "show"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "is not innertune's. Move or rename it if it is yours" in done.stderr
