"""The frozen prefix: run the layers below the lowest trained layer once per example, and replay their outputs.

The output of a frozen layer is the same in every epoch, unless that layer or one below it is random. So the activations
that enter the lowest trained layer are computed once for each example and speed and stored in memory-mapped files
(`prefix_store.py`; `prefix_cache.py` decides whether). They replace the layers below, the features and the audio. A
model's `cuts` say where this is possible. The modules below a cut are then not run (`Prefix.replayed`); everything
above them works as usual, including masks, dropout and gradients.

Losses equal those of an uncached run bit for bit if each example is recorded in the batch that it trains in. Otherwise
they differ by the rounding differences between batches of different sizes.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adapt.data.example import Example
from adapt.data.loader import Batch
from adapt.models.cut import Cut
from adapt.models.devices import own_random
from adapt.models.inference import eval_mode
from adapt.models.model import DecoderModel, Model
from interventions.freeze import eval_frozen


@contextmanager
def train_mode(model: nn.Module) -> Iterator[None]:
    """Put the model into train mode within a `with` block; frozen parts stay in eval mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    eval_frozen(model)
    try:
        yield
    finally:
        for module, before in modes:
            module.training = before


class UncachedError(Exception):
    """The reason why no prefix is cached."""


def find_cut(model: Model) -> Cut:
    """Return the highest cut below which nothing trains and nothing is random. Raises UncachedError if none."""
    layers = model.layers
    names, lowest = [layer.name for layer in layers], len(layers)
    owners = {module: number for number, layer in enumerate(layers) for module in layer.modules}
    for name, parameter in model.named_parameters(remove_duplicate=False):  # tied parameters under each name
        # Parameters that a tuning adds to a layer, such as low-rank factors, may be in submodules of its modules.
        place = name.rpartition(".")[0] if parameter.requires_grad else ""
        while place and place not in owners:
            place = place.rpartition(".")[0]
        lowest = min(lowest, owners[place]) if place else lowest
    if lowest == 0:
        raise UncachedError(f"the first layer, '{names[0]}', is trained")
    possible = model.cuts
    if not possible:
        raise UncachedError("this network runs on one utterance at a time")
    possible = [cut for cut in possible if names.index(cut.last) < lowest]
    if not possible:
        raise UncachedError(f"the network cannot be cut below the lowest trained layer, '{names[lowest]}'")
    with train_mode(model):
        for cut in reversed(possible):
            reasons = [why for name, why in cut.inside.items() if model.get_submodule(name).training]
            if not reasons:
                return cut
    raise UncachedError(f"{reasons[0]} below the lowest trained layer, '{names[lowest]}'")


class _ReachedError(Exception):
    """Raised after the last cached module has run, to skip the rest of the network."""


class Prefix:
    """A model's frozen prefix up to a cut: `record` computes its outputs, `replayed` replaces it with them.

    Args:
        model: The model.
        cut: Where the prefix ends.
        batch: Any batch, from which the shapes of the modules' outputs are determined.

    Raises:
        UncachedError: the prefix turns out to be random.
    """

    def __init__(self, model: Model, cut: Cut, batch: Batch) -> None:
        self.model, self.cut = model, cut
        names = [layer.name for layer in model.layers]
        self._below = [own for layer in model.layers[: names.index(cut.last) + 1] for name in layer.modules
                       for own in model.get_submodule(name).parameters(recurse=False)]  # fmt: skip
        # The shape of the first tensor that each module outputs, and the number of tensors (None: not a tuple).
        self._outputs: dict[str, tuple[torch.Size, int | None]] = {}
        found = [self._pass(batch, train=train) for train in (False, True, True)]
        for tap, once, *again in zip(cut.taps, *found, strict=True):
            if not all(torch.equal(once, other) for other in again):
                raise UncachedError(f"the output of '{tap.module}' is random")
        self.widths = [tensor.shape[3 - tap.axis] for tap, tensor in zip(cut.taps, found[0], strict=True)]
        self.steps = [tensor.shape[tap.axis] for tap, tensor in zip(cut.taps, found[0], strict=True)]
        self.dtypes = [tensor.dtype for tensor in found[0]]

    @torch.no_grad()
    def _pass(self, batch: Batch, train: bool = False) -> list[Tensor]:
        """Return the outputs of the cached modules for a batch. In train mode, each call has a new random state."""
        taps = [tap.module for tap in self.cut.taps]
        last, caught = taps[-1], {}

        def catch(name: str, output: Any) -> None:
            first, count = (output, None) if isinstance(output, Tensor) else (output[0], len(output))
            self._outputs[name] = first.shape, count
            if name in taps:
                caught[name] = first
            if name == last:
                raise _ReachedError

        names = {name for tap in self.cut.taps for name in (tap.module, *tap.stubs)}
        handles = [
            self.model.get_submodule(name).register_forward_hook(lambda *parts, name=name: catch(name, parts[2]))
            for name in names
        ]
        drawn = np.random.get_state()
        try:
            with own_random(self.model), train_mode(self.model) if train else eval_mode(self.model):
                if train:
                    seed = random.SystemRandom().getrandbits(32)
                    torch.manual_seed(seed)
                    np.random.seed(seed)
                self.model.task.loss(self.model, batch)
        except _ReachedError:
            pass
        finally:
            np.random.set_state(drawn)
            for handle in handles:
                handle.remove()
        return [caught[tap.module] for tap in self.cut.taps]

    def record(self, batch: Batch) -> list[list[Tensor]]:
        """Return for each example the outputs to store, `(time, units)` for each cached module, without padding."""
        made, tokens = [], self._tokens(batch.examples)
        for tap, whole in zip(self.cut.taps, self._pass(batch), strict=True):
            whole = whole if tap.axis == 1 else whole.transpose(1, 2)
            steps = (
                [whole.shape[1]] * len(whole) if tap.steps is None else tap.steps(batch.lengths.cpu(), tokens).tolist()
            )
            made.append([own[:count].cpu() for own, count in zip(whole, steps, strict=True)])
        return [list(parts) for parts in zip(*made, strict=True)]

    def _tokens(self, examples: Sequence[Example]) -> Tensor:
        if not isinstance(self.model, DecoderModel) or not any(tap.written for tap in self.cut.taps):
            return torch.zeros(len(examples), dtype=torch.long)
        return torch.tensor([len(self.model.training_target(example, 0)) for example in examples])

    def nbytes(self, examples: Sequence[Example], lengths: Sequence[int]) -> int:
        """Return the size in bytes of the outputs for examples of these lengths (in samples or tokens)."""
        total, tokens, inputs = 0, self._tokens(examples), torch.tensor(lengths)
        for tap, steps, width, dtype in zip(self.cut.taps, self.steps, self.widths, self.dtypes, strict=True):
            count = steps * len(examples) if tap.steps is None else int(tap.steps(inputs, tokens).sum())
            total += count * width * dtype.itemsize
        return total

    @contextmanager
    def replayed(self, stored: Sequence[Tensor] | None, generating: bool = False) -> Iterator[None]:
        """Replace the prefix by its stored outputs within a `with` block.

        Args:
            stored: The outputs `(batch, time, units)` of each cached module; None runs the prefix.
            generating: Whether the decoder generates without a reference. Then only the encoder's outputs are replaced.

        Raises:
            RuntimeError: a parameter of the prefix is trainable, so the stored outputs may be out of date.
        """
        if any(parameter.requires_grad for parameter in self._below):
            raise RuntimeError(
                f"A weight in the layers up to '{self.cut.last}' is trainable now, so stored outputs are out of date."
            )
        with ExitStack() as stack:
            for tap, tensor in zip(self.cut.taps, stored or (), strict=stored is not None):
                if generating and tap.written:
                    continue
                for name, stub in tap.stubs.items():
                    stack.enter_context(_forward(self.model.get_submodule(name), self._stub(name, stub, tensor)))
                output = tensor if tap.axis == 1 else tensor.transpose(1, 2).contiguous()
                replay = self._like(tap.module, output)
                stack.enter_context(_forward(self.model.get_submodule(tap.module), lambda *_, out=replay, **__: out))
            yield

    def _stub(self, name: str, stub: Any, stored: Tensor) -> Callable[..., Any]:
        if callable(stub):
            return stub
        if stub == "same":
            return lambda x, *_, **__: self._like(name, x)
        shape = list(self._outputs[name][0])
        shape[0], shape[stub] = stored.shape[:2]
        return lambda *_, **__: self._like(name, stored.new_zeros(shape))

    def _like(self, name: str, first: Tensor) -> Any:
        count = self._outputs[name][1]
        return first if count is None else (first, *[None] * (count - 1))


@contextmanager
def _forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before
