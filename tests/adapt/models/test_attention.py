"""The decoder's attention: a distribution over earlier tokens, beside the logits of the usual forward pass."""

import pytest
import torch

from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.models.attention import decoder_attention
from adapt.models.checkpoint import load_model
from adapt.models.seq2seq import references

pytestmark = pytest.mark.slow


def test_attention_adds_up_to_one_and_sees_no_later_token(whisper, speech):
    model = load_model(str(whisper)).model
    examples = read_manifest(speech["low_test"])[0][:2]
    batch = next(iter(Loader().evaluation(examples, model.reader)))
    targets = references(model, batch.examples)
    before = model.net.config._attn_implementation
    with torch.no_grad():
        logits, attention = decoder_attention(model, batch.inputs, batch.lengths, targets)
        usual = model(batch.inputs, batch.lengths, targets)
    assert model.net.config._attn_implementation == before
    torch.testing.assert_close(logits, usual, rtol=1e-3, atol=1e-3)
    assert attention.shape == (2, targets.shape[1], targets.shape[1])
    torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:2]))
    assert not attention.triu(1).any()


def test_other_decoders_have_none(marian):
    model = load_model(str(marian)).model
    assert decoder_attention(model, *model.dummy(4, 3))[1] is None
