"""A map is checked when it is made, and is the same after it was saved and loaded."""

import numpy as np
import pytest

from adapt.introspect.topography.layouts import sorted_grid
from adapt.introspect.topography.maps import TopographicMap
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
    with pytest.raises(FileError, match="expected to hold neurons"):
        read_tensors(tmp_path / "map.safetensors", "neurons")


def test_what_does_not_fit_is_refused(profiles):
    points = sorted_grid(profiles)
    for wrong, said in (
        ((GROUPS[:3], points, profiles), "8 groups have profiles, and 3 have names"),
        ((GROUPS, points[:4], profiles), r"\(120, 2\)"),
        ((GROUPS, points, profiles, profiles[:4]), r"\(120, 8\) before and \(4, 8\) after"),
        ((GROUPS, points, profiles, np.nan * profiles), "must be finite"),
    ):
        with pytest.raises(ValueError, match=said):
            TopographicMap("conv3", *wrong)
