"""Each check accepts what it should, and its message names the argument, what was expected and what was given."""

import re

import pytest

from adapt.checks import check_choice, check_count, check_counts, check_flag, check_number, check_share, is_number
from adapt.errors import InputError

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize("value", [-1, 1.0, "2", None, True, NAN])
def test_what_is_no_count_is_refused(value):
    message = f"steps must be a whole number of at least 0; got {value!r}."
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        check_count("steps", value)


def test_bounds_of_counts():
    check_count("steps", 0)
    check_count("steps", 7, 7, 7)
    with pytest.raises(InputError, match="seed must be a whole number from 1 to 9; got 10. Give another."):
        check_count("seed", 10, 1, 9, hint="Give another.")
    check_counts(2, folds=2, groups=3)
    with pytest.raises(InputError, match="groups must be a whole number of at least 2; got 1"):
        check_counts(2, folds=2, groups=1)


@pytest.mark.parametrize("value", [-0.1, 0, "1", None, False, NAN, INFINITY])
def test_what_is_no_number_above_0_is_refused(value):
    with pytest.raises(InputError, match=f"alpha must be a number above 0; got {value!r}"):
        check_number("alpha", value, above=0)


def test_bounds_of_numbers():
    check_number("alpha", -3.5)
    check_number("alpha", 0, minimum=0)
    check_number("alpha", 1e-9, above=0)
    with pytest.raises(InputError, match="radius must be a number of at least 1; got 0.5"):
        check_number("radius", 0.5, minimum=1)
    with pytest.raises(InputError, match="alpha must be a number; got 'x'"):
        check_number("alpha", "x")


@pytest.mark.parametrize(
    ("options", "text", "allowed"),
    [
        ({}, "above 0 and below 1", {0.5}),
        ({"zero": True}, "of at least 0 and below 1", {0, 0.5}),
        ({"one": True}, "above 0 and at most 1", {0.5, 1}),
        ({"zero": True, "one": True}, "from 0 to 1", {0, 0.5, 1}),
    ],
)
def test_shares(options, text, allowed):
    for value in (-0.1, 0, 0.5, 1, 1.1, NAN, True, "x"):
        if not isinstance(value, bool) and value in allowed:
            check_share("level", value, **options)
        else:
            with pytest.raises(InputError, match=f"level must be a share {text}; got {value!r}"):
                check_share("level", value, **options)


def test_flags_and_choices():
    check_flag("resume", False)
    check_choice("on_error", "skip", ("stop", "skip"))
    with pytest.raises(InputError, match="resume must be true or false; got 1"):
        check_flag("resume", 1)
    with pytest.raises(InputError, match="on_error must be one of stop, skip; got 'ignore'"):
        check_choice("on_error", "ignore", ("stop", "skip"))


def test_only_finite_ints_and_floats_are_numbers():
    assert is_number(3) and is_number(-2.5)
    assert not any(map(is_number, (True, NAN, INFINITY, "3", None)))
