"""Penalties on moving the trained weights away from their initial values, against forgetting.

    loss of the task + strength / 2 * sum over weights of importance * (weight - start)^2

With importance 1 this is L2-SP (Li et al. 2018, section 4). With the diagonal of the Fisher information, measured on
source data, it is elastic weight consolidation (Kirkpatrick et al. 2017, equation 3). Both keep a copy of the trained
weights only; if only some rows of a layer are trained (`interventions/rows.py`), a copy of these rows.
"""

import logging
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from adapt.checks import check_count, check_number
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.files import is_file
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from adapt.progress import track
from interventions.files import FileError, read_tensors, write_tensors

log = logging.getLogger(__name__)
_KIND = "Fisher information"
_LORA_A = re.compile(r"(.*\.)lora_(embedding_)?A(\..*)")


class Penalty(nn.Module, ABC):
    """A term of the loss. It must be created before training, while the weights are still the base's.

    Its tensors move to a device with the module that owns it, but are not part of checkpoints.
    """

    @abstractmethod
    def forward(self) -> Tensor:
        """Return the penalty for the current weights, a scalar."""

    def prepare(self, folder: Path) -> None:
        """Measure what the penalty needs before training, or read what an interrupted run saved in `folder`."""


def none(model: Model, data: TuningData | None = None) -> None:
    """No penalty."""


def l2sp(model: Model, data: TuningData | None = None, strength: float = 0.01) -> "L2SP":
    """Return the penalty `L2SP` on the trained parameters. Raises InputError if `strength` is not above 0."""
    return L2SP(model, strength)


def ewc(
    model: Model, data: TuningData | None = None, strength: float = 0.01, examples: int = 200, seed: int = 0
) -> "EWC":
    """Return the penalty `EWC` on the trained parameters.

    Args:
        model: The model, with `requires_grad` set for training.
        data: Its source examples are used to measure the Fisher information.
        strength: The weight of the penalty.
        examples: The number of source examples to draw.
        seed: Seed of the draw.

    Returns:
        The penalty; `prepare` measures the Fisher information.

    Raises:
        InputError: there are no source examples, or a number is out of range.
    """
    if data is None or not data.source:
        raise InputError("penalty=ewc needs examples of the source: give data.source_train=...")
    check_count("examples", examples, 1)
    drawn = random.Random(seed).sample(range(len(data.source)), min(examples, len(data.source)))
    return EWC(model, strength, replace(data, source=[data.source[number] for number in sorted(drawn)]))


class L2SP(Penalty):
    """The squared distance of the trained weights from the base's.

    A pair of LoRA factors is penalised by the squared Frobenius norm of `scaling * B A`, which it adds to its weight,
    so that the penalty means the same as for the weight itself. It is computed from two products of size rank x rank.
    (A distance of the factors from their start would not do: A starts at random, and has no effect while B is zero.)
    """

    def __init__(self, model: Model, strength: float) -> None:
        super().__init__()
        self.strength = _checked(strength)
        parameters = _trained(model)
        self.pairs = list(_lora_pairs(model, parameters))
        factors = {id(factor) for first, second, _ in self.pairs for factor in (first, second)}
        self.anchored = _Anchored({name: own for name, own in parameters.items() if id(own) not in factors})

    def forward(self) -> Tensor:
        with torch.autocast(self.anchored.device.type, enabled=False):  # 16 bits would round small differences away
            distance = self.anchored()
            for first, second, scaling in self.pairs:
                a, b = first.flatten(1).float(), second.flatten(1).float()
                distance = distance + scaling**2 * ((b.T @ b) * (a @ a.T)).sum()
            return 0.5 * self.strength * distance


class EWC(Penalty):
    """The squared distance of each weight, multiplied by its Fisher information in the base.

    The Fisher information is the mean over source examples of the squared gradient of the task's loss with the
    reference text (the "empirical" Fisher information). It is divided by its mean over all trained weights, so that
    `strength` means the same as for L2-SP whatever the scale of the loss. The model is in eval mode while `prepare`
    measures it. It is saved with the checkpoints, where a resumed run and further processes read it.

    LoRA factors are treated as ordinary weights. In the base only B has a gradient, so that B is pulled towards zero
    where it would change the outputs for source examples.
    """

    def __init__(self, model: Model, strength: float, data: TuningData) -> None:
        super().__init__()
        self.strength = _checked(strength)
        self.model, self.data = [model], data  # in a list, so that the model does not become a submodule
        self.anchored = _Anchored(_trained(model))

    def prepare(self, folder: Path) -> None:
        path = folder / "fisher.safetensors"
        if is_file(path):
            try:
                measured = read_tensors(path, _KIND)[1]
                fisher = [measured[name] for name in self.anchored.names]
            except (FileError, KeyError) as error:
                raise InputError(
                    f"'{path}' does not belong to this run ({error}). Start again with overwrite=true."
                ) from None
        else:
            fisher = self._measure()
            header = {"examples": len(self.data.source)}
            write_tensors(path, _KIND, header, dict(zip(self.anchored.names, fisher, strict=True)))
        self.anchored.importance = [one.to(self.anchored.device) for one in fisher]

    def forward(self) -> Tensor:
        with torch.autocast(self.anchored.device.type, enabled=False):
            return 0.5 * self.strength * self.anchored()

    def _measure(self) -> list[Tensor]:
        (model,), parameters = self.model, self.anchored.trained
        total = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        single = replace(self.data.loader, batch_seconds=0.0, batch_tokens=0)  # one example per batch
        batches = single.evaluation(self.data.source, model.reader)
        with eval_mode(model), torch.enable_grad():
            for batch in track(batches, "measuring Fisher information"):
                loss = model.task.loss(model, batch.to(self.anchored.device))
                gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
                for squares, gradient in zip(total, gradients, strict=True):
                    if gradient is not None:
                        squares += gradient.float().square()
        mean = sum(float(part.double().sum()) for part in total) / sum(part.numel() for part in total)
        if not 0 < mean < float("inf"):
            raise InputError(
                "penalty=ewc: the trained weights have no gradient, or not a finite one, on the source examples. "
                "Use other source examples, or penalty=l2sp."
            )
        log.info("Measured the Fisher information on %d source %ss.", len(batches), model.task.example_name)
        return [part / mean for part in total]


class _Anchored(nn.Module):
    """The squared distance of parameters from their values at construction, weighted by importance if that is given.

    Its tensors are not buffers, because DDP would broadcast buffers in every step.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        super().__init__()
        self.names, self.trained = list(parameters), list(parameters.values())
        self.start = [parameter.detach().clone() for parameter in self.trained]
        self.importance: list[Tensor] | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "_Anchored":
        super()._apply(fn, recurse)
        self.start = [fn(tensor) for tensor in self.start]
        self.importance = self.importance and [fn(tensor) for tensor in self.importance]
        return self

    @property
    def device(self) -> torch.device:
        return self.trained[0].device if self.trained else torch.device("cpu")

    def forward(self) -> Tensor:
        distance = torch.zeros((), device=self.device)
        for number, (parameter, start) in enumerate(zip(self.trained, self.start, strict=True)):
            square = (parameter - start).float().square()
            distance = distance + (square if self.importance is None else square * self.importance[number]).sum()
        return distance


def _checked(strength: float) -> float:
    check_number("strength", strength, above=0, hint="penalty=none switches it off.")
    return float(strength)


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _lora_pairs(
    model: nn.Module, parameters: dict[str, nn.Parameter]
) -> Iterator[tuple[nn.Parameter, nn.Parameter, float]]:
    """Yield each pair of LoRA factors, A `(rank, in, ...)` and B `(out, rank, ...)`, with its scaling."""
    for name, first in parameters.items():
        found = _LORA_A.fullmatch(name)
        if found is None:
            continue
        second = parameters.get(f"{found[1]}lora_{found[2] or ''}B{found[3]}")
        if second is not None:
            adapter = found[3].removeprefix(".").removesuffix(".weight")
            scaling = getattr(model.get_submodule(found[1].removesuffix(".")), "scaling", {})
            yield first, second, float(scaling.get(adapter, 1.0))
