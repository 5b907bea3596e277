"""Quality figures are extreme for perfect maps and at chance for random ones, and equal values computed by hand."""

import math

import numpy as np
import pytest

from adapt.introspect.topography.grid import grid_points
from adapt.introspect.topography.layouts import sorted_grid
from adapt.introspect.topography.published import stability
from adapt.introspect.topography.quality import morans_i, quality
from adapt.introspect.topography.triangles import neighbours


def test_a_map_of_the_true_places_is_perfect():
    points = grid_points(100)
    angle = np.pi / 2 * points  # cosines on this quarter of a torus fall with distance on the map
    profiles = np.concatenate([np.cos(angle), np.sin(angle)], 1)
    found = quality(points, profiles)
    assert found.trust > 0.98 and found.locality < 0.15 and found.moran > 0.85
    assert found.spacing == pytest.approx(0) and found.hull == pytest.approx(1)
    shuffled = quality(points[np.random.default_rng(0).permutation(100)], profiles)
    assert 0.4 < shuffled.trust < 0.6 and abs(shuffled.moran) < 0.15 and 0.85 < shuffled.locality < 1.15
    assert (shuffled.spacing, shuffled.hull) == (pytest.approx(0), pytest.approx(1))


def test_morans_i_by_hand():
    # A square with a unit in its middle has eight edges; the longest 5 % are left out.
    points = np.array([[0, 0], [1, 0], [1, 1], [0, 1.0], [0.5, 0.5]])
    values = np.array([[1.0], [-1.0], [1.0], [-1.0], [0.0]])
    pairs = {tuple(pair) for pair in neighbours(points).tolist()}
    assert {(0, 4), (1, 4), (2, 4), (3, 4)} < pairs and (0, 2) not in pairs and (1, 3) not in pairs
    around = len(pairs) - 4
    assert morans_i(points, values)[0] == pytest.approx(-around / len(pairs) / 0.8)


def test_a_checkerboard_has_a_negative_moran():
    points = grid_points(64)
    board = (np.arange(64) // 8 + np.arange(64)) % 2
    gradient = points[:, 0]
    morans = morans_i(points, np.stack([board, gradient], 1))
    assert morans[0] < -0.2 and morans[1] > 0.8  # diagonal neighbours, about a third, have the same colour


def test_a_constant_group_is_left_out_of_the_mean():
    points = grid_points(25)
    found = quality(points, np.stack([points[:, 0], np.full(25, 0.3)], 1))
    assert math.isnan(found.morans[1]) and found.moran == found.morans[0] > 0.6


def test_units_at_one_place_or_on_one_line(profiles):
    points = sorted_grid(profiles)
    points[50:70] = points[50]
    assert quality(points, profiles).spacing > 0.2
    points[:, 1] = 0.5
    found = quality(points, profiles)
    assert math.isnan(found.hull) and np.isfinite([found.trust, found.locality, found.moran]).all()


@pytest.mark.parametrize("bad", [np.zeros((119, 2)), np.zeros((120, 3)), np.full((120, 2), np.nan)])
def test_a_map_needs_a_place_for_each_unit(bad, profiles):
    with pytest.raises(ValueError, match=r"must have the shape \(120, 2\) and only finite"):
        quality(bad, profiles)


def test_the_published_figures_do_not_wrap_around(profiles):
    points = sorted_grid(profiles)
    smooth = stability(points, points)
    rough = stability(points, np.random.default_rng(0).normal(size=(120, 3)))
    # A slow gradient changes by fractions of a level, which 8-bit subtraction would turn into 255.
    assert 0 < smooth.blur < 0.3 * rough.blur and 0 < smooth.resize < 0.1 * rough.resize
    assert stability(points, np.zeros((120, 2))).resize == 0
