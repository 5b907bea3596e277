"""Maps are validated, and are the same after saving and loading. So are results of several maps."""

import json

import numpy as np
import pytest

from adapt.introspect.topography.layouts import sorted_grid
from adapt.introspect.topography.maps import TopographicMap
from adapt.introspect.topography.result import MapsResult
from interventions.files import FileError, read_tensors

GROUPS = tuple("abcdefgh")


@pytest.mark.parametrize("adapted", [False, True])
def test_saved_and_loaded(adapted, profiles, tmp_path):
    made = TopographicMap("conv3", GROUPS, sorted_grid(profiles), profiles, 2 * profiles if adapted else None)
    made.save(tmp_path / "map.safetensors", seed=3)
    found = TopographicMap.load(tmp_path / "map.safetensors")
    assert (found.name, found.groups) == ("conv3", GROUPS) and (found.after is not None) == adapted
    assert np.array_equal(found.points, made.points) and np.array_equal(found.profiles, profiles)
    assert not adapted or np.array_equal(found.after, made.after)
    assert read_tensors(tmp_path / "map.safetensors", "a map")[0]["seed"] == 3
    with pytest.raises(FileError, match="expected to contain neurons"):
        read_tensors(tmp_path / "map.safetensors", "neurons")


def test_inconsistent_maps_are_refused(profiles):
    points = sorted_grid(profiles)
    for arguments, message in (
        ((GROUPS[:3], points, profiles), "profiles of 8 groups and the names of 3"),
        ((GROUPS, points[:4], profiles), r"\(120, 2\)"),
        ((GROUPS, points, profiles, profiles[:4]), r"\(120, 8\) before and \(4, 8\) after"),
        ((GROUPS, points, profiles, np.nan * profiles), "must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            TopographicMap("conv3", *arguments)


@pytest.fixture
def result(profiles):
    points = sorted_grid(profiles)
    maps = [TopographicMap(f"conv{number}", GROUPS, points, profiles, 2 * profiles) for number in (10, 2)]
    return MapsResult("aligned_letter", 40, tuple(maps), "runs/other", "pca")


def close(one, other):
    return one == {name: pytest.approx(value, rel=1e-12) for name, value in other.items()}


def test_a_loaded_result_is_the_same(result, tmp_path):
    files = result.save(tmp_path, {"model": "a base"})
    assert sorted(files) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    loaded = MapsResult.load(tmp_path)
    assert [each.name for each in loaded.maps] == ["conv10", "conv2"] and loaded.summary == result.summary
    assert (loaded.key, loaded.examples, loaded.reference_model, loaded.layout) == (
        "aligned_letter",
        40,
        "runs/other",
        "pca",
    )
    assert all(close(loaded.quality[name], figures) for name, figures in result.quality.items())


def test_a_result_of_version_1_is_loaded(result, tmp_path):
    """It had no file of its own."""
    result.save(tmp_path, {})
    (tmp_path / "topography.json").unlink()
    stored = dict(result.figures)
    stored["against"] = stored.pop("reference_model")
    (tmp_path / "metrics.json").write_text(json.dumps(stored))
    loaded = MapsResult.load(tmp_path)
    assert loaded.reference_model == "runs/other" and loaded.summary == result.summary
