"""Nested dataclasses survive a round trip through JSON and tensors, with their types and memory layout."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from adapt.comparison.storage import from_json, to_json
from interventions.neurons import Scores
from interventions.sites import Site


@dataclass(frozen=True)
class Inner:
    pairs: list[tuple[str, int]]
    value: float | None
    anything: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Outer:
    inner: tuple[Inner, ...]
    by_index: Mapping[int, Inner]
    data: bytes
    tensor: Tensor
    array: NDArray[np.float64]
    scores: Scores


def round_trip(kind: Any, value: Any) -> Any:
    tensors: dict[str, Tensor] = {}
    stored = json.loads(json.dumps(to_json(value, tensors, "root"), allow_nan=False))
    return from_json(kind, stored, {name: tensor.clone() for name, tensor in tensors.items()})


@given(
    st.lists(st.tuples(st.text(), st.integers())),
    st.none() | st.floats(allow_nan=False),
    st.dictionaries(
        st.text(), st.integers() | st.floats(allow_nan=False) | st.tuples(st.floats(0, 1), st.floats(0, 1))
    ),
)
def test_plain_values_are_equal_after_a_round_trip(pairs, value, anything):
    inner = Inner(pairs, value, anything)
    assert round_trip(Inner, inner) == inner


def test_tensors_arrays_bytes_and_scores_are_restored():
    site = Site("net.0", -1, 3, ("net.0.weight",))
    scores, inner = Scores({site: torch.tensor([1.0, -2.0, 0.5])}), Inner([], math.nan, {})
    for array in (np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(3, 2).T):
        value = Outer((inner,), {3: inner}, b"\x00mp3", torch.eye(2, dtype=torch.float64), array, scores)
        restored = round_trip(Outer, value)
        assert restored.data == value.data and torch.equal(restored.tensor, value.tensor)
        assert np.array_equal(restored.array, array) and restored.array.strides == array.strides
        assert restored.scores.sites == (site,) and torch.equal(restored.scores[site], scores[site])
        assert math.isnan(restored.inner[0].value) and list(restored.by_index) == [3]


def test_unknown_types_and_missing_values_are_errors():
    with pytest.raises(TypeError, match="root.x: a value of type set cannot be stored"):
        to_json({"x": {1}}, {}, "root")
    with pytest.raises(KeyError):
        from_json(Inner, {"pairs": []}, {})
    with pytest.raises(TypeError, match="cannot be restored"):
        from_json(set, [], {})
