"""The trust in tokens: STAR's formula, and tokens that are not of the text."""

import math

import pytest
import torch

from adapt.unlabelled.star import attentive_scores, star_scores


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def test_equal_tokens_count_the_same_and_a_prompt_counts_one():
    own = torch.tensor([False, True, True, True, False])
    weights = star_scores(torch.full((5,), 0.5), None, own)
    assert weights.tolist() == [1, 1, 1, 1, 1]
    attention = torch.full((5, 5), 0.2)
    weights = star_scores(torch.full((5,), 0.5), attention, own)
    assert weights[0] == weights[4] == 1
    assert weights[1:4].tolist() == pytest.approx([weights[1].item()] * 3)
    # A and C are 1: 2 * sigmoid(1 - 2) + sigmoid(2 - 1)^2.
    assert weights[1].item() == pytest.approx(2 * sigmoid(-1) + sigmoid(1) ** 2)


def test_unsure_tokens_count_less_and_none_counts_more_than_two():
    own = torch.tensor([True] * 8)
    probabilities = torch.tensor([0.9] * 7 + [0.05])
    without = star_scores(probabilities, None, own)
    assert without[7] < 0.1 < without[0] <= 2
    lonely = torch.eye(9)[:8, :8] * 0.1
    lonely[1:, 1:] += 0.5
    weights = star_scores(probabilities, lonely, own)
    assert weights.max() <= 2


def test_attention_is_that_of_the_position_that_reads_the_token():
    # Position i + 1 reads target i. Only the rows and columns of positions 1 and 2 belong to the text's tokens 0 and 1.
    attention = torch.tensor([[9.0, 9, 9], [9, 0.6, 0], [9, 0.3, 0.1]])
    scores = attentive_scores(attention, torch.tensor([True, True, False]))
    raw = torch.tensor([0.6 + 0.9 - 0.6, 0.4 + 0.1 - 0.1])
    assert scores[:2].tolist() == pytest.approx((raw / raw.mean()).tolist())


def test_no_token_of_a_text_is_no_error():
    assert star_scores(torch.ones(3), torch.ones(3, 3), torch.zeros(3, dtype=torch.bool)).tolist() == [1, 1, 1]
