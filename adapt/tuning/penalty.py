"""Keeping what the base knew: penalties on how far the weights that train move from where they started.

    loss of the task + strength / 2 * sum over weights of importance * (weight - start)^2

With importance 1 this is L2-SP (Li et al. 2018, section 4); with the diagonal of the Fisher information, measured on
data of the source, it is elastic weight consolidation (Kirkpatrick et al. 2017, equation 3). Either holds a copy of the
weights that train, and of no others: of a layer of which some rows train (`interventions/rows.py`), these rows.
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
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from adapt.progress import track
from interventions.files import FileError, read_tensors, write_tensors

log = logging.getLogger(__name__)
_KIND = "Fisher information"
_LORA_A = re.compile(r"(.*\.)lora_(embedding_)?A(\..*)")


class Penalty(nn.Module, ABC):
    """A penalty: called, it gives a scalar to add to the task's loss. It is made when the weights are the base's.

    Its tensors move with the module that it is a part of, and no checkpoint holds them.
    """

    @abstractmethod
    def forward(self) -> Tensor:
        """The penalty for where the weights are now."""

    def prepare(self, folder: Path) -> None:
        """Measure what it needs before training, or read what was measured into `folder` before."""


def none(model: Model, sample: TuningData | None = None) -> None:
    """No penalty."""


def l2sp(model: Model, strength: float = 0.01, sample: TuningData | None = None) -> "L2SP":
    """`L2SP` on the parameters of the model that train. Raises InputError."""
    return L2SP(model, strength)


def ewc(
    model: Model, strength: float = 0.01, examples: int = 200, seed: int = 0, sample: TuningData | None = None
) -> "EWC":
    """`EWC` on the parameters of the model that train, by `examples` of the source, drawn with `seed`.

    Raises:
        InputError: there are no source examples, or a number is none.
    """
    if sample is None or not sample.source:
        raise InputError("keep=ewc measures on examples of the source what to keep: give data.source_train=...")
    check_count("examples", examples, 1)
    drawn = random.Random(seed).sample(range(len(sample.source)), min(examples, len(sample.source)))
    return EWC(model, strength, replace(sample, source=[sample.source[number] for number in sorted(drawn)]))


class L2SP(Penalty):
    """The squared distance of the weights that train from the base's.

    What a pair of LoRA factors adds to a weight is nothing at the start, and it is this that is kept small: the squared
    Frobenius norm of `scaling * B A`, by two products of rank times rank. So it means the same as of the weight itself.
    The factors alone would not: A starts at random, and is free where B is zero.
    """

    def __init__(self, model: Model, strength: float) -> None:
        super().__init__()
        self.strength = _checked(strength)
        parameters = _trained(model)
        self.pairs = list(_lora_pairs(model, parameters))
        factors = {id(factor) for first, second, _ in self.pairs for factor in (first, second)}
        self.anchored = _Anchored({name: own for name, own in parameters.items() if id(own) not in factors})

    def forward(self) -> Tensor:
        with torch.autocast(self.anchored.device.type, enabled=False):  # small differences, in 16 bits, would be none
            distance = self.anchored()
            for first, second, scaling in self.pairs:
                a, b = first.flatten(1).float(), second.flatten(1).float()
                distance = distance + scaling**2 * ((b.T @ b) * (a @ a.T)).sum()
            return 0.5 * self.strength * distance


class EWC(Penalty):
    """The squared distance, each weight's times its Fisher information in the base, which `prepare` measures.

    It is the mean over the source's examples of the squared gradient of the task's loss on that example (with its own
    text, the "empirical" Fisher information), divided by its mean over all weights that train: `strength` then means
    the same as L2-SP's, whatever the loss's scale. The model runs as in evaluation. It is kept beside the checkpoints,
    where a run that is resumed finds it, and each of several processes.

    LoRA factors count as the weights that they are: at the start only B has a gradient, and is pulled to zero where
    that would change what the source hears.
    """

    def __init__(self, model: Model, strength: float, sample: TuningData) -> None:
        super().__init__()
        self.strength = _checked(strength)
        self.model, self.sample = [model], sample  # in a list: the model is no part of its own penalty
        self.anchored = _Anchored(_trained(model))

    def prepare(self, folder: Path) -> None:
        path = folder / "fisher.safetensors"
        if path.is_file():
            try:
                measured = read_tensors(path, _KIND)[1]
                fisher = [measured[name] for name in self.anchored.names]
            except (FileError, KeyError) as error:
                raise InputError(f"'{path}' is not this run's ({error}). Start anew: overwrite=true.") from None
        else:
            fisher = self._measure()
            header = {"examples": len(self.sample.source)}
            write_tensors(path, _KIND, header, dict(zip(self.anchored.names, fisher, strict=True)))
        self.anchored.importance = [one.to(self.anchored.device) for one in fisher]

    def forward(self) -> Tensor:
        with torch.autocast(self.anchored.device.type, enabled=False):
            return 0.5 * self.strength * self.anchored()

    def _measure(self) -> list[Tensor]:
        (model,), own = self.model, self.anchored.trained
        total = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in own]
        alone = replace(self.sample.loader, batch_seconds=0.0, batch_tokens=0)  # a batch of one each
        batches = alone.evaluation(self.sample.source, model.reader)
        with eval_mode(model), torch.enable_grad():
            for batch in track(batches, "measuring what to keep"):
                loss = model.task.loss(model, batch.to(self.anchored.device))
                for sum_, gradient in zip(total, torch.autograd.grad(loss, own, allow_unused=True), strict=True):
                    if gradient is not None:
                        sum_ += gradient.float().square()
        mean = sum(float(part.double().sum()) for part in total) / sum(part.numel() for part in total)
        if not 0 < mean < float("inf"):
            raise InputError(
                "keep=ewc: on the source's examples the weights that train have no gradient, or one that is no number. "
                "Take others, or keep=l2sp."
            )
        log.info("Fisher information of %d source %ss measured.", len(batches), model.task.example_name)
        return [part / mean for part in total]


class _Anchored(nn.Module):
    """The squared distance of parameters from where they were when this was made, each times its importance, if any.

    Its tensors are no buffers, which several processes would send to each other in each step.
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
    check_number("strength", strength, above=0)
    return float(strength)


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _lora_pairs(
    model: nn.Module, parameters: dict[str, nn.Parameter]
) -> Iterator[tuple[nn.Parameter, nn.Parameter, float]]:
    """Each pair of LoRA factors that peft has put in, A `(rank, in, ...)` and B `(out, rank, ...)`, and its scaling."""
    for name, first in parameters.items():
        found = _LORA_A.fullmatch(name)
        second = parameters.get(f"{found[1]}lora_{found[2] or ''}B{found[3]}") if found else None
        if second is not None:
            adapter = found[3].removeprefix(".").removesuffix(".weight")
            scaling = getattr(model.get_submodule(found[1].removesuffix(".")), "scaling", {})
            yield first, second, float(scaling.get(adapter, 1.0))
