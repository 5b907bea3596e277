"""Weights are compared as bits, and a fingerprint names exactly one set of them."""

import pytest
import torch

from interventions.bits import changed_bits, fingerprint

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip
FLOATS = DTYPES[:4]


@pytest.mark.parametrize("dtype", FLOATS)
def test_minus_zero_is_not_zero(dtype):
    zeros, signed = torch.zeros(3, dtype=dtype), torch.tensor([0.0, -0.0, 0.0], dtype=dtype)
    assert torch.equal(zeros, signed)
    assert changed_bits(zeros, signed).tolist() == [False, True, False]


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_equals_itself(dtype):
    values = torch.tensor([float("nan"), float("inf"), 1.0], dtype=dtype)
    assert not changed_bits(values, values.clone()).any()
    assert changed_bits(values, torch.ones(3, dtype=dtype)).tolist() == [True, True, False]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_tells_one_element_from_its_neighbours(dtype):
    before = torch.tensor([[0, 1, 0], [1, 0, 1]]).to(dtype)
    after = before.clone()
    after[1, 1] = 1
    assert changed_bits(before, after).tolist() == [[False] * 3, [False, True, False]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalars_and_empty_tensors_keep_their_shape(dtype):
    scalar = changed_bits(torch.tensor(0, dtype=dtype), torch.tensor(1, dtype=dtype))
    assert scalar.shape == () and scalar.item() is True
    assert changed_bits(torch.zeros(0, 4, dtype=dtype), torch.zeros(0, 4, dtype=dtype)).shape == (0, 4)


def test_memory_layout_is_no_difference():
    values = torch.randn(5, 4)
    assert not changed_bits(values.t(), values.t().contiguous()).any()
    assert not changed_bits(values[:, ::2], values[:, ::2].clone()).any()
    other = values.t().contiguous()
    other[2, 3] += 1
    assert changed_bits(values.t(), other).nonzero().tolist() == [[2, 3]]


def test_parameters_are_compared_without_a_gradient():
    weight = torch.nn.Parameter(torch.randn(3))
    assert not changed_bits(weight, weight.detach().clone()).requires_grad


@pytest.mark.parametrize(
    "other", [torch.zeros(3, 2), torch.zeros(6), torch.zeros(2, 3, dtype=torch.float64), torch.zeros(2, 3).int()]
)
def test_unlike_tensors_are_refused(other):
    with pytest.raises(ValueError, match="of the same shape and dtype"):
        changed_bits(torch.zeros(2, 3), other)


def test_the_order_of_insertion_is_irrelevant():
    a, b = torch.randn(3), torch.randn(2, 2)
    assert fingerprint({"a": a, "b": b}) == fingerprint({"b": b, "a": a})


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_bit_makes_another_fingerprint(dtype):
    before = torch.zeros(4, 3, dtype=dtype)
    after = before.clone()
    after.view(torch.uint8)[2, -1] ^= 1
    assert changed_bits(before, after).sum() == 1
    assert fingerprint({"w": before}) == fingerprint({"w": before.clone()}) != fingerprint({"w": after})


def test_name_label_dtype_and_shape_belong_to_the_fingerprint():
    zeros = torch.zeros(2, 3)
    prints = [
        fingerprint({"w": zeros}),
        fingerprint({"v": zeros}),
        fingerprint({"w": zeros.t()}),
        fingerprint({"w": zeros.flatten()}),
        fingerprint({"w": zeros.int()}),
        fingerprint({"w": zeros.bfloat16()}),
        fingerprint({"w": zeros, "v": torch.zeros(0)}),
        fingerprint({"w": zeros}, ("a", "b")),
        fingerprint({"w": zeros}, ("b", "a")),
        fingerprint({"w": zeros}, ("ab",)),
        fingerprint({"w": zeros}, ("a", "b", "")),
        fingerprint({}),
    ]
    assert len(set(prints)) == len(prints)


def test_the_fingerprint_is_of_values_not_of_memory():
    values = torch.randn(4, 6)
    assert fingerprint({"w": values.t()}) == fingerprint({"w": values.t().contiguous()})
    assert fingerprint({"w": torch.nn.Parameter(values)}) == fingerprint({"w": values})
    assert fingerprint({"w": torch.tensor(3)}) == fingerprint({"w": torch.tensor([0, 3])[1]})
