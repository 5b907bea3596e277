"""The package's names are the functions and classes themselves, imported when they are first used."""

import subprocess
import sys
from pathlib import Path

import pytest

import interventions


@pytest.mark.parametrize("name", interventions.__all__)
def test_every_public_name_is_an_object_of_its_module(name):
    thing = getattr(interventions, name)
    assert thing is getattr(sys.modules[f"interventions.{interventions._MODULES[name]}"], name)


def test_the_lists_of_names_agree():
    assert sorted(interventions._MODULES) == sorted(interventions.__all__) == dir(interventions)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        interventions.nothing  # noqa: B018


@pytest.mark.slow
def test_importing_the_package_loads_no_torch_and_modules_do_not_hide_functions():
    code = """
import sys
import interventions
assert "torch" not in sys.modules
import interventions.capture, interventions.fold, interventions.intervene
from interventions import capture, fold, intervene
assert all(map(callable, (capture, fold, intervene, interventions.capture, interventions.fold)))
assert capture is sys.modules["interventions.capture"].capture
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
