"""Measure blends on examples: metrics, losses, and what each layer's change gains and costs."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.blending.choice import Measured
from adapt.blending.front import Kind, Point
from adapt.blending.interpolate import Factor, Interpolation
from adapt.data.example import Example
from adapt.data.loader import Batch, Loader
from adapt.metrics import TextScores, main_resamples
from adapt.models.batch_memory import within_budget
from adapt.models.ctc import Emissions
from adapt.models.model import CTCModel, Model

Layers = Mapping[str, float]  # the factor of each changed layer


@dataclass(frozen=True)
class Slopes:
    """How the loss of a set changes with the factor of each layer, and the loss itself."""

    loss: float
    layers: dict[str, float]


class Evaluator:
    """Runs blends on the examples of "target" and "source". Audio is read once, and kept in memory.

    Args:
        line: The models between the base and the adapted one.
        sets: The examples of each set, which the model must be able to learn from.
        loader: Batches the examples.
    """

    def __init__(self, line: Interpolation, sets: Mapping[str, Sequence[Example]], loader: Loader) -> None:
        self.line, self.model = line, copy.deepcopy(line.adapted).eval()
        self._batches = {name: _batches(self.model, examples, loader) for name, examples in sets.items()}
        self._base: dict[str, np.ndarray] | None = None  # resamples of the main metric, by set

    def measure(self, factor: Factor, kind: Kind = "single") -> Measured:
        """Measure a blend. The base is measured first, if it was not yet."""
        scores, losses = self._run(factor)
        metric = self.model.task.metrics[0]
        # The intervals of all metrics would take as long as the decoding, for translations even longer.
        resamples = {name: main_resamples(one) for name, one in scores.items()}
        if self._base is None:
            base = scores if factor == 0 else self._run(0.0)[0]
            self._base = {name: main_resamples(one) for name, one in base.items()}
        layers = self.layers_at(factor)
        point = Point(
            kind=kind,
            factor=float(factor) if isinstance(factor, (int, float)) else sum(layers.values()) / max(len(layers), 1),
            layers=layers,
            values={name: one.values() for name, one in scores.items()},
            intervals={name: _interval(one) for name, one in resamples.items()},
            changes={name: _interval(one - self._base[name]) for name, one in resamples.items()},
            losses=losses,
        )
        sign = -1.0 if metric.higher else 1.0
        return Measured(
            point,
            {name: sign * values[metric.key] for name, values in point.values.items()},
            {name: sign * one for name, one in resamples.items()},
        )

    def layers_at(self, factor: Factor) -> dict[str, float]:
        """Return the mean factor of each changed layer."""
        amounts = self.line.amounts(factor)
        return {
            layer: sum(float(torch.as_tensor(amounts[name]).double().mean()) for name in names) / len(names)
            for layer, names in self.line.layers.items()
        }

    def slopes(self, factor: Factor) -> dict[str, Slopes]:
        """Return, by set, how the loss changes with the factor of each layer: the gradient along the layer's change.

        Running statistics of batch norms have no gradient, so their part of a layer's change does not count.
        """
        self.line.write(self.model, factor)
        parameters = {name: self.model.net.get_parameter(name) for name in self._changes}
        before = {name: parameter.requires_grad for name, parameter in parameters.items()}
        try:
            for parameter in parameters.values():
                parameter.requires_grad_(True)
            return {name: self._slopes(batches, parameters) for name, batches in self._batches.items()}
        finally:
            for name, parameter in parameters.items():
                parameter.grad = None
                parameter.requires_grad_(before[name])

    @property
    def _changes(self) -> dict[str, Tensor]:
        """The change of each parameter."""
        known = dict(self.model.net.named_parameters())
        return {name: change for name, change in self.line.changes().items() if name in known}

    def _slopes(self, batches: Sequence[Batch], parameters: Mapping[str, Tensor]) -> Slopes:
        total, count = 0.0, sum(len(batch.examples) for batch in batches)
        for parameter in parameters.values():
            parameter.grad = None
        for batch in batches:
            loss = self.model.task.loss(self.model, batch) * (len(batch.examples) / count)
            loss.backward()
            total += float(loss.detach())
        layers = dict.fromkeys(self.line.layers, 0.0)
        changes = self._changes
        for layer, names in self.line.layers.items():
            for name in names:
                if name in parameters and (gradient := parameters[name].grad) is not None:
                    layers[layer] += float((gradient.double() * changes[name].to(gradient.device)).sum())
        return Slopes(total, layers)

    def _run(self, factor: Factor) -> tuple[dict[str, TextScores], dict[str, float]]:
        self.line.write(self.model, factor)
        scores, losses = {}, {}
        with torch.inference_mode():
            for name, batches in self._batches.items():
                texts, examples, total = [], [], 0.0
                for batch in batches:
                    ran = _Ran(self.model, batch) if isinstance(self.model, CTCModel) else self.model
                    texts += self.model.task.decode(ran, batch)
                    total += float(self.model.task.loss(ran, batch)) * len(batch.examples)
                    examples += batch.examples
                scores[name], losses[name] = self.model.task.score(examples, texts), total / len(examples)
        return scores, losses


def _interval(resamples: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(resamples, [2.5, 97.5])
    return float(low), float(high)


def _batches(model: Model, examples: Sequence[Example], loader: Loader) -> list[Batch]:
    device = next(model.parameters()).device
    return [batch.to(device) for batch in within_budget(model, examples, loader).evaluation(examples, model.reader)]


class _Ran:
    """A CTC model that has run on a batch: the loss and the decoding share its output."""

    def __init__(self, model: CTCModel, batch: Batch) -> None:
        self.blank, self.target, self.decode = model.blank, model.target, model.decode
        self.emissions: Emissions = model(batch.inputs, batch.lengths)

    def __call__(self, *_: Any) -> Emissions:
        return self.emissions
