"""Scopes: the generation steps, positions, seconds and examples of a batch that an intervention edits."""

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interventions.sites import Site

Range = tuple[float, float | None]  # [first, second); None: unbounded
PROMPT = (0, 1)  # the call of `generate` that reads the prompt
GENERATED = (1, None)  # the calls that read generated tokens


class StepContext(threading.local):
    """The generation step and position of a call, which the hooks keep up to date, in each thread on its own.

    Attributes:
        step: 0 in a plain forward pass and in the call of `generate` that reads the prompt, then 1, 2, ... in later
            calls.
        position: position in the sequence of the call's first time step, which equals the length of the cache.
        cached: whether there is a cache, so that a call sees only a part of the sequence.
        inputs: the arguments of the site's module, for interventions with `reads_inputs`; otherwise None.
        reached: the sites that have run in this call, for the hooks.
        calls, tokens: the step and the tokens of the call before, for the hooks.

    An encoder, which runs once, has step 0 and position 0.
    """

    # The values in a thread that has not set others.
    _step: int | None = 0
    position: int = 0
    cached: bool = False
    inputs: Any = None
    calls: int = 0
    tokens: Tensor | None = None

    def __init__(self) -> None:  # called in each thread
        self.reached: set[Any] = set()

    def set(self, step: int | None, position: int, cached: bool) -> None:
        """Set the state for the next call. A step of None means that it is unknown."""
        self._step, self.position, self.cached = step, position, cached

    @property
    def step(self) -> int:
        """The generation step. Raises ValueError if it is unknown."""
        if self._step is None:
            raise ValueError(
                "Generation steps can only be counted with a cache, but use_cache is False. Generate with "
                "use_cache=True, or scope by positions."
            )
        return self._step


@dataclass(frozen=True)
class Scope:
    """The part of the activations `(batch, time, units)` that an intervention edits; by default all of them.

    Ranges are pairs (first, end), the end excluded; None as the end means unbounded.

    Args:
        steps: range of calls of `generate`: `PROMPT` is the first call, which reads the prompt, `GENERATED` the others.
        positions: range on the time axis, counted from the start of the sequence, with or without a cache.
        seconds: range of seconds, at sites whose `step` is measured in seconds; selects the positions that start within
            it.
        examples: numbers of examples within a batch.
        batch: number of examples in a batch, required with `examples`.
        beams: how often `generate` repeats each example in a decoder (beams, or several returned sequences). Any other
            number of rows is an error, so that examples cannot be mistaken for each other.

    Raises:
        ValueError: If a range is empty, or `examples` is given without `batch`.
    """

    steps: tuple[int, int | None] | None = None
    positions: tuple[int, int | None] | None = None
    seconds: Range | None = None
    examples: tuple[int, ...] | None = None
    batch: int | None = None
    beams: int = 1

    def __post_init__(self) -> None:
        for name, whole in (("steps", True), ("positions", True), ("seconds", False)):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, _checked_range(name, given, whole))
        if self.positions is not None and self.seconds is not None:
            raise ValueError("Give positions or seconds, not both.")
        if (self.examples is None) != (self.batch is None) or self.beams < 1:
            raise ValueError(
                "examples needs batch, the number of examples that the model runs on at once, and beams must be at "
                f"least 1; got examples={self.examples}, batch={self.batch}, beams={self.beams}."
            )
        if self.examples is not None and self.batch is not None:
            object.__setattr__(self, "examples", tuple(self.examples))
            if not self.examples or not all(0 <= number < self.batch for number in self.examples):
                raise ValueError(f"examples must be numbers from 0 to {self.batch - 1}, got {self.examples}.")

    @property
    def everything(self) -> bool:
        """Whether the scope is unlimited."""
        return self.steps is None and self.positions is None and self.seconds is None and self.examples is None

    @property
    def timed(self) -> bool:
        """Whether the scope depends on the step or the position of a call."""
        return self.steps is not None or self.positions is not None or self.seconds is not None

    def at(self, site: Site) -> Callable[[Tensor, StepContext], Tensor | bool]:
        """Return the function that computes which part of an activation at `site`, units last, is within the scope.

        The function returns True (all), False (nothing), or a bool mask that broadcasts against `(batch, time, 1)`.

        Raises:
            ValueError: If the scope has seconds, and the site's steps are tokens or of unknown duration.
        """
        start, stop = self._positions(site)
        masks: dict[int, Tensor] = {}

        def within(x: Tensor, context: StepContext) -> Tensor | bool:
            if self.steps is not None and not _contains(self.steps, context.step):
                return False
            mask = None
            if start > 0 or stop is not None:
                if x.dim() < 3:
                    raise ValueError(f"'{site.name}' has no time axis: its activations are {tuple(x.shape)}.")
                first, last = start - context.position, x.shape[1] if stop is None else stop - context.position
                if last <= 0 or first >= x.shape[1]:
                    return False
                if first > 0 or last < x.shape[1]:
                    places = torch.arange(x.shape[1], device=x.device)
                    mask = ((places >= first) & (places < last)).view(1, -1, *[1] * (x.dim() - 2))
            if self.examples is not None and self.batch is not None:
                if x.shape[0] not in masks:
                    with torch.inference_mode(False):
                        masks[x.shape[0]] = self._example_mask(site, x.shape[0], self.examples, self.batch)
                chosen = masks[x.shape[0]].to(x.device).view(-1, *[1] * (x.dim() - 1))
                mask = chosen if mask is None else mask & chosen
            return True if mask is None else mask

        return within

    def _positions(self, site: Site) -> tuple[int, int | None]:
        if self.seconds is None:
            return self.positions or (0, None)
        if site.step is None:
            raise ValueError(
                f"'{site.name}' cannot be edited by seconds, because the duration of its steps is unknown (Site.step). "
                "Give positions."
            )
        if site.step.unit != "s":
            raise ValueError(
                f"'{site.name}' cannot be edited by seconds, because its steps are tokens. Give positions."
            )
        length = site.step.length
        start, stop = self.seconds
        # The tolerance makes sure that rounding does not exclude a step that starts exactly at the bound.
        return math.ceil(start / length - 1e-6), None if stop is None else math.ceil(stop / length - 1e-6)

    def _example_mask(self, site: Site, rows: int, examples: tuple[int, ...], batch: int) -> Tensor:
        """Return the bool mask `(rows,)` of the chosen examples. All examples of a batch are repeated equally often."""
        repeats, remainder = divmod(rows, batch)
        if remainder or repeats not in (1, self.beams):
            expected = f"{batch}" if self.beams == 1 else f"{batch} or {batch * self.beams}"
            raise ValueError(
                f"'{site.name}' ran on {rows} rows, expected {expected} (batch={batch}, beams={self.beams}). Set the "
                "scope's batch to the number of examples in a batch, and beams to how often generate() repeats each."
            )
        chosen = torch.zeros(batch, dtype=torch.bool)
        chosen[list(examples)] = True
        return chosen.repeat_interleave(repeats)


EVERYWHERE = Scope()


def _checked_range(name: str, given: Any, whole: bool) -> Range:
    start, stop = given
    numbers = [number for number in (start, stop) if number is not None]
    kinds = int if whole else (int, float)
    valid = all(isinstance(number, kinds) and not isinstance(number, bool) for number in numbers)
    if start is None or not valid or start < 0 or (stop is not None and not stop > start):
        kind = "whole numbers" if whole else "numbers"
        raise ValueError(
            f"{name} must be a pair (first, end) of {kind}, the first at least 0 and the end above it, or None for no "
            f"end; got {given!r}."
        )
    return start, stop


def _contains(span: Range, number: float) -> bool:
    return number >= span[0] and (span[1] is None or number < span[1])
