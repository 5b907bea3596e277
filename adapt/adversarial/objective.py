"""What an attack minimises: the loss of the target text, or the negative loss of the model's own answer."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapt.data.example import Example
from adapt.data.loader import Batch
from adapt.models.ctc import greedy_loss
from adapt.models.model import CTCModel, DecoderModel, Model

_MARGIN = 0.5  # nats by which each output unit of the target should exceed all others


@dataclass(frozen=True)
class Objective:
    """The loss of a waveform.

    Attributes:
        model: The model, in eval mode.
        example: The utterance, whose text is the target, or the answer to move away from.
        targeted: Whether its text is the target.
    """

    model: Model
    example: Example
    targeted: bool

    def __call__(self, wave: Tensor) -> tuple[Tensor, str, bool]:
        """Return the loss of a waveform `(samples,)`, the model's text, and whether it may be what is wanted.

        The text of a decoder is the most likely token at each place, given the text before it.
        """
        batch = Batch(wave.unsqueeze(0), torch.tensor([len(wave)], device=wave.device), [self.example])
        if isinstance(self.model, CTCModel):
            return self._ctc(self.model, batch)
        assert isinstance(self.model, DecoderModel)
        return self._decoder(self.model, batch)

    def _ctc(self, model: CTCModel, batch: Batch) -> tuple[Tensor, str, bool]:
        emissions, target = model(batch.inputs, batch.lengths), model.target(self.example)
        log_probs = emissions.log_probs[0, : int(emissions.lengths[0])]
        text = model.decode(log_probs.detach().argmax(-1).tolist())
        same = model.task.normalise(text) == model.task.normalise(self.example.text)
        if self.targeted:
            return greedy_loss(model, emissions, target, _MARGIN), text, same
        sizes = torch.tensor([len(log_probs)]), torch.tensor([len(target)])
        units = torch.tensor([target], device=log_probs.device)
        loss = nn.functional.ctc_loss(log_probs.unsqueeze(1), units, *sizes, blank=model.blank)
        return -loss, text, not same

    def _decoder(self, model: DecoderModel, batch: Batch) -> tuple[Tensor, str, bool]:
        target = torch.tensor(model.target(self.example), device=batch.inputs.device)
        logits = model(batch.inputs, batch.lengths, target.unsqueeze(0))[0]
        loss = nn.functional.cross_entropy(logits, target)
        best = logits.detach().argmax(-1)
        text = model.tokenizer.decode([unit for unit in best.tolist() if unit not in model.special_units]).strip()
        if not self.targeted:
            return -loss, text, bool((best != target).any())
        others = logits.scatter(1, target.unsqueeze(1), float("-inf")).amax(1)
        behind = others - logits.gather(1, target.unsqueeze(1)).squeeze(1) + _MARGIN
        return loss + behind.clamp_min(0).mean(), text, bool((best == target).all())
