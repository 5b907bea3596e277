"""Speech or text to text by an encoder and an autoregressive decoder: the loss and the decoding."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from adapt.data.example import Example, language_of
from adapt.data.loader import Batch
from adapt.data.pairs import Pair
from adapt.errors import InputError
from interventions.sites import Site

IGNORED = -100  # pads targets; the loss skips it


class Seq2Seq(Protocol):
    """The part of `adapt.models.model.DecoderModel` that this module uses; see there for its documentation."""

    def __call__(self, inputs: Tensor, lengths: Tensor, targets: Tensor, /) -> Tensor: ...

    def target(self, example: Example, /) -> list[int]: ...

    def training_target(self, example: Example, length: int, /) -> list[int]: ...

    def generate(
        self, inputs: Tensor, lengths: Tensor, languages: Sequence[str | None] | None = None, /
    ) -> list[str]: ...


def seq2seq_loss(model: Seq2Seq, batch: Batch) -> Tensor:
    """Return the mean cross entropy over the target tokens of a batch, with teacher forcing. In nats."""
    targets = training_targets(model, batch)
    logits = model(batch.inputs, batch.lengths, targets)
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def training_targets(model: Seq2Seq, batch: Batch) -> Tensor:
    """Return the target tokens that a model learns of a batch, `(batch, tokens)`, padded with `IGNORED`."""
    rows = [
        torch.tensor(model.training_target(example, length))
        for example, length in zip(batch.examples, batch.lengths.tolist(), strict=True)
    ]
    return _padded(rows).to(batch.inputs.device)


def seq2seq_terms(model: Seq2Seq, example: Example) -> int:
    """Return how many terms an example has in the mean that `seq2seq_loss` returns: its target tokens."""
    return len(model.training_target(example, 0))


def references(model: Seq2Seq, examples: Sequence[Example]) -> Tensor:
    """Return the target tokens of examples, `(batch, tokens)`, padded with `IGNORED`."""
    return _padded([torch.tensor(model.target(example)) for example in examples])


def _padded(rows: list[Tensor]) -> Tensor:
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORED)


def shifted(targets: Tensor, start: int, padding: int) -> Tensor:
    """Return the decoder inputs for `targets` `(batch, tokens)`: `start`, then all target tokens but the last.

    `IGNORED` becomes `padding`.
    """
    before = targets.roll(1, dims=1)
    before = before.masked_fill(before == IGNORED, padding)
    before[:, 0] = start
    return before


def seq2seq_decode(model: Seq2Seq, batch: Batch) -> list[str]:
    """Return the hypotheses that the model generates, one per example."""
    languages = [one.target_lang if isinstance(one, Pair) else language_of(one) for one in batch.examples]
    return model.generate(batch.inputs, batch.lengths, languages)


def dummy_batch(
    model: nn.Module, length: int, tokens: int, max_tokens: int | None, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the arguments of `forward` for one blank example.

    Args:
        model: The model; the tensors are on its device.
        length: The number of samples or source tokens.
        tokens: The number of target tokens.
        max_tokens: The most tokens that the decoder can read; None if there is no limit.
        dtype: The type of the inputs.

    Returns:
        Inputs of zeros `(1, length)`, their length `(1,)`, and targets of zeros `(1, tokens)`.

    Raises:
        InputError: `tokens` is below 1 or above `max_tokens`.
    """
    if tokens < 1 or (max_tokens is not None and tokens > max_tokens):
        allowed = f"1 to {max_tokens}" if max_tokens else "at least 1"
        raise InputError(f"The decoder reads {allowed} tokens, got {tokens}.")
    device = next(model.parameters()).device
    inputs, lengths = torch.zeros(1, length, dtype=dtype, device=device), torch.tensor([length], device=device)
    return inputs, lengths, torch.zeros(1, tokens, dtype=torch.long, device=device)


def decoder_steps(site: Site, tokens: Tensor | None) -> Tensor:
    """Return `tokens` `(batch,)`, the valid lengths at a decoder's site. Raises ValueError if they are missing."""
    if tokens is None:
        raise ValueError(
            f"The steps of '{site.name}' are target tokens: pass tokens=, the number of target tokens of each example."
        )
    return tokens
