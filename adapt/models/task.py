"""What a model is for: how it learns, how it answers, and how an answer is judged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from adapt.data.loader import Batch
from adapt.metrics import ErrorRates, error_rates
from adapt.models.ctc import ctc_decode, ctc_loss
from adapt.models.seq2seq import seq2seq_decode, seq2seq_loss


@dataclass(frozen=True)
class Task:
    """Three plain functions.

    `loss(model, batch)` is a scalar to minimise, `decode(model, batch)` the answers as texts in the batch's order, and
    `judge(references, answers)` the error rates.
    """

    loss: Callable[[nn.Module, Batch], Tensor]
    decode: Callable[[nn.Module, Batch], list[str]]
    judge: Callable[[Sequence[str], Sequence[str]], ErrorRates]


recognition = Task(ctc_loss, ctc_decode, error_rates)
dictation = Task(seq2seq_loss, seq2seq_decode, error_rates)
