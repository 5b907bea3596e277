"""Words of a decoder: times from attention, and tokens that make up words."""

import numpy as np
import pytest
import torch

from adapt.models.checkpoint import load_model
from adapt.models.cross_attention import attend
from adapt.transcription.attention_words import attention_words, token_starts, word_tokens


def test_tokens_start_where_late_and_early_attention_agree():
    attention = np.full((4, 80), 0.01)
    for token, (start, end) in enumerate([(0, 10), (10, 40), (40, 56), (56, 80)]):
        attention[token, start:end] = 0.5
    late, early = np.roll(attention, 5, axis=1), np.roll(attention, -4, axis=1)
    assert token_starts([late, early], 0.02) == pytest.approx([0, 0.2, 0.8, 1.12])
    assert token_starts([attention, attention], 0.02) != pytest.approx([0, 0.2, 0.8, 1.12])
    assert token_starts([attention], 0.02) == pytest.approx([0, 0.23, 0.83, 1.15])


class Tokenizer:
    """Tokens are texts."""

    def decode(self, tokens, **_):
        return "".join(tokens)


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        ([" Hel", "lo", ",", " world", "!"], [("Hello,", 0, 3), ("world!", 3, 5)]),
        (["a", "b", " -", " c"], [("ab -", 0, 3), ("c", 3, 4)]),
        (["你", "好", "。"], [("你", 0, 1), ("好。", 1, 3)]),
    ],
)
def test_words_of_tokens(tokens, words):
    assert word_tokens(Tokenizer(), tokens) == words


@pytest.fixture(scope="module")
def model(whisper):
    return load_model(str(whisper)).model


def test_attention_of_one_example_does_not_depend_on_the_others(model):
    noise = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    inputs, lengths = noise * 0.1, torch.tensor([16_000, 9_000])
    targets = torch.tensor([model.encode("ab cd"), model.encode("ba ba")])
    with torch.inference_mode():
        both = attend(model, inputs, lengths, targets)
        alone = attend(model, inputs[1:, :9_000], lengths[1:], targets[1:])
        plain = model(inputs, lengths, targets).log_softmax(-1).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    assert torch.allclose(both.attention[0][1], alone.attention[0][0], atol=1e-4)
    assert torch.allclose(both.attention[0].sum(-1), torch.ones(2, targets.shape[1]), atol=1e-4)
    assert torch.allclose(both.log_probs, plain, atol=1e-4)
    assert model.net.config._attn_implementation != "eager"


def test_words_are_in_order_and_within_the_audio(model):
    inputs, lengths = torch.randn(2, 24_000) * 0.1, torch.tensor([24_000, 12_000])
    with torch.inference_mode():
        found = attention_words(model, inputs, lengths, ["ab cd", ""], [None] * 2)
        for words, seconds in zip(found, (1.5, 0.75), strict=True):
            times = [time for word in words for time in (word.start, word.end)]
            assert times == sorted(times) and all(0 <= time <= seconds for time in times)
            assert [word.text for word in words] == (["ab", "cd"] if seconds == 1.5 else [])
