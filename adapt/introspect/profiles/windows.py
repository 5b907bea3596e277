"""Profiles of whole windows, aligned in time: what a neuron does before, at and after a letter or a phoneme.

After Krug et al. (2018, 2021): the audio around each group is cut out, so there is one output to explain. At each layer
the window is shifted until the step with the largest mean gradient magnitude is in the middle (zeros are shifted in at
one end, steps are lost at the other), and the shifted windows are averaged. Each window needs its own forward and
backward pass, which takes about twenty times as long as profiles of single steps (`adapt.introspect.profiles.read`).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Batch, Loader
from adapt.errors import InputError
from adapt.introspect.profiles.fitter import ProfilesFitter, fold_of
from adapt.introspect.profiles.groups import NONE, Grouping
from adapt.introspect.profiles.profiles import Profiles
from adapt.introspect.profiles.read import batches_of, check_finite, forward, group_names
from adapt.introspect.profiles.trace import ForwardTrace
from adapt.models.inference import eval_mode
from adapt.models.model import DecoderModel, Model
from interventions.gradients import capture_gradients
from interventions.sites import Site


def read_windows(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    groups: Sequence[Grouping],
    seconds: float,
    sites: Sequence[Site] | None = None,
    folds: int = 1,
) -> Profiles:
    """Profile windows around the middle of each run of steps that are in the same group.

    Args:
        model: A CTC model.
        examples: Examples that the model can read.
        loader: Makes the batches.
        groups: All steps first, then the grouping whose runs get windows. The middle step of a window decides which
            groups of the other groupings it is in.
        seconds: The length of a window; best is the receptive field of an output step (1.94 s for Wav2Letter).
        sites: The sites to profile; None for all of `model.sites`.
        folds: The number of folds, for error bars. Each has a sum for every step of a window, which takes memory.

    Raises:
        InputError: The model is not a CTC model, or the window is too short for it.
    """
    if isinstance(model, DecoderModel):
        raise InputError("Windows are cut from the audio of CTC models. Leave out the window for this model.")
    sites = list(model.sites if sites is None else sites)
    if len(groups) < 2:
        raise InputError("Windows are taken around groups: name at least one key.")
    samples = round(seconds * model.sample_rate)
    if samples < 1:
        raise InputError(f"A window must be longer than 0 s; got {seconds} s.")
    reason = model.rejection_reason(examples[0], samples, False)
    if reason is not None:
        raise InputError(f"The model cannot read a window of {seconds} s: it {reason}")
    lengths = {site.name: int(model.valid_lengths(site, torch.tensor([samples]))) for site in sites}
    device = next(model.parameters()).device
    fitter = ProfilesFitter(sites, group_names(groups), folds, lengths).to(device)
    batch_size = max(1, int(loader.bound(model.reader) / seconds)) if model.batched else 1
    with eval_mode(model):
        for numbers, batch in batches_of(model, examples, loader, "windows"):
            with torch.no_grad():
                trace, _ = forward(model, batch, numbers)
            windows = list(_windows(trace, groups, samples))
            for first in range(0, len(windows), batch_size):
                rows, audio, members = zip(*windows[first : first + batch_size], strict=True)
                _add(model, fitter, batch, rows, torch.stack(audio), torch.stack(members).to(device))
    check_finite(fitter.sums)
    return fitter.all_reduce().fit()


def _windows(trace: ForwardTrace, groups: Sequence[Grouping], samples: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the row, the audio `(samples,)` and the groups `(groups,)` (1 or 0) of each window of a batch."""
    for row, steps in enumerate(trace.lengths):
        labels = [grouping.label(trace, trace.output, row, steps) for grouping in groups]
        if labels[1] is None:
            continue
        times, length = trace.times(trace.output, row, steps), int(trace.batch.lengths[row])
        for middle in _middles(labels[1].tolist()):
            members = []
            for grouping, label in zip(groups, labels, strict=True):
                member = torch.zeros(len(grouping.names))
                if label is not None and label[middle] != NONE:
                    member[label[middle]] = 1
                members.append(member)
            start = round(float(times[middle]) * trace.model.sample_rate) - samples // 2
            audio = trace.batch.inputs.new_zeros(samples)
            low, high = max(0, start), min(length, start + samples)
            audio[low - start : high - start] = trace.batch.inputs[row, low:high]
            yield row, audio, torch.cat(members)


def _middles(labels: Sequence[int]) -> Iterator[int]:
    """Yield the middle step of each run of equal labels other than NONE."""
    first = 0
    for place in range(1, len(labels) + 1):
        if place == len(labels) or labels[place] != labels[first]:
            if labels[first] != NONE:
                yield (first + place - 1) // 2
            first = place


def _add(
    model: Model, fitter: ProfilesFitter, batch: Batch, rows: Sequence[int], audio: Tensor, members: Tensor
) -> None:
    examples = [batch.examples[row] for row in rows]
    folds = torch.tensor([fold_of(example, fitter.folds) for example in examples], device=audio.device)
    lengths = torch.full((len(rows),), audio.shape[1], device=audio.device)

    def add(site: Site, x: Tensor, gradient: Tensor) -> None:
        fitter.update_windows(site, members, folds, *align(x, gradient))

    with capture_gradients(model, fitter.sites, add):
        _, score = forward(model, Batch(audio, lengths, examples), rows, middle_only=True)
        score.backward()


def align(x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Shift windows in time so that the most salient step, by the mean absolute gradient, is at `time // 2`.

    `x` and `gradient` are `(windows, time, units)`. Windows with the same saliency at all steps are not shifted.
    """
    time = x.shape[1]
    saliency = gradient.abs().mean(-1)
    peak = saliency.argmax(1)
    peak = peak.where(saliency.amax(1) > saliency.amin(1), time // 2)
    source = torch.arange(time, device=x.device) + (peak - time // 2).unsqueeze(1)  # the step that each one comes from
    inside = ((source >= 0) & (source < time)).unsqueeze(-1)
    source = source.clamp(0, time - 1).unsqueeze(-1).expand_as(x)
    return x.gather(1, source).where(inside, 0), gradient.gather(1, source).where(inside, 0)
