"""The fitted power law: it finds a law that the errors follow, and keeps to its bounds where they follow none."""

import numpy as np
import pytest

from adapt.planning.power_law import fit_power_law


@pytest.mark.parametrize(("floor", "scale", "exponent"), [(0.1, 0.4, 0.5), (0.0, 0.5, 0.3), (0.2, 1.0, 1.2)])
@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_recovers_an_exact_law(floor, scale, exponent, unit):
    sizes = [unit * size for size in (1, 2, 4, 8)]
    law = fit_power_law(sizes, [floor + scale * (size / unit) ** -exponent for size in sizes])
    assert law.residual < 1e-9
    assert (law.floor, law.exponent) == (pytest.approx(floor, abs=1e-6), pytest.approx(exponent))
    assert law(16 * unit) == pytest.approx(floor + scale * 16**-exponent)


def test_is_the_best_of_many_laws():
    draw = np.random.default_rng(0)
    sizes = np.array([1.0, 2, 4, 8, 1, 2, 4, 8])
    errors = 0.1 + 0.3 * sizes**-0.4 + draw.normal(0, 0.02, len(sizes))
    law = fit_power_law(sizes.tolist(), errors.tolist())
    for _ in range(500):
        floor, scale, exponent = draw.uniform([0, 0, 0.02], [0.3, 0.6, 2.0])
        other = np.sqrt(((floor + scale * sizes**-exponent - errors) ** 2).mean())
        assert law.residual <= other + 1e-3


def test_errors_that_do_not_fall_give_a_flat_law():
    law = fit_power_law([1, 2, 4], [0.2, 0.3, 0.4])
    assert (law.scale, law(100)) == (0.0, pytest.approx(0.3))


def test_two_sizes_give_a_law_without_a_floor():
    law = fit_power_law([1, 4], [0.4, 0.2])
    assert law.floor == 0 and law(1) == pytest.approx(0.4, rel=0.02) and law(4) == pytest.approx(0.2, rel=0.02)


@pytest.mark.parametrize("sizes", [[1, 1], [0, 1], [-1, 2]])
def test_refuses_sizes_that_determine_nothing(sizes):
    with pytest.raises(ValueError, match="two different sizes"):
        fit_power_law(sizes, [0.2, 0.1])
