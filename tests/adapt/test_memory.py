"""Work that would not fit into memory is refused with a sentence before any is taken."""

import pytest

import adapt.memory
from adapt.errors import InputError
from adapt.introspect.bias.sums import ContentSums
from adapt.introspect.profiles.fitter import ProfilesFitter
from adapt.introspect.reading import select_sites
from adapt.memory import available_memory, check_memory, gigabytes
from adapt.models.checkpoint import load_model
from interventions.sites import Site


def site(name: str, units: int) -> Site:
    return Site(name, -1, units, ())


@pytest.fixture
def free(monkeypatch):
    """Make the machine have 1 GB free."""
    monkeypatch.setattr(adapt.memory, "available_memory", lambda: 10**9)


def test_the_machine_says_what_is_free():
    available = available_memory()
    assert available is None or 10**7 < available < 10**14


def test_a_container_has_what_its_limit_leaves(tmp_path, monkeypatch):
    for name, text in (
        ("memory.max", "1000"),
        ("memory.current", "700"),
        ("memory.stat", "anon 400\ninactive_file 300"),
    ):
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(adapt.memory, "_CGROUP", tmp_path)
    assert available_memory() == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory() != 600


def test_what_does_not_fit_is_refused_with_both_numbers(free):
    check_memory(800_000_000, "The rows", "Give fewer.")
    with pytest.raises(InputError, match=r"^The rows need about 22.8 GB, and 1.0 GB are free. Give fewer.$"):
        check_memory(22_800_000_000, "The rows", "Give fewer.")
    assert gigabytes(59_400_000) == "59 MB"


def test_without_a_known_limit_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(adapt.memory, "available_memory", lambda: None)
    check_memory(10**18, "The rows", "Give fewer.")


def test_profiles_are_estimated_before_they_are_allocated(free):
    sites = [site("a", 100_000), site("b", 200_000)]
    with pytest.raises(InputError, match=r"The profiles of 300,000 neurons at 2 sites for 50 groups in 16 folds need"):
        ProfilesFitter(sites, ["all"] * 50, 16)
    small = ProfilesFitter([site("a", 10)], ["all", "x:y"], 3)
    taken = sum(total.nbytes for name, total in small.sums["a"].items() if name != "steps")
    assert small._bytes() == taken
    windows = ProfilesFitter([site("a", 10)], ["all", "x:y"], 1, {"a": 7})
    assert windows._bytes() == sum(total.nbytes for name, total in windows.sums["a"].items() if name != "steps")


def test_sums_of_contents_are_estimated_before_they_are_allocated(free):
    with pytest.raises(InputError, match="The sums of 1,000,000 neurons for 3 groups, 16 folds and 60 contents need"):
        ContentSums([site("a", 1_000_000)], 3, 16, [str(n) for n in range(60)])


def test_an_output_layer_of_tokens_is_read_only_if_it_is_named(monkeypatch, whisper):
    model = load_model(str(whisper)).model
    monkeypatch.setattr("adapt.introspect.reading.MAX_OUTPUT_UNITS", 8)
    output = model.sites[-1]
    assert output.name not in [one.name for one in select_sites(model, "*", None)]
    assert [one.name for one in select_sites(model, output.name, None)] == [output.name]
    monkeypatch.setattr("adapt.introspect.reading.MAX_OUTPUT_UNITS", output.units)
    assert output.name in [one.name for one in select_sites(model, "*", None)]
