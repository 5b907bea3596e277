"""Neurons are a set algebra over fixed sites; scores choose them, the same ones every time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interventions.files import FileError, site_to_json, write_tensors
from interventions.neurons import Neurons, Scores
from interventions.sites import Site, Step

SITES = (
    Site("conv", 1, 5, ("conv.weight",), "encoder", Step(0.02, "s")),
    Site("fc", -1, 3, ()),
    Site("out", -1, 4, ()),
)
NAMES = [(site.name, unit) for site in SITES for unit in range(site.units)]
SETS = st.tuples(*(st.sets(st.integers(0, site.units - 1)) for site in SITES)).map(
    lambda units: Neurons(dict(zip(SITES, units, strict=True)))
)
# Few values, so that many are equal.
SCORES = st.tuples(
    *(st.lists(st.sampled_from([-1.0, 0.0, 2.5]), min_size=site.units, max_size=site.units) for site in SITES)
).map(lambda scores: {site: torch.tensor(values) for site, values in zip(SITES, scores, strict=True)})


def members(neurons):
    return set(neurons)


@given(SETS, SETS, SETS)
def test_set_algebra(a, b, c):
    assert members(a | b) == members(a) | members(b)
    assert members(a & b) == members(a) & members(b)
    assert members(a - b) == members(a) - members(b)
    assert members(~a) == set(NAMES) - members(a)
    assert ~~a == a and ~(a | b) == ~a & ~b and a - b == a & ~b and a & (b | c) == (a & b) | (a & c)
    assert a | Neurons.none(SITES) == a and a & Neurons.every(SITES) == a
    assert len(a) == len(members(a)) == len(list(a)) and len(a) + len(~a) == len(NAMES)
    assert (a == b) == (members(a) == members(b)) and (a != b or hash(a) == hash(b))
    assert [neuron for neuron in NAMES if neuron in a] == list(a)


@given(SETS)
def test_what_is_saved_is_loaded(tmp_path_factory, neurons):
    path = tmp_path_factory.mktemp("neurons") / "set.safetensors"
    neurons.save(path, corpus="vctk")
    assert Neurons.load(path) == neurons and Neurons.load(path).sites == SITES


def test_a_set_knows_its_sites_also_the_empty_ones():
    neurons = Neurons({SITES[0]: [4, 1, 1], SITES[1]: []})
    assert neurons["conv"] == neurons[SITES[0]] == (1, 4) and neurons["fc"] == ()
    assert neurons.used == SITES[:1] and neurons.sites == SITES[:2]
    assert neurons.mask("conv").tolist() == [False, True, False, False, True]
    assert ("conv", 4) in neurons and (SITES[0], 4) in neurons
    assert ("conv", 0) not in neurons and ("out", 1) not in neurons and "conv" not in neurons and 4 not in neurons
    assert (~neurons)["fc"] == (0, 1, 2) and "out" not in [site.name for site in (~neurons).sites]
    assert repr(neurons) == "Neurons(conv: 2 of 5, fc: 0 of 3)"
    with pytest.raises(KeyError, match="'out' is not one of the sites: conv, fc"):
        neurons["out"]


def test_sets_of_other_sites_are_joined():
    one, other = Neurons({SITES[0]: [1]}), Neurons({SITES[1]: [2]})
    assert list(one | other) == [("conv", 1), ("fc", 2)] and list(other | one) == [("fc", 2), ("conv", 1)]
    assert one | other == other | one and hash(one | other) == hash(other | one) and one != other
    assert list(one & other) == [] and list(one - other) == [("conv", 1)] and (one & other).sites == SITES[:2]


@pytest.mark.parametrize("units", [[5], [-1], [0, 99]])
def test_units_that_a_site_has_not_are_refused(units):
    with pytest.raises(ValueError, match="'conv' has units 0 to 4"):
        Neurons({SITES[0]: units})


def test_a_fraction_is_no_unit():
    with pytest.raises(TypeError):
        Neurons({SITES[0]: [1.5]})


def test_two_sites_of_one_name_are_refused():
    with pytest.raises(ValueError, match="Two different sites are called 'fc'"):
        Neurons({SITES[1]: [0], Site("fc", -1, 9, ()): [1]})
    with pytest.raises(ValueError, match="Two different sites are called 'fc'"):
        Neurons({SITES[1]: [0]}) | Neurons({Site("fc", -1, 9, ()): [1]})


@given(SETS, st.integers(0, 10))
def test_a_control_has_as_many_of_each_site_and_follows_from_its_seed(neurons, seed):
    control = neurons.random(seed)
    assert [len(units) for units in control.units] == [len(units) for units in neurons.units]
    assert control.sites == neurons.sites and neurons.random(seed) == control
    if all(2 * len(units) <= site.units for site, units in zip(neurons.sites, neurons.units, strict=True)):
        assert not neurons.random(seed, disjoint=True) & neurons


def test_a_control_draws_every_unit_as_often():
    neurons, counts = Neurons({SITES[0]: [0, 1]}), torch.zeros(5)
    for seed in range(2000):
        for _, unit in neurons.random(seed):
            counts[unit] += 1
    assert (counts - 800).abs().max() < 5 * (2000 * 0.4 * 0.6) ** 0.5
    with pytest.raises(ValueError, match="'conv' has 1 other units, but 4 are needed"):
        Neurons({SITES[0]: [0, 1, 2, 3]}).random(0, disjoint=True)


# ---------------------------------------------------------------------------------------------- scores


def ranked(scores, sites):
    """All units of the sites, the highest first, equal ones in their order."""
    units = [(site, unit) for site in sites for unit in range(site.units)]
    return sorted(units, key=lambda at: -float(scores[at[0]][at[1]]))


@given(SCORES, st.integers(0, 12))
def test_top_is_the_highest_and_ties_go_to_the_first(scores, count):
    chosen = Scores(scores).top(count)
    assert members(chosen) == {(site.name, unit) for site, unit in ranked(scores, SITES)[:count]}
    assert chosen.sites == SITES and Scores(scores).top(count) == chosen
    lowest = {site: -values for site, values in scores.items()}
    assert Scores(scores).bottom(count) == Scores(lowest).top(count)


@given(SCORES, st.integers(0, 3))
def test_top_of_each_site(scores, count):
    chosen = Scores(scores).top(count, per_site=True)
    for site in SITES:
        assert set(chosen[site]) == {unit for _, unit in ranked(scores, [site])[:count]}


@given(SCORES, st.floats(0, 1))
def test_a_share_is_rounded_and_never_nothing(scores, share):
    chosen = Scores(scores).top(share)
    assert abs(len(chosen) - 12 * share) <= 0.5 or (share > 0 and len(chosen) == 1)
    assert chosen == Scores(scores).top(len(chosen))
    assert (len(chosen) == 0) == (share == 0)
    assert len(Scores(scores).top(1.0)) == 12 and len(Scores(scores).top(1)) == 1


@given(SCORES, st.integers(0, 12), st.integers(0, 5))
def test_random_scores_choose_as_many(scores, count, seed):
    scores = Scores(scores)
    assert len(scores.random(count, seed)) == count and scores.random(count, seed) == scores.random(count, seed)


@pytest.mark.parametrize("amount", [13, -1, 1.5, -0.1, float("nan"), True, "5", None])
def test_other_amounts_are_refused(amount):
    scores = Scores({site: torch.zeros(site.units) for site in SITES})
    with pytest.raises(ValueError, match="share.*count|count.*share"):
        scores.top(amount)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.tensor([0.0, float("nan"), 1, 2, float("nan")]), "2 of them NaN"),
        (torch.zeros(4), r"shape \(4,\)"),
        (torch.zeros(5, 1), r"shape \(5, 1\)"),
    ],
)
def test_scores_that_are_not_a_number_a_unit_are_refused(values, message):
    with pytest.raises(ValueError, match=f"'conv' has 5 units.*{message}"):
        Scores({SITES[0]: values})


@given(SCORES)
def test_scores_are_saved_and_loaded_bit_for_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("scores") / "scores.safetensors"
    values[SITES[2]] = torch.tensor([float("inf"), float("-inf"), 1e-300, -0.0], dtype=torch.float64)
    scores = Scores(values)
    scores.save(path)
    assert Scores.load(path) == scores and Scores.load(path)["out"].dtype == torch.float64
    with pytest.raises(FileError, match="expected to contain neurons, but contains scores"):
        Neurons.load(path)


def test_scores_do_not_change_with_the_tensor_they_were_made_of():
    values = torch.zeros(3)
    scores = Scores({SITES[1]: values})
    values[0] = 5
    assert scores["fc"].tolist() == [0, 0, 0]
    assert scores != Scores({SITES[1]: values}) and scores != Scores({SITES[2]: torch.zeros(4)}) and len(scores) == 3


@pytest.mark.parametrize("kind", [Neurons, Scores])
def test_a_file_without_what_it_names_is_told(tmp_path, kind):
    said, path = kind.__name__.lower(), tmp_path / "file.safetensors"
    site = site_to_json(SITES[0])
    for header in ({"sites": [site]}, {}, {"sites": 3}):
        write_tensors(path, said, header, {})
        with pytest.raises(FileError, match=f"file.safetensors' has no {said} for one of its sites"):
            kind.load(path)
    write_tensors(path, said, {"sites": [{**site, "rows": 3}]}, {"0": torch.zeros(SITES[0].units)})
    with pytest.raises(FileError, match="does not describe a site"):
        kind.load(path)


@pytest.mark.parametrize(
    ("units", "said"),
    [([-1, 2], "units 0 to 7, not -1 to 2"), ([2, 9], "units 0 to 7, not 2 to 9"), ([2, 2], "ascending"),
     ([3, 1], "ascending"), ([True, False], "torch.bool"), ([0.5], "torch.float32"), ([[1, 2]], r"\(1, 2\)"),
     ([2**63 - 1], "not 9223372036854775807")],
)  # fmt: skip
def test_a_file_with_other_numbers_than_units_is_named(tmp_path, units, said):
    site = Site("net.one", 1, 8, ())
    path = tmp_path / "chosen.safetensors"
    write_tensors(path, "neurons", {"sites": [site_to_json(site)]}, {"0": torch.tensor(units)})
    with pytest.raises(FileError, match=rf"chosen.safetensors' is damaged: .*{said}"):
        Neurons.load(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("units", True), ("units", -8), ("units", 2**63), ("units", "8"), ("name", 3), ("rows", "weight"), ("rows", [1]),
     ("unit_axis", 0.5), ("part", "middle"), ("step", 3), ("step", [0.02]), ("step", [-1.0, "s"])],
)  # fmt: skip
def test_a_file_with_something_else_in_place_of_a_site_is_refused(tmp_path, key, value):
    site = site_to_json(Site("net.one", 1, 8, ())) | {key: value}
    write_tensors(tmp_path / "x", "neurons", {"sites": [site]}, {"0": torch.tensor([1])})
    with pytest.raises(FileError, match="does not describe a site"):
        Neurons.load(tmp_path / "x")


def test_a_file_with_scores_that_are_no_numbers_is_refused(tmp_path):
    site = site_to_json(Site("net.one", 1, 2, ()))
    for values, said in (([1.0, float("nan")], "1 of them NaN"), ([1j, 2j], "real numbers"), ([1.0], "2 units")):
        write_tensors(tmp_path / "x", "scores", {"sites": [site]}, {"0": torch.tensor(values)})
        with pytest.raises(FileError, match=f"is damaged: .*{said}"):
            Scores.load(tmp_path / "x")
    write_tensors(tmp_path / "x", "scores", {"sites": [site, site]}, {"0": torch.ones(2), "1": torch.zeros(2)})
    with pytest.raises(FileError, match="a site twice"):
        Scores.load(tmp_path / "x")
