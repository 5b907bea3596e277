"""The self-attention of a decoder's last layer, as STAR and other measures of trust in written tokens need it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from adapt.models.hf_speech_seq2seq import HFSpeechSeq2Seq
from adapt.models.model import DecoderModel


def decoder_attention(
    model: DecoderModel, inputs: Tensor, lengths: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Run a decoder with teacher forcing, and return its logits and its attention among the tokens.

    Args:
        model: The model.
        inputs: As in `DecoderModel.forward`.
        lengths: As in `DecoderModel.forward`.
        targets: As in `DecoderModel.forward`.

    Returns:
        Logits `(batch, tokens, vocabulary)`, and the last layer's self-attention `(batch, tokens, tokens)`, the mean of
        its heads. It is None for families other than Whisper, Speech2Text and Moonshine.
    """
    if not isinstance(model, HFSpeechSeq2Seq):
        return model(inputs, lengths, targets), None
    with _attention_weights(model.net):
        outputs = model.teacher_forced(inputs, lengths, targets, output_attentions=True)
    return outputs.logits, outputs.decoder_attentions[-1].mean(1)


@contextmanager
def _attention_weights(net: Any) -> Iterator[None]:
    """Let a network compute attention in a way that keeps its weights, which the fast ways do not."""
    before = net.config._attn_implementation
    net.set_attn_implementation("eager")
    try:
        yield
    finally:
        net.set_attn_implementation(before)
