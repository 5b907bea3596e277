"""Readouts: affine maps from the states of a layer to the model's own answer, for layers with a space of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.checks import check_count
from adapt.data.example import Example
from adapt.errors import InputError
from adapt.introspect.attribution.words import single_batch
from adapt.introspect.lens.states import encoder_blocks, output_logits, states_of
from adapt.models.inference import eval_mode
from adapt.models.model import CTCModel
from adapt.progress import track

RIDGE = 1e-3  # relative to the mean square of a layer's states
HELD_OUT = 5  # every fifth example tests the readouts


@dataclass(frozen=True, eq=False)
class Readouts:
    """Affine maps to the logits of a CTC model.

    Attributes:
        maps: For each layer, `(units + 1, vocabulary)`; the last row is the bias.
        agreement: For each layer, the share of steps with a character at which the readout puts the model's own
            character first, in examples that it was not fitted on.
        chance: The share of the most frequent character among these steps.
    """

    maps: Mapping[str, Tensor]
    agreement: Mapping[str, float]
    chance: float

    def logits(self, layer: str, states: Tensor) -> Tensor:
        """Return what is read from states `(steps, units)`, as `(steps, vocabulary)`."""
        return _with_bias(states.double()).matmul(self.maps[layer]).float()


def fit_readouts(model: CTCModel, examples: Sequence[Example]) -> Readouts:
    """Fit a readout for each layer that is not a transformer layer, by ridge regression.

    The layers of a Wav2Letter, and the convolutions in front of a transformer, have spaces of their own: nothing is
    added to what passes through them, and widths differ, so the output layer cannot read them. Each gets an affine map
    instead, as in the tuned lens (Belrose et al. 2023, arXiv 2303.08112), which also learns it on the model's own
    outputs, not on the references. There it is trained with the divergence of the outputs; here it is the closed form
    of least squares on the logits. A regression on the input of an affine output layer, followed by this layer, would
    give the same map. A readout sees a single step: what a later convolution gathers from several steps is not yet
    there, even if all of it can be found in the neighbouring steps.

    Args:
        model: The model.
        examples: What it reads, at least two; every fifth measures the agreement. References are not used.

    Raises:
        InputError: There are fewer than two examples, or too few steps.
    """
    check_count("the number of examples", len(examples), 2)
    layers = chain_layers(model)
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    held_out: list[tuple[dict[str, Tensor], Tensor]] = []
    steps = 0
    with eval_mode(model), torch.no_grad():
        for number, example in enumerate(track(examples, "readouts")):
            states, logits = chain_states(model, example, layers)
            if number % HELD_OUT == HELD_OUT - 1 or number == len(examples) - 1:
                held_out.append((states, logits))
                continue
            steps += len(logits)
            target = (logits - logits.mean(1, keepdim=True)).double()
            for name, state in states.items():
                x = _with_bias(state.double())
                gram, product = sums.get(name, (0.0, 0.0))
                sums[name] = gram + x.T @ x, product + x.T @ target
    widest = max((len(gram) for gram, _ in sums.values()), default=0)
    if steps < widest:
        raise InputError(f"The examples have {steps} steps, fewer than the {widest} of the widest layer. Give more.")
    maps = {name: _ridge(gram, product) for name, (gram, product) in sums.items()}
    fitted = Readouts(maps, {}, 0.0)
    agreement, chance = _agreement(fitted, held_out, model.blank)
    return Readouts(maps, agreement, chance)


def chain_layers(model: CTCModel) -> dict[str, str]:
    """Return the layers that need a readout, by name the module whose output is read: each layer's last.

    The output layer and transformer layers need none.
    """
    blocks = encoder_blocks(model)
    layers = [layer for layer in model.layers if layer.name not in (*blocks, model.head)]
    if blocks:  # positions are added to what the projection returned, so only the convolutions are before the stack
        layers = [layer for layer in layers if ".conv_layers." in layer.name]
        return {layer.name: layer.name for layer in layers}
    return {layer.name: layer.modules[-1] for layer in layers}


def chain_states(model: CTCModel, example: Example, layers: Mapping[str, str]) -> tuple[dict[str, Tensor], Tensor]:
    """Return the states of layers at the steps of the output, `(steps, units)` by name, and the logits.

    The steps of every layer are centred on the middle of the example, whatever it loses or pads at the ends; a step of
    the output takes the nearest one.
    """
    batch = single_batch(model, example)
    found: list[Tensor] = []

    def run() -> None:
        raw, _ = states_of(model, list(layers.values()), lambda: model(batch.inputs, batch.lengths))
        found.extend(raw)

    logits = output_logits(model, run)[0].float().cpu()
    states = {}
    for name, state in zip(layers, found, strict=True):
        values = state[0].float().cpu().T  # convolutions have time last
        states[name] = values[_places(len(values), len(logits))]
    return states, logits


def _places(steps: int, wanted: int) -> Tensor:
    ratio = round(steps / wanted) or 1  # convolutions before others have a multiple of their steps
    middle = (torch.arange(wanted) - (wanted - 1) / 2) * ratio
    return (middle + (steps - 1) / 2).round().long().clamp(0, steps - 1)


def _with_bias(x: Tensor) -> Tensor:
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


def _ridge(gram: Tensor, product: Tensor) -> Tensor:
    size = float(gram.diagonal().mean()) or 1.0
    return torch.linalg.solve(gram + RIDGE * size * torch.eye(len(gram), dtype=gram.dtype), product)


def _agreement(
    fitted: Readouts, examples: Sequence[tuple[dict[str, Tensor], Tensor]], blank: int
) -> tuple[dict[str, float], float]:
    answers = torch.cat([logits.argmax(-1) for _, logits in examples])
    written = answers != blank
    if not written.any():
        return dict.fromkeys(fitted.maps, 0.0), 0.0
    chance = float(answers[written].bincount().max() / written.sum())
    agreement = {}
    for name in fitted.maps:
        read = torch.cat([fitted.logits(name, states[name]).argmax(-1) for states, _ in examples])
        agreement[name] = float((read == answers)[written].double().mean())
    return agreement, chance
