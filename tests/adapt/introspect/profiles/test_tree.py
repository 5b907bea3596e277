"""Average linkage, compared with trees computed by hand."""

import pytest
import torch

from adapt.introspect.profiles.tree import average_linkage


def test_two_pairs():
    places = torch.tensor([0.0, 10.0, 1.0, 12.0])
    tree = average_linkage((places[:, None] - places).abs())
    assert [(a, b) for a, b, _ in tree.merges] == [(0, 2), (1, 3), (4, 5)]
    # The last distance is the mean of 10, 12, 9 and 11.
    assert [distance for *_, distance in tree.merges] == pytest.approx([1, 2, 10.5])
    assert tree.order in ((0, 2, 1, 3), (3, 1, 2, 0))  # leaf 2 (at 1) and leaf 1 (at 10) are the closest ends


def test_a_chain_is_drawn_in_order():
    places = torch.tensor([5.0, 1.0, 3.2, 9.0, 0.0])
    order = average_linkage((places[:, None] - places).abs()).order
    assert list(order) in ([4, 1, 2, 0, 3], [3, 0, 2, 1, 4])


def test_few_leaves_and_equal_leaves():
    assert average_linkage(torch.zeros(0, 0)).order == () and average_linkage(torch.zeros(1, 1)).order == (0,)
    tree = average_linkage(torch.zeros(5, 5))
    assert sorted(tree.order) == [0, 1, 2, 3, 4] and tree == average_linkage(torch.zeros(5, 5))
