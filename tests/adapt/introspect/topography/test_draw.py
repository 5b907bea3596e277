"""Images have the values of the units at their places, and are empty outside of the map."""

import numpy as np
import pytest
from scipy.interpolate import LinearNDInterpolator

from adapt.introspect.topography.draw import LEVELS, NOTHING, Canvas, limit, palette, shades
from adapt.introspect.topography.grid import grid_points
from adapt.introspect.topography.layouts import pca


def test_values_are_interpolated_between_their_units():
    points = grid_points(64)
    drawn = Canvas(points, 80).images(np.stack([points[:, 0], points[:, 1] ** 0], 1))
    assert drawn.shape == (2, 80, 80) and drawn[1] == pytest.approx(1)
    assert drawn[0] == pytest.approx(np.tile(np.linspace(0, 1, 80), (80, 1)), abs=0.02)


def test_up_is_up():
    points = np.array([[0, 0], [1, 0], [0, 1], [1, 1.0]])
    (drawn,) = Canvas(points, 10).images([[0.0], [0.0], [1.0], [1.0]])
    assert drawn[0].min() > 0.9 and drawn[-1].max() < 0.1


def test_images_equal_an_interpolation_of_each_group(profiles):
    points = pca(profiles)
    drawn = Canvas(points, 40).images(profiles)
    spots = (np.arange(40) + 0.5) / 40
    x, y = np.meshgrid(spots, spots[::-1])
    for group in range(8):
        alone = LinearNDInterpolator(points, profiles[:, group])(x, y)
        both = np.isfinite(alone) & np.isfinite(drawn[group])
        assert both.sum() > 400 and np.isnan(drawn[group]).sum() > 100
        assert np.abs(drawn[group] - alone)[both].mean() < 0.05


@pytest.mark.parametrize("points", [[[0.5, 0.5]], [[0, 0], [1, 1]], [[2, 2]] * 4, [[0, 0], [1, 0], [2, 0]]])
def test_few_units_and_units_on_a_line_are_drawn(points):
    (drawn,) = Canvas(points, 12).images(np.full((len(points), 1), 3.0))
    assert np.isfinite(drawn).any() and drawn[np.isfinite(drawn)] == pytest.approx(3)


def test_shades_are_symmetric_and_end_at_the_limit():
    levels = shades([[-9, -1, -0.5, 0, 0.5, 1, 9, np.nan]], 1.0)
    half = LEVELS // 2
    assert levels.tolist() == [[0, 0, half, LEVELS, LEVELS + half, 2 * LEVELS, 2 * LEVELS, NOTHING]]
    colours = palette().astype(int)
    assert len(colours) == NOTHING + 1 and colours[LEVELS].tolist() == [255, 255, 255]
    blue, red = colours[half], colours[LEVELS + half]
    assert blue[2] > blue[0] + 80 and red[0] > red[2] + 80
    lightness = colours @ [0.3, 0.6, 0.1]
    assert (np.diff(lightness[: LEVELS + 1]) > 0).all() and (np.diff(lightness[LEVELS : 2 * LEVELS + 1]) < 0).all()


def test_a_scale_covers_nearly_all_values_and_is_never_0():
    values = np.concatenate([np.linspace(-1, 1, 2000), [50]])[:, None]
    assert limit(values) == pytest.approx(0.99, abs=0.01)
    assert limit(values, 3 * values) > 2 and limit(np.zeros((3, 2))) == 1
    one = np.zeros((1000, 1))
    one[3] = -0.2
    assert limit(one) == pytest.approx(0.2)


def test_another_number_of_units_is_refused():
    with pytest.raises(ValueError, match="has 4 units, and the profiles have 5"):
        Canvas(grid_points(4)).images(np.zeros((5, 2)))
