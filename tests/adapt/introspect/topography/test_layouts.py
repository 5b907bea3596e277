"""All layouts are deterministic, place similar units together, and accept degenerate profiles."""

import numpy as np
import pytest

from adapt.introspect.topography.grid import framed, grid_points, grid_size, onto_grid
from adapt.introspect.topography.layouts import LAYOUTS, graph, pca, random, som, sorted_grid, swarm, tsne, umap
from adapt.introspect.topography.quality import quality
from adapt.introspect.topography.vectors import cosine_distances, vectors

# umap compiles for some ten seconds.
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name == "umap" else []) for name in LAYOUTS]
ORDERLY = {"sorted_grid", "tsne", "pca", "som", "graph", "swarm"}


def lay_out(name, profiles, seed=0):
    if name == "umap":
        pytest.importorskip("umap")
    return LAYOUTS[name](profiles, seed)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_orderly_map(name, profiles):
    before = profiles.copy()
    points = lay_out(name, profiles)
    assert points.shape == (120, 2) and points.dtype == np.float64
    assert points.min() == 0 and points.max() == 1
    assert np.array_equal(points, lay_out(name, profiles)) and np.array_equal(profiles, before)
    found = quality(points, profiles)
    if name == "random":
        assert 0.4 < found.trust < 0.6 and abs(found.moran) < 0.12 and 0.9 < found.locality < 1.1
    else:
        assert found.trust > 0.8 and found.moran > 0.3 and found.locality < 0.7


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("units", [1, 2, 3, 7, 11])
@pytest.mark.parametrize("groups", [1, 4])
def test_few_units_one_group_and_dead_or_equal_units(name, units, groups):
    profiles = np.random.default_rng(units).normal(size=(units, groups))
    profiles[units // 2 :] = profiles[-1]
    profiles[:1] = 0
    for given in (profiles, np.zeros_like(profiles), 1e-30 * profiles, 1e30 * profiles):
        points = lay_out(name, given)
        assert points.shape == (units, 2) and np.isfinite(points).all()
        assert points.min() >= 0 and points.max() <= 1


@pytest.mark.parametrize("name", ["sorted_grid", "tsne", "random"])
def test_units_have_different_cells_of_a_grid(name, profiles):
    points = LAYOUTS[name](profiles)
    cells = {tuple(cell) for cell in np.rint(points * 10).astype(int)}
    assert len(cells) == 120  # of 11 * 11
    assert points * 10 == pytest.approx(np.rint(points * 10))


def test_equal_neurons_are_near_each_other(profiles):
    profiles[60] = profiles[20]
    profiles[[5, 50, 90]] = 0
    for layout in (sorted_grid, tsne):
        points = 10 * layout(profiles)
        assert np.abs(points[60] - points[20]).max() < 2.5
        dead = points[[5, 50, 90]]
        assert np.abs(dead - dead.mean(0)).max() < 2.5


def test_the_default_is_the_best_of_those_on_a_grid(profiles):
    best = quality(sorted_grid(profiles), profiles)
    for layout in (tsne, lambda given: pca(given, grid=True), lambda given: som(given, grid=True)):
        other = quality(layout(profiles), profiles)
        assert best.trust > other.trust - 0.02 and best.moran > other.moran - 0.05
    assert best.trust > 0.93 and best.moran > 0.6 and best.spacing < 1e-9


def test_cosine_maps_ignore_magnitude(profiles):
    louder = profiles * np.random.default_rng(0).uniform(0.1, 10, (120, 1))
    assert np.array_equal(sorted_grid(profiles, distance="cosine"), sorted_grid(louder, distance="cosine"))
    assert not np.array_equal(sorted_grid(profiles), sorted_grid(louder))


def test_distances_keep_all_half_or_none_of_the_magnitude():
    profiles = np.array([[3.0, 4.0], [30.0, 40.0], [0.0, 0.0]])
    for distance, ratio in (("euclidean", 10), ("half", 10**0.5), ("cosine", 1)):
        lengths = np.linalg.norm(vectors(profiles, distance), axis=1)
        assert lengths[1] / lengths[0] == pytest.approx(ratio) and lengths[2] == 0


def test_cosine_distances():
    found = cosine_distances([[1, 0], [2, 0], [0, 1], [-1, 0], [0, 0], [0, 0]])
    assert found[0] == pytest.approx([0, 0, 1, 2, 1, 1]) and found[4] == pytest.approx([1, 1, 1, 1, 0, 0])


def test_a_swarm_only_evens_out_its_start(profiles):
    start = pca(profiles)
    ended = swarm(profiles, start=start, steps=200)
    before, after = quality(start, profiles), quality(ended, profiles)
    assert after.spacing < 0.5 * before.spacing and after.trust > 0.75
    blind = swarm(profiles[::-1], start=start, steps=200)  # profiles do not matter with a start
    assert np.array_equal(ended, blind)
    with pytest.raises(ValueError, match=r"must have the shape \(120, 2\)"):
        swarm(profiles, start=start[:5])


def test_a_swarm_follows_the_published_forces():
    """Compared with a direct float64 implementation of the formula."""
    draw = np.random.default_rng(0)
    profiles = draw.normal(size=(12, 3))
    distances = cosine_distances(profiles)
    places = np.random.default_rng(0).uniform(size=(12, 2))
    start = places.copy()
    for gate in (1 - np.tanh(np.linspace(-3, 6, 50))) / 2:
        ways = places[None] - places[:, None]
        near = np.linalg.norm(ways, axis=2)
        local = 1.5 / (near + 1) ** 3 - 15 * np.exp(-near / 2)
        attraction = 1.5 * (1 - (distances / distances.max()) ** 3) - 0.5 * np.exp(-distances / 2)
        force = gate * attraction + (1 - gate) * local
        places = places + (force[..., None] * ways).mean(1) / 2
    assert np.ptp(start - places) > 0.1
    assert swarm(profiles, steps=50) == pytest.approx(framed(places), abs=1e-3)


def test_the_graph_joins_its_components():
    two = np.repeat([[1.0, 0.0], [0.0, 1.0]], 10, axis=0)
    points = graph(two)
    own = np.linalg.norm(points[:10] - points[:10].mean(0), axis=1).mean()
    assert own < 0.5 * np.linalg.norm(points[:10].mean(0) - points[10:].mean(0))


@pytest.mark.parametrize(("units", "size"), [(1, (1, 1)), (2, (1, 2)), (6, (2, 3)), (7, (3, 3)), (250, (16, 16))])
def test_a_grid_is_nearly_square(units, size):
    assert grid_size(units) == size
    points = grid_points(units)
    assert len(points) == size[0] * size[1] and points.min() == 0 and points.max() <= 1
    ended = onto_grid(np.random.default_rng(0).normal(size=(units, 2)))
    assert len({tuple(cell) for cell in ended}) == units


def test_points_on_a_grid_do_not_move():
    points = grid_points(12)[np.random.default_rng(0).permutation(12)]
    assert onto_grid(7 * points - 3) == pytest.approx(points)


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((0, 2)), np.ones((3, 0)), np.ones((1, 2, 3))])
def test_profiles_of_another_shape_are_refused(bad):
    for layout in (sorted_grid, random, swarm):
        with pytest.raises(ValueError, match=r"must be \(units, groups\)"):
            layout(bad)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_nan_is_refused_and_the_unit_is_named(name, value):
    profiles = np.ones((5, 3))
    profiles[3, 1] = value
    with pytest.raises(ValueError, match="1 of 5 units .* unit 3.*leave it out"):
        LAYOUTS[name](profiles)


def test_an_unknown_distance_is_refused(profiles):
    with pytest.raises(ValueError, match="'half', 'cosine' or 'euclidean'; got 'manhattan'"):
        sorted_grid(profiles, distance="manhattan")


def test_umap_names_its_extra_if_it_is_not_installed(profiles, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(ValueError, match=r"innertune\[umap\]"):
        umap(profiles)
