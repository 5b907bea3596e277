"""Make a correction: find the change that it needs, add it to a memory, and check that free decoding is correct."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from interventions.corrections.collection import Entry
from interventions.corrections.layer import layer_inputs, rms
from interventions.corrections.memory import Memory
from interventions.corrections.search import Change, Search, find_change
from interventions.intervene import intervene

_MORE_RESIDUAL = 3.0  # factor by which `residual_scale` grows after a search that found no change


@dataclass(frozen=True, eq=False)
class CorrectionResult:
    """The result of `correct`.

    Args:
        entry: the entry that was added to the memory; None if the correction failed.
        fixed: whether free decoding now gives the corrected text.
        change: the result of the last search.
        rounds: number of searches.
        size: root mean square of the change over the time steps that it touches, in units of the layer's output scale.
    """

    entry: Entry | None
    fixed: bool
    change: Change
    rounds: int
    size: float


@torch.inference_mode(False)
@torch.enable_grad()
def correct(
    model: nn.Module,
    memory: Memory,
    number: int,
    loss: Callable[[], Tensor],
    is_correct: Callable[[], bool],
    steps: int | None = None,
    search: Search | None = None,
) -> CorrectionResult:
    """Add a correction of one example to a memory. If it fails, the memory is left unchanged.

    Args:
        model: the model, without the memory applied.
        memory: the memory.
        number: an unused number for the correction.
        loss: runs the model on the example and returns the loss of the corrected text.
        is_correct: decodes the example freely and returns whether the corrected text results.
        steps: number of valid time steps at the layer; None: all.
        search: settings of the search; None: the defaults.
    """
    search = search or Search()
    if search.rounds < 1:
        raise ValueError(f"Expected at least one round, got rounds={search.rounds}.")
    layer = memory.protected.layer
    with layer_inputs(model, layer) as collected, torch.no_grad():
        loss()
    (inputs,) = collected
    inputs = inputs[0].float().cpu()
    if steps is not None:
        inputs = inputs[: layer.needed(steps)]
    total = len(layer.keys(inputs)) if steps is None else steps
    mapped, in_weights = (outputs[:total] for outputs in memory.mapped(inputs))
    before = in_weights + memory.change(inputs)[:total]
    scale, margin, residual_scale = memory.protected.output_scale, search.margin, search.residual_scale
    change: Change | None = None
    for attempt in range(1, search.rounds + 1):
        subspace, settings = memory.subspace(inputs, total, residual_scale), replace(search, margin=margin)
        change = find_change(model, layer.site, subspace, scale, loss, is_correct, settings, [memory])
        if not change.correct:
            residual_scale *= _MORE_RESIDUAL  # leave more to the codebook
            continue
        memory.add(number, memory.entry(inputs, before + change.values, mapped + change.targets))
        fixed = False
        try:
            with intervene(model, memory), torch.no_grad():
                fixed = is_correct()
        finally:
            entry = memory.entries[number] if fixed else memory.remove(number)
        if fixed:
            size = float(rms(change.values[change.touched])) / scale if change.touched.any() else 0.0
            return CorrectionResult(entry, True, change, attempt, size)
        margin = search.margin / (attempt + 1)
    assert change is not None  # there was at least one round
    return CorrectionResult(None, False, change, search.rounds, 0.0)
