"""Align a text of any length with CTC output: a stretch of two minutes at a time, so that memory stays bounded."""

from collections.abc import Sequence

from torch import Tensor

from adapt.models.ctc import ctc_path, ctc_steps
from adapt.transcription.ctc_words import unit_steps

_STRETCH = 6000  # steps that are aligned at once: two minutes of 20 ms
_KEPT = 2 / 3  # the share of a stretch whose alignment counts: near its end, what follows is not known yet


def align_long(
    log_probs: Tensor, parts: Sequence[tuple[str, list[int]]], blank: int, stretch: int = _STRETCH
) -> list[tuple[int, int] | None]:
    """Return the steps of each part of a text on its most likely alignment.

    Within a stretch, the alignment may end anywhere in the text. Its first two thirds are kept, and the next stretch
    begins after the last part in them. Only the last stretch must reach the end of the text.

    Args:
        log_probs: The output of a CTC model for a whole recording, `(time, units)`.
        parts: The parts of the text with their output units (`adapt.transcription.ctc_words.units_of`).
        blank: The output unit of the blank.
        stretch: The number of steps that are aligned at once.

    Returns:
        For each part its first step and the step after its last one; None for parts at the end of the text for which
        there is no audio left.
    """
    found: list[tuple[int, int] | None] = [None] * len(parts)
    begin, first = 0, 0  # the next step and the next part
    while first < len(parts) and begin < len(log_probs):
        steps = log_probs[begin : begin + stretch]
        last = begin + stretch >= len(log_probs)
        target, until = _units(parts, first, len(steps))
        if not target:
            break
        whole = last and until == len(parts)
        path = ctc_path(steps, target, blank, whole)
        runs = unit_steps(path.tolist(), blank)
        limit = len(steps) if last else int(_KEPT * len(steps))
        place, before = 0, first
        for number in range(first, until):
            units = parts[number][1]
            own = runs[place : place + len(units)]
            place += len(units)
            if len(own) < len(units) or own[-1][1] > limit:
                break
            found[number] = begin + own[0][0], begin + own[-1][1]
            first = number + 1
        if last and first == before:
            break
        done = found[first - 1] if first > before else None
        begin = done[1] if done is not None else begin + limit
    return found


def _units(parts: Sequence[tuple[str, list[int]]], first: int, steps: int) -> tuple[list[int], int]:
    """Return the units of the parts from `first` on that `steps` steps can write, and the number of the next part."""
    target: list[int] = []
    until = first
    while until < len(parts) and ctc_steps(more := [*target, *parts[until][1]]) <= steps:
        target = more
        until += 1
    return target, until
