"""Test-time adaptation: make a model surer of what it writes, on the very inputs that it reads (SUTA).

Lin et al. 2022 (arXiv 2203.14222) minimise, with the probabilities p at temperature T of the steps that are not blank,

    weight * H + (1 - weight) * C
    H = mean over steps of -sum_k p_k log p_k
    C = (1 / K) sum over j != k of (P^T W P)_jk,  the confusion of class j with k: P is (steps, K), W weighs sure steps
                                                  more, and each row adds up to 1

    with adapting(model, "utterance"):
        texts = decode_examples(model, model.task, examples, loader)
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from adapt.checks import check_choice, check_count, check_number, check_share
from adapt.data.kinds import with_text
from adapt.data.loader import Batch
from adapt.errors import InputError
from adapt.models.eval_mode import eval_mode
from adapt.models.model import CTCModel, DecoderModel, Model
from adapt.models.seq2seq import IGNORED, references, seq2seq_decode
from adapt.tuning.layers import layers

Mode = Literal["none", "utterance", "continual"]
_CLASSES = 1000  # with more output units, the confusion is measured between those that were written


@dataclass(frozen=True)
class Entropy:
    """How the entropy is minimised.

    Args:
        steps: The number of gradient steps for each utterance or sentence.
        learning_rate: The learning rate of AdamW.
        temperature: The temperature of the probabilities; above 1 it smooths them.
        weight: The weight of the entropy, from 0 to 1; the class confusion has the rest.
        adapts: "norms" changes the weights and biases of all norms; "norms and first layer" the first layer besides.

    Raises:
        InputError: a value is out of range.
    """

    steps: int = 10
    learning_rate: float = 1e-3
    temperature: float = 2.5
    weight: float = 0.3
    adapts: Literal["norms", "norms and first layer"] = "norms and first layer"

    def __post_init__(self) -> None:
        check_count("steps", self.steps, 1)
        check_number("learning_rate", self.learning_rate, above=0.0)
        check_number("temperature", self.temperature, above=0.0)
        check_share("weight", self.weight, zero=True, one=True)
        check_choice("adapts", self.adapts, ("norms", "norms and first layer"))


def usual(model: Model) -> Entropy:
    """Return the defaults for a kind of model.

    Those of CTC models are measured (`docs/results/unlabelled.md`). Decoders have more weights and take smaller steps.
    """
    return Entropy() if isinstance(model, CTCModel) else Entropy(learning_rate=1e-4, adapts="norms")


def has_norms(model: Model) -> bool:
    """Return whether a model has norms with weights, without which it cannot be adapted by its entropy."""
    return any("norm" in type(one).__name__.lower() and [*one.parameters(recurse=False)] for one in model.modules())


def entropy_loss(logits: Tensor, options: Entropy) -> Tensor:
    """Return the loss of the module's docstring, in nats.

    Args:
        logits: `(steps, units)`, logits or log-probabilities of the steps that count.
        options: The temperature and the weight.
    """
    log_probs = (logits.float() / options.temperature).log_softmax(-1)
    probs = log_probs.exp()
    entropy = -(probs * log_probs).sum(-1).mean()
    if probs.shape[-1] > _CLASSES:
        probs = probs[:, logits.argmax(-1).unique()]
    classes = probs.shape[-1]
    # As in SUTA's code: uncertain steps count less, and each class's row of the confusion adds up to 1.
    certainty = 1 + (probs * probs.clamp_min(1e-9).log()).sum(-1).exp().detach()
    certainty = certainty * len(probs) / certainty.sum()
    confusion = (probs * certainty.unsqueeze(-1)).T @ probs
    confusion = confusion / confusion.sum(1, keepdim=True).clamp_min(1e-9)
    between = (confusion.sum() - confusion.diagonal().sum()) / classes
    return options.weight * entropy + (1 - options.weight) * between


def adapted_parameters(model: Model, options: Entropy) -> dict[str, nn.Parameter]:
    """Return the parameters that test-time adaptation changes. Raises InputError if the model has no norms."""
    names = {
        name
        for module_name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for name in (f"{module_name}.{own}" for own, one in module.named_parameters(recurse=False) if one.dim() == 1)
    }
    if not names:
        raise InputError("This model has no norms, so its entropy cannot be minimised by them. Leave it out.")
    if options.adapts == "norms and first layer":
        names |= set(layers(model, layers="first 1").names)
    return {name: one for name, one in model.named_parameters() if name in names - model.never_trained}


def minimise(model: Model, batch: Batch, options: Entropy) -> float:
    """Take `options.steps` steps on a batch. Returns the loss before the last of them; 0 if nothing was written.

    A decoder's entropy is that of the tokens which it writes before the first step.
    """
    parameters = adapted_parameters(model, options)
    required = {name: one.requires_grad for name, one in model.named_parameters()}
    value = 0.0
    with torch.inference_mode(False), torch.enable_grad(), eval_mode(model):
        batch = Batch(batch.inputs.clone(), batch.lengths.clone(), batch.examples)
        try:
            for name, one in model.named_parameters():
                one.requires_grad_(name in parameters)
            optimizer = torch.optim.AdamW(parameters.values(), lr=options.learning_rate, weight_decay=0.0)
            targets = _written(model, batch)
            for _ in range(options.steps):
                logits = _steps(model, batch, targets)
                if not len(logits):
                    break
                loss = entropy_loss(logits, options)
                if not torch.isfinite(loss):
                    break
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                value = float(loss.detach())
        finally:
            for name, one in model.named_parameters():
                one.requires_grad_(required[name])
                one.grad = None
    return value


def _written(model: Model, batch: Batch) -> Tensor | None:
    if not isinstance(model, DecoderModel):
        return None
    with torch.no_grad():
        texts = seq2seq_decode(model, batch)  # not by the task, whose decoding may be the one that adapts first
    examples = [with_text(example, text) for example, text in zip(batch.examples, texts, strict=True)]
    return references(model, examples).to(batch.inputs.device)


def _steps(model: Model, batch: Batch, targets: Tensor | None) -> Tensor:
    """Return the logits `(steps, units)` of the steps that count: those that are not blank, or the written tokens."""
    if isinstance(model, CTCModel):
        emissions = model(batch.inputs, batch.lengths)
        valid = torch.arange(emissions.log_probs.shape[1], device=emissions.log_probs.device)
        valid = valid.unsqueeze(0) < emissions.lengths.to(valid.device).unsqueeze(1)
        return emissions.log_probs[valid & (emissions.log_probs.argmax(-1) != model.blank)]
    assert isinstance(model, DecoderModel) and targets is not None
    logits = model(batch.inputs, batch.lengths, targets)
    return logits[targets != IGNORED]


@contextmanager
def adapted_to(model: Model, batch: Batch, options: Entropy) -> Iterator[None]:
    """Within this block, the model is adapted to a batch. Its weights are restored afterwards, bit for bit."""
    parameters = adapted_parameters(model, options)
    own = {name: one.detach().clone() for name, one in parameters.items()}
    try:
        minimise(model, batch, options)
        yield
    finally:
        _restore(parameters, own)


@contextmanager
def adapting(model: Model, mode: Mode, options: Entropy | None = None) -> Iterator[None]:
    """Within this block, the model adapts to each batch before it decodes it. Its weights are restored afterwards.

    Args:
        model: The model.
        mode: "utterance" adapts to each example alone, always from the model's own weights; "continual" goes on from
            what it learned before, batch by batch; "none" does nothing.
        options: How; None for `usual`.

    Raises:
        InputError: the mode is unknown, or the model has no norms.
    """
    check_choice("test_time", mode, ("none", "utterance", "continual"))
    if mode == "none":
        yield
        return
    options = options or usual(model)
    parameters = adapted_parameters(model, options)
    own = {name: one.detach().clone() for name, one in parameters.items()}
    task = model.task

    def decode(chosen: Model, batch: Batch) -> list[str]:
        if mode == "continual":
            minimise(chosen, batch, options)
            return task.decode(chosen, batch)
        texts: list[str] = []
        for one in single(batch):
            with adapted_to(chosen, one, options):
                texts += task.decode(chosen, one)
        return texts

    model.task = replace(task, decode=decode)
    try:
        yield
    finally:
        model.task = task
        _restore(parameters, own)


def single(batch: Batch) -> Sequence[Batch]:
    """Return a batch of its own for each example, without padding."""
    return [
        Batch(batch.inputs[row : row + 1, : int(length)], batch.lengths[row : row + 1], [example])
        for row, (length, example) in enumerate(zip(batch.lengths, batch.examples, strict=True))
    ]


def _restore(parameters: dict[str, nn.Parameter], own: dict[str, Tensor]) -> None:
    with torch.inference_mode(False), torch.no_grad():
        for name, one in parameters.items():
            one.copy_(own[name])
