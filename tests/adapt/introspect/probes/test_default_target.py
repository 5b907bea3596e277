"""Without a target, the first one of which the data have two classes is probed."""

import numpy as np
import pytest

from adapt.data.recording import Recording
from adapt.introspect.probes.target import default_target
from adapt.models.checkpoint import load_model


def utterances(**values):
    """Eight utterances; each value is given to them in turn."""
    return [
        Recording(
            np.zeros(800, np.float32), 16_000, "ab", extra={key: each[n % len(each)] for key, each in values.items()}
        )
        for n in range(8)
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"accent": "xy", "gender": "mf"}, "accent"),
        ({"accent": "x", "gender": "mf"}, "gender"),  # one accent only, as in most corpora of one country
        ({"gender": "mmmmmmmf", "speaker": "ab"}, "speaker"),  # too few of one gender to hold some out
        ({}, "accent"),  # whose error says what a target is
    ],
)
def test_it_has_two_classes(base, values, expected):
    assert default_target(load_model(str(base)).model, utterances(**values)) == expected
