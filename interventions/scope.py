"""When: the generation steps, positions, seconds and examples of a batch that an intervention edits."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from interventions.sites import Site

Range = tuple[float, float | None]  # from the first to before the second; None: to the end
PROMPT = (0, 1)  # the steps of a `generate` that read what the model was given
GENERATED = (1, None)  # those that read what it has written


class StepContext:
    """Where in a generation a call stands, as the hooks keep count of it.

    `step` is 0 in a plain forward pass, and in the call of `generate` that reads the prompt; then it counts the calls.
    `position` is that of the call's first time step: how many the cache holds already. `cached` says whether there is a
    cache, so that a call sees a part of the sequence only. An encoder, which runs once, is at step 0, position 0.

    `inputs` is what the site's module was called with, for interventions that ask for it (`reads_inputs`), else None.
    """

    __slots__ = ("_step", "position", "cached", "inputs")

    def __init__(self) -> None:
        self.inputs: Any = None
        self.set(0, 0, False)

    def set(self, step: int | None, position: int, cached: bool) -> None:
        """Say where the next call stands. A step of None: nobody knows."""
        self._step, self.position, self.cached = step, position, cached

    @property
    def step(self) -> int:
        """Raises ValueError where steps cannot be told apart."""
        if self._step is None:
            raise ValueError(
                "Generation steps are told apart by the cache, and there is none (use_cache=False). Generate with "
                "use_cache=True, or scope by positions."
            )
        return self._step


@dataclass(frozen=True)
class Scope:
    """What an intervention edits of the activations `(batch, time, units)` at its sites; by default all of them.

    `steps`, `positions` and `seconds` are pairs, from the first to before the second, which is None where there is no
    end. `steps` counts the calls of a `generate`: `PROMPT` is its first, which reads the prompt, `GENERATED` the rest.
    `positions` counts along the time axis, from the start of the sequence also where a cache hides it. `seconds` does
    so too, at a site whose `step` says how long a position lasts: it takes those that begin within.

    `examples` are numbers within a batch of `batch` examples. Under beams, or several answers to each, a decoder sees
    each example `beams` times in a row; any other number of rows is refused, so that none is mistaken for another.

    Raises:
        ValueError: a range is empty, or examples are given without the size of their batch.
    """

    steps: tuple[int, int | None] | None = None
    positions: tuple[int, int | None] | None = None
    seconds: Range | None = None
    examples: tuple[int, ...] | None = None
    batch: int | None = None
    beams: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "positions", "seconds"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, _range(name, given, whole=name != "seconds"))
        if self.positions is not None and self.seconds is not None:
            raise ValueError("Give positions or seconds, not both.")
        if (self.examples is None) != (self.batch is None) or self.beams < 1:
            raise ValueError(
                "examples need batch=, the number of examples that go through the model at once, and beams= of at "
                f"least 1; got examples={self.examples}, batch={self.batch}, beams={self.beams}."
            )
        if self.examples is not None:
            object.__setattr__(self, "examples", tuple(self.examples))
            if not self.examples or not all(0 <= number < self.batch for number in self.examples):
                raise ValueError(f"examples must be numbers from 0 to {self.batch - 1}, got {self.examples}.")

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self.steps is None and self.positions is None and self.seconds is None and self.examples is None

    @property
    def timed(self) -> bool:
        """Whether the moment of a call matters."""
        return self.steps is not None or self.positions is not None or self.seconds is not None

    def at(self, site: Site) -> Callable[[Tensor, StepContext], Tensor | bool]:
        """Return the function that says of an activation at `site`, units last, what is within: True (all), False
        (none), or a bool mask that broadcasts against `(batch, time, 1)`.

        Raises:
            ValueError: seconds at a site of which nobody said how long a step lasts, or whose steps are tokens.
        """
        start, stop = self._positions(site)
        rows: dict[int, Tensor] = {}

        def within(x: Tensor, now: StepContext) -> Tensor | bool:
            if self.steps is not None and not _holds(self.steps, now.step):
                return False
            mask = None
            if start > 0 or stop is not None:
                if x.dim() < 3:
                    raise ValueError(f"'{site.name}' has no time axis: its activations are {tuple(x.shape)}.")
                first, last = start - now.position, x.shape[1] if stop is None else stop - now.position
                if last <= 0 or first >= x.shape[1]:
                    return False
                if first > 0 or last < x.shape[1]:
                    along = torch.arange(x.shape[1], device=x.device)
                    mask = ((along >= first) & (along < last)).view(1, -1, *[1] * (x.dim() - 2))
            if self.examples is not None:
                if x.shape[0] not in rows:
                    with torch.inference_mode(False):
                        rows[x.shape[0]] = self._rows(site, x.shape[0])
                chosen = rows[x.shape[0]].to(x.device).view(-1, *[1] * (x.dim() - 1))
                mask = chosen if mask is None else mask & chosen
            return True if mask is None else mask

        return within

    def _positions(self, site: Site) -> tuple[int, int | None]:
        if self.seconds is None:
            return self.positions or (0, None)
        if site.step is None or site.step.unit != "s":
            lasts = "are tokens" if site.step is not None else "last nobody said how long (Site.step)"
            raise ValueError(f"'{site.name}' cannot be edited by seconds: its steps {lasts}. Give positions.")
        # A step that begins at a bound is not to fall out of the range for its last binary digit.
        start, stop = (None if at is None else math.ceil(at / site.step.length - 1e-6) for at in self.seconds)
        return start, stop

    def _rows(self, site: Site, rows: int) -> Tensor:
        times, left = divmod(rows, self.batch)
        if left or times not in (1, self.beams):
            expected = f"{self.batch}" if self.beams == 1 else f"{self.batch} or {self.batch * self.beams}"
            raise ValueError(
                f"'{site.name}' ran on {rows} rows, expected {expected}: batch={self.batch} examples, beams="
                f"{self.beams}. Say in the scope how many examples a batch has, and how often generate() repeats each."
            )
        chosen = torch.zeros(self.batch, dtype=torch.bool)
        chosen[list(self.examples)] = True
        return chosen.repeat_interleave(times)


EVERYWHERE = Scope()


def _range(name: str, given: Range, whole: bool) -> Range:
    start, stop = given
    numbers = [number for number in (start, stop) if number is not None]
    right = all(isinstance(n, int if whole else (int, float)) and not isinstance(n, bool) for n in numbers)
    if start is None or not right or start < 0 or (stop is not None and not stop > start):
        raise ValueError(
            f"{name} must be a pair (from, to) of {'whole ' * whole}numbers from 0, the second above the first or "
            f"None for no end; got {given!r}."
        )
    return start, stop


def _holds(span: Range, number: float) -> bool:
    return number >= span[0] and (span[1] is None or number < span[1])
