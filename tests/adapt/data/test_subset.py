"""Evenly spaced picks: how many, in order, and from which end to which."""

from hypothesis import given
from hypothesis import strategies as st

from adapt.data.subset import evenly, evenly_with_ends

LENGTHS, COUNTS = st.integers(0, 200), st.integers(2, 50)


@given(LENGTHS, COUNTS)
def test_as_many_as_asked_at_equal_distances(length, count):
    for pick in (evenly, evenly_with_ends):
        found = pick(range(length), count)
        assert len(found) == len(set(found)) == min(length, count) and found == sorted(found)
        steps = {after - before for before, after in zip(found, found[1:], strict=False)}
        assert not steps or max(steps) - min(steps) <= 1


@given(LENGTHS, COUNTS)
def test_which_ends_are_picked(length, count):
    if length:
        assert evenly(range(length), count)[0] == 0
        assert evenly_with_ends(range(length), count)[0] == 0
        assert evenly_with_ends(range(length), count)[-1] == length - 1


def test_known_picks():
    assert evenly("abcdefghij", 3) == ["a", "d", "g"]
    assert evenly_with_ends("abcdefghij", 4) == ["a", "d", "g", "j"]
    assert evenly([], 3) == evenly_with_ends([], 3) == []
