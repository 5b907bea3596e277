"""A scope holds what its ranges say and nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interventions.scope import EVERYWHERE, GENERATED, PROMPT, Scope, StepContext
from interventions.sites import TOKEN, Site, Step

FRAMES = Site("frames", -1, 2, (), step=Step(0.02, "s"))
BARE = Site("bare", -1, 2, ())


def moment(step=0, position=0):
    now = StepContext()
    now.set(step, position, position > 0)
    return now


def within(scope, rows=2, time=6, now=None, site=FRAMES):
    """The mask as a list of lists, whatever form it came in."""
    found = scope.at(site)(torch.zeros(rows, time, site.units), now or moment())
    if isinstance(found, bool):
        return [[found] * time] * rows
    return found.expand(rows, time, 1).squeeze(-1).tolist()


def test_by_default_it_is_everything():
    assert EVERYWHERE.everything and not EVERYWHERE.timed
    assert EVERYWHERE.at(BARE)(torch.zeros(2, 3, 2), moment()) is True


@given(st.integers(0, 8), st.one_of(st.none(), st.integers(1, 8)), st.integers(0, 8))
def test_positions_count_from_the_start_of_the_sequence(start, length, position):
    stop = None if length is None else start + length
    expected = [start <= position + n and (stop is None or position + n < stop) for n in range(6)]
    assert within(Scope(positions=(start, stop)), now=moment(3, position)) == [expected] * 2


@pytest.mark.parametrize(
    ("seconds", "numbers"),
    [((0.04, 0.08), [2, 3]), ((0.06, None), [3, 4, 5]), ((0.05, 0.08), [3]), ((0, 0.1), range(5)), ((0.0, 0.02), [0])],
)
def test_seconds_are_the_steps_that_begin_within(seconds, numbers):
    assert within(Scope(seconds=seconds))[0] == [n in numbers for n in range(6)]


@pytest.mark.parametrize(
    ("site", "message"), [(BARE, "duration of its steps is unknown"), (Site("t", -1, 2, (), step=TOKEN), "are tokens")]
)
def test_seconds_need_to_know_how_long_a_step_lasts(site, message):
    with pytest.raises(ValueError, match=message):
        Scope(seconds=(0, 1)).at(site)


@given(st.integers(0, 5), st.one_of(st.none(), st.integers(1, 5)), st.integers(0, 12))
def test_steps(start, length, step):
    stop = None if length is None else start + length
    expected = start <= step and (stop is None or step < stop)
    assert within(Scope(steps=(start, stop)), now=moment(step)) == [[expected] * 6] * 2


def test_prompt_and_what_is_generated_are_all_there_is():
    for step in range(4):
        assert within(Scope(steps=PROMPT), now=moment(step)) != within(Scope(steps=GENERATED), now=moment(step))
    assert within(Scope(steps=PROMPT))[0][0] is True


@given(st.sets(st.integers(0, 3), min_size=1), st.integers(1, 3), st.booleans())
def test_examples_are_their_rows_repeated_by_beams(examples, beams, expanded):
    times = beams if expanded else 1
    scope = Scope(examples=tuple(examples), batch=4, beams=beams)
    found = within(scope, rows=4 * times)
    assert [row[0] for row in found] == [row // times in examples for row in range(4 * times)]


def test_everything_together_is_where_all_hold():
    scope = Scope(steps=(1, 2), positions=(4, 6), examples=(1,), batch=2)
    assert within(scope, time=3, now=moment(1, 3)) == [[False] * 3, [False, True, True]]
    assert within(scope, time=3, now=moment(2, 3)) == [[False] * 3] * 2


def test_other_row_counts_are_refused():
    scope = Scope(examples=(0,), batch=2, beams=3)
    for rows in (1, 3, 4, 8):
        with pytest.raises(ValueError, match=f"'frames' ran on {rows} rows, expected 2 or 6"):
            within(scope, rows=rows)


def test_positions_need_a_time_axis():
    with pytest.raises(ValueError, match="'bare' has no time axis"):
        Scope(positions=(1, 2)).at(BARE)(torch.zeros(2, 2), moment())


@pytest.mark.parametrize(
    "given_",
    [
        {"steps": (1, 1)}, {"steps": (-1, 2)}, {"steps": (0.5, 2)}, {"steps": (True, 2)}, {"positions": (3, 1)},
        {"positions": (None, 1)}, {"seconds": (1.0, 0.5)}, {"positions": (0, 1), "seconds": (0, 1)},
        {"examples": (0,)}, {"batch": 2}, {"examples": (2,), "batch": 2}, {"examples": (), "batch": 2},
        {"examples": (0,), "batch": 2, "beams": 0},
    ],
)  # fmt: skip
def test_ranges_that_hold_nothing_or_say_too_little_are_refused(given_):
    with pytest.raises(ValueError, match="must be|Give positions or seconds|examples need"):
        Scope(**given_)


def test_a_step_that_nobody_knows_is_not_guessed():
    now = StepContext()
    now.set(None, 0, False)
    with pytest.raises(ValueError, match="use_cache=True"):
        within(Scope(steps=PROMPT), now=now)
    assert within(Scope(positions=(0, 9)), now=now)[0][0]
