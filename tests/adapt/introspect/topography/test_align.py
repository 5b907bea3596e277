"""Alignment undoes rotations and mirror images, between maps of the same units and between layers."""

import numpy as np
import pytest

from adapt.introspect.topography.align import align_layers, procrustes
from adapt.introspect.topography.layouts import pca, sorted_grid


def turned(points, angle, mirror):
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return points @ (matrix @ np.diag([1, -1]) if mirror else matrix) + [3, -2]


@pytest.mark.parametrize("angle", [0, 0.4, 2.5, 4])
@pytest.mark.parametrize("mirror", [False, True])
def test_a_turned_map_is_turned_back(angle, mirror, profiles):
    points = pca(profiles)
    assert procrustes(turned(points, angle, mirror), points) == pytest.approx(points)
    assert align_layers(turned(points, angle, mirror), profiles, points, profiles) == pytest.approx(points)


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("mirror", [False, True])
def test_a_grid_stays_a_grid(quarters, mirror, profiles):
    points = sorted_grid(profiles)
    other = turned(points, quarters * np.pi / 2, mirror)
    assert procrustes(other, points, square=True) == pytest.approx(points)
    assert align_layers(other, profiles, points, profiles, square=True) == pytest.approx(points)


def test_no_other_rotation_is_closer(profiles):
    points, onto = pca(profiles), pca(profiles + 0.1 * np.random.default_rng(0).normal(size=profiles.shape))
    best = np.square(procrustes(points, onto) - onto).sum()
    centred = points - points.mean(0)
    for angle in np.linspace(0, 2 * np.pi, 60):
        for mirror in (False, True):
            other = turned(centred, angle, mirror) - [3, -2] + onto.mean(0)
            assert np.square(other - onto).sum() >= best - 1e-9


def test_layers_are_aligned_by_their_profiles(profiles):
    """With half of the units in each of two layers, similar units end up on the same side."""
    points = pca(profiles)
    below, above = np.arange(0, 120, 2), np.arange(1, 120, 2)
    aligned = align_layers(turned(points[above], 2, True), 3 * profiles[above], points[below], profiles[below])
    error = np.linalg.norm(aligned - aligned.mean(0) - (points[above] - points[above].mean(0)), axis=1)
    assert error.max() < 0.1


def test_layers_with_different_groups_are_refused(profiles):
    points = pca(profiles)
    with pytest.raises(ValueError, match="same groups; got 8 and 3"):
        align_layers(points, profiles, points, profiles[:, :3])
    with pytest.raises(ValueError, match=r"\(119, 2\)"):
        procrustes(points, points[:-1])
