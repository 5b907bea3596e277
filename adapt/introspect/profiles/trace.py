"""The trace of a forward pass: the best output path, its alignment with the text, and the time of each step."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import torch
from torch import Tensor

from adapt.data.loader import Batch
from adapt.errors import InputError
from adapt.models.ctc import ctc_steps
from adapt.models.model import CTCModel, DecoderModel, Model
from interventions.sites import Site

Kind = Literal["seconds", "source", "target"]


@dataclass(frozen=True)
class TimeBase:
    """What a step of a site is: `length` seconds of audio, a source token, or a target token."""

    kind: Kind
    length: float = 1.0


def time_base_of(model: Model, site: Site) -> TimeBase:
    """Return the time base of a site."""
    if site.step is not None and site.step.unit == "s":
        return TimeBase("seconds", site.step.length)
    # One source token and two target tokens: the number of steps tells which of them the site counts.
    steps = model.valid_lengths(site, torch.tensor([1]), torch.tensor([2]))
    return TimeBase("target" if int(steps) == 2 else "source")


@dataclass
class ForwardTrace:
    """The outputs of a forward pass over a batch. Groupings use them to label the steps.

    Args:
        model: The model that ran.
        batch: The batch.
        numbers: The position of each example of the batch among all examples.
        path: The output unit with the highest score at each output step, `(batch, steps)`.
        lengths: The number of valid output steps of each example, `(batch,)`.
        log_probs: The log-probabilities of a CTC model, `(batch, steps, units)`; None for a decoder.
    """

    model: Model
    batch: Batch
    numbers: Sequence[int]
    path: Tensor
    lengths: Sequence[int]
    log_probs: Tensor | None = None

    @cached_property
    def output(self) -> TimeBase:
        """The time base of the output."""
        return time_base_of(self.model, self.model.sites[-1])

    @property
    def blank(self) -> int:
        """The blank unit of a CTC model."""
        return cast(CTCModel, self.model).blank

    @cached_property
    def texts(self) -> list[list[int] | None]:
        """The output units of each reference text; None if the model cannot encode the text."""
        model = cast("CTCModel | DecoderModel", self.model)
        texts: list[list[int] | None] = []
        for example in self.batch.examples:
            try:
                texts.append(model.target(example))
            except InputError:
                texts.append(None)
        return texts

    @cached_property
    def aligned(self) -> list[Tensor | None]:
        """The forced CTC alignment of each reference text, `(output steps,)`; None if there is no alignment.

        It is the most probable path that spells the text (Graves et al. 2006): a unit or the blank at each step.
        """
        from torchaudio.functional import forced_align

        alignments: list[Tensor | None] = []
        for row, units in enumerate(self.texts):
            if not units or self.log_probs is None or ctc_steps(units) > self.lengths[row]:
                alignments.append(None)
                continue
            log_probs = self.log_probs[row : row + 1, : self.lengths[row]].detach().float().cpu().contiguous()
            target = torch.tensor([units], dtype=torch.int32)
            alignments.append(forced_align(log_probs, target, blank=self.blank)[0][0].long())
        return alignments

    def on_time_base(self, time_base: TimeBase, steps: int, values: Tensor) -> Tensor:
        """Map values of the output steps of an example, `(output steps,)`, to the steps of a site, `(steps,)`.

        The steps of every site are centred on the middle of the example, whatever the site loses or pads at the ends.
        A step of the site takes the value of the output step with the nearest middle, at most half a step away.
        """
        if time_base.kind != "seconds":
            return values
        middle = (torch.arange(steps) - (steps - 1) / 2) * (time_base.length / self.output.length)
        place = (middle + (len(values) - 1) / 2).round().long().clamp(0, len(values) - 1)
        return values[place]

    def times(self, time_base: TimeBase, row: int, steps: int) -> Tensor:
        """Return the middle of each step, `(steps,)`, in seconds from the start of the utterance."""
        duration = int(self.batch.lengths[row]) / self.model.sample_rate
        return duration / 2 + (torch.arange(steps) - (steps - 1) / 2) * time_base.length
