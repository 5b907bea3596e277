"""Replay: how many source examples an epoch has, their draw, and the same number of batches in every epoch."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapt.data.batches import BatchesByLength
from adapt.data.replay import draw_replay, replay_count
from adapt.errors import InputError

LEVELS = st.lists(st.sampled_from([1.0, 1.1, 1.21, 2.0]), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("replay", "source", "count"), [(0, 0, 0), (0.0, 9, 0), (0.5, 9, 30), (0.25, 90, 10), ("all", 7, 7), (0.1, 5, 3)]
)
def test_the_share_is_of_all_examples_of_an_epoch(replay, source, count):
    assert replay_count(replay, 30, source) == count


@pytest.mark.parametrize("replay", [1.0, -0.1, "most", None, True, float("nan")])
def test_other_values_are_refused(replay):
    with pytest.raises(InputError, match="from 0 to below 1, or 'all'"):
        replay_count(replay, 30, 30)


@pytest.mark.parametrize("replay", [0.2, "all"])
def test_nothing_to_replay_is_refused(replay):
    with pytest.raises(InputError, match=r"data\.source_train="):
        replay_count(replay, 30, 0)


@given(LEVELS, st.integers(0, 70), st.integers(0, 3), st.integers(0, 9))
def test_draws_are_reproducible_and_in_proportion(levels, count, seed, epoch):
    drawn = draw_replay(levels, count, seed, epoch)
    assert drawn == draw_replay(levels, count, seed, epoch) == sorted(drawn) and len(drawn) == count
    times = Counter(drawn)
    for level, alike in Counter(levels).items():
        own = [times[number] for number in range(len(levels)) if levels[number] == level]
        assert max(own) - min(own) <= 1
        assert abs(sum(own) - count * alike / len(levels)) < 1 + 1e-9  # in proportion


@given(LEVELS, LEVELS, st.integers(0, 40), st.integers(0, 3))
def test_epochs_have_the_same_number_of_batches_and_every_target_example(target, source, count, seed):
    sampler = BatchesByLength([*target, *source], 4.0, True, seed, source=len(source), count=count)
    lengths = set()
    for epoch in range(4):
        sampler.set_epoch(epoch)
        numbers = Counter(number for batch in sampler for number, _ in batch)
        assert all(numbers[number] == 1 for number in range(len(target)))
        assert sum(numbers.values()) == len(target) + count
        lengths.add(len(sampler))
    assert len(lengths) == 1


def test_epochs_differ_and_use_every_example_in_the_end():
    epochs = [draw_replay([1.0] * 20, 5, 0, epoch) for epoch in range(40)]
    assert len({tuple(drawn) for drawn in epochs}) > 30
    assert set().union(*epochs) == set(range(20))
    assert draw_replay([1.0] * 20, 5, 1, 0) != epochs[0]


@given(st.lists(st.floats(0.1, 30.0), max_size=30), st.lists(st.floats(0.1, 30.0), min_size=1, max_size=30))
def test_replaying_all_is_the_same_as_a_mixture(target, source):
    mixed = BatchesByLength([*target, *source], 40.0, True, 3)
    replaying = BatchesByLength([*target, *source], 40.0, True, 3, source=len(source), count=len(source))
    for epoch in range(2):
        mixed.set_epoch(epoch), replaying.set_epoch(epoch)
        assert list(mixed) == list(replaying)
