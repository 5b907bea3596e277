"""Where a model can be cut in two, so that what its lower part put out is stored and replayed (`adapt/training/prefix.py`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

# What stands for a module that is not run: what it was given, an empty tensor with time on axis 1 or 2, or the result
# of a function of what it was given.
Stub = Literal["same", 1, 2] | Callable[..., Any]


@dataclass(frozen=True)
class CachedOutput:
    """A module whose output is stored, with time on `axis`; of several outputs, the first.

    `steps(lengths, tokens)` says how many time steps are each example's own, `(batch,)`; the others are stored as
    little as padding is. None: all count, as in Whisper's window. `stubs` are the modules that need not run where it is
    replayed, those before the tap. `written` says that it follows a right answer, which `generate` has none of.
    """

    module: str
    steps: Callable[[Tensor, Tensor], Tensor] | None
    stubs: Mapping[str, Stub] = field(default_factory=dict)
    axis: Literal[1, 2] = 1
    written: bool = False


@dataclass(frozen=True)
class Cut:
    """All that the layers above `last` are given of the layers up to it: a tap, or an encoder's and a decoder's.

    `last` is a layer's name, and no layer up to it may train. `inside` are the modules that run what lies below, or do
    something to it; they must be in eval mode, for each names what is random there in train mode.
    """

    last: str
    taps: tuple[CachedOutput, ...]
    inside: Mapping[str, str] = field(default_factory=dict)


def stack_cuts(
    blocks: Sequence[str],
    end: str | None,
    steps: Callable[[Tensor, Tensor], Tensor] | None,
    inside: Mapping[str, str],
    stubs: Mapping[str, Stub] | None = None,
    written: bool = False,
) -> list[Cut]:
    """The cuts of a stack of transformer layers that hand each other one tensor: behind each of `blocks`, the last of
    them behind the norm `end` where there is one. `stubs` are the modules before the blocks; the others are as in
    `CachedOutput` and `Cut`.
    """
    before, cuts = dict(stubs or {}), []
    for block in blocks:
        tapped = end if end is not None and block == blocks[-1] else block
        before |= {block: "same"} if tapped == end else {}
        cuts.append(Cut(block, (CachedOutput(tapped, steps, dict(before), written=written),), inside))
        before[block] = "same"
    return cuts


def decoder_cuts(heard: Sequence[Cut], written: Sequence[Cut]) -> list[Cut]:
    """The cuts of an encoder and a decoder: those of `heard`, and those of `written`, where what the encoder put out is
    stored as well, for all of the decoder's layers look at it.
    """
    end = heard[-1]
    both = [Cut(cut.last, (*end.taps, *cut.taps), {**end.inside, **cut.inside}) for cut in written]
    return [*heard, *both]


def lengths_of(lengths: Tensor, tokens: Tensor) -> Tensor:
    """The steps of an encoder that reads tokens."""
    return lengths


def tokens_of(lengths: Tensor, tokens: Tensor) -> Tensor:
    """The steps of a decoder."""
    return tokens
