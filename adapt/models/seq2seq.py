"""Speech or text to text, by an encoder and a decoder that writes token after token: the loss, and generated answers.

A model for it has `forward(inputs, lengths, targets)`, which returns logits `(batch, tokens, vocabulary)`;
`encode(text)`, the tokens of a text, the last of which ends it; and `generate(inputs, lengths)`, the answers as texts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adapt.data.example import Example
from adapt.data.loader import Batch
from adapt.errors import InputError
from interventions.sites import Site

IGNORED = -100  # stands past a target's end, and costs nothing


def seq2seq_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean over the batch's tokens of the cross entropy, each token read after the right ones before it."""
    targets = references(model, batch.examples).to(batch.inputs.device)
    logits = model(batch.inputs, batch.lengths, targets)
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)


def references(model: nn.Module, examples: Sequence[Example]) -> Tensor:
    """The tokens that should be written, `(batch, tokens)`, `IGNORED` past each end."""
    rows = [torch.tensor(model.encode(example.text)) for example in examples]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORED)


def shifted(targets: Tensor, start: int, padding: int) -> Tensor:
    """What a decoder reads before each target token: `start`, then the tokens up to the last but one, all `(batch,
    tokens)`; `IGNORED` becomes `padding`.
    """
    before = targets.roll(1, dims=1)
    before = before.masked_fill(before == IGNORED, padding)
    before[:, 0] = start
    return before


def seq2seq_decode(model: nn.Module, batch: Batch) -> list[str]:
    """What the model writes by itself."""
    return model.generate(batch.inputs, batch.lengths)


def dummy_batch(
    model: nn.Module, length: int, tokens: int, most: int | None, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, ...]:
    """What `Model.dummy` of such a model is: an input of zeros `(1, length)`, how long it is, and as many targets.

    Raises:
        InputError: there are more tokens than the `most` that the decoder reads (None: any number), or none.
    """
    if tokens < 1 or (most is not None and tokens > most):
        raise InputError(f"The decoder reads {f'1 to {most}' if most else 'at least 1'} tokens, not {tokens}.")
    device = next(model.parameters()).device
    inputs, lengths = torch.zeros(1, length, dtype=dtype, device=device), torch.tensor([length], device=device)
    return inputs, lengths, torch.zeros(1, tokens, dtype=torch.long, device=device)


def decoder_steps(site: Site, tokens: Tensor | None) -> Tensor:
    """What `Model.valid_lengths` is at a decoder's site: `tokens` `(batch,)`. Raises ValueError where none were given."""
    if tokens is None:
        raise ValueError(f"A step of '{site.name}' is a token: valid_lengths needs tokens, how many each example has.")
    return tokens
