"""Where a model can be cut in two, to store the output of its lower part and replay it (`adapt/training/prefix.py`)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

# What replaces a module in a replay. It returns the module's input ("same"), an empty tensor with time on axis 1 or 2,
# or the result of a function of the module's arguments.
Stub = Literal["same", 1, 2] | Callable[..., Any]


@dataclass(frozen=True)
class CachedOutput:
    """A module whose output is stored. If it returns several values, only the first is stored.

    Args:
        module: The module's name.
        steps: `steps(lengths, tokens)` returns the number of valid steps of each example, `(batch,)`; only these
            are stored. None stores all steps (for Whisper, its whole 30 s window).
        stubs: By name of each module before this one: what replaces it during a replay.
        axis: The axis of time.
        written: Whether the output depends on the reference text. Decoding with `generate` then cannot use it.
    """

    module: str
    steps: Callable[[Tensor, Tensor], Tensor] | None
    stubs: Mapping[str, Stub] = field(default_factory=dict)
    axis: Literal[1, 2] = 1
    written: bool = False


@dataclass(frozen=True)
class Cut:
    """A cut after a layer: everything that the layers above receive from the layers up to it.

    Args:
        last: The name of the last layer below the cut. It and the layers before it must be frozen.
        taps: The outputs to store: a single one, or the encoder's output and one of the decoder.
        inside: Modules that contain the stored part and would be random in train mode, each with a description of what
            is random. They must be in eval mode.
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
    """Return the cuts of a stack of transformer layers, one after each layer.

    Args:
        blocks: The names of the layers; each passes a single tensor to the next.
        end: The norm after the last layer, if there is one; the last cut is after it.
        steps: See `CachedOutput`.
        inside: See `Cut`.
        stubs: What replaces the modules before the first layer.
        written: See `CachedOutput`.
    """
    before: dict[str, Stub] = dict(stubs or {})
    cuts = []
    for block in blocks:
        tapped = end if end is not None and block == blocks[-1] else block
        if tapped == end:
            before[block] = "same"
        cuts.append(Cut(block, (CachedOutput(tapped, steps, dict(before), written=written),), inside))
        before[block] = "same"
    return cuts


def decoder_cuts(encoder: Sequence[Cut], decoder: Sequence[Cut]) -> list[Cut]:
    """Return the cuts of an encoder followed by those of a decoder.

    A cut in the decoder also stores the encoder's output, because all of the decoder's layers attend to it.
    """
    end = encoder[-1]
    both = [Cut(cut.last, (*end.taps, *cut.taps), {**end.inside, **cut.inside}) for cut in decoder]
    return [*encoder, *both]


def lengths_of(lengths: Tensor, tokens: Tensor) -> Tensor:
    """Return the number of valid steps `(batch,)` in an encoder that reads tokens."""
    return lengths


def tokens_of(lengths: Tensor, tokens: Tensor) -> Tensor:
    """Return the number of valid steps `(batch,)` in a decoder."""
    return tokens
