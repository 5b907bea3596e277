"""Profiles of whole windows, aligned in time: what a neuron does before, at and behind a letter or a phoneme.

As Krug et al. have it (2018, 2021): the audio around each group is cut out, so that there is one output to explain; at
each layer it is shifted until the step on whose neurons that output depends most, by the mean size of their gradients,
stands in the middle (zeros come in at one end, and what leaves at the other is lost); and then windows are averaged.
Each window is a forward and a backward pass of its own, so that this takes some twenty times as long as profiles of
single steps (`adapt.introspect.profiles.read`) do.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Batch, Loader
from adapt.errors import InputError
from adapt.introspect.profiles.groups import NONE, ForwardTrace, Grouping
from adapt.introspect.profiles.profiles import Profiles, fold_of
from adapt.introspect.profiles.read import batches_of, check_finite, forward, group_names
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
    """The profiles of windows of so many `seconds`, one around the middle of each run of steps that are in one group.

    Runs are those of the first of `groups` that is not all steps; in which other groups a window is, its middle says.
    `seconds` is best what one output step hears (1.94 for Wav2Letter). Sums have a number for each step of a window, so
    that more than one of the `folds`, and with it an error bar, takes as many times the memory.

    Raises:
        InputError: the model is none for CTC, or a window is too short for it.
    """
    if isinstance(model, DecoderModel):
        raise InputError("measure.window cuts windows from what a CTC model hears; leave it out for this one.")
    sites = list(model.sites if sites is None else sites)
    if len(groups) < 2:
        raise InputError("measure.window takes windows around groups: name at least one key in measure.groups.")
    samples = round(seconds * model.sample_rate)
    reason = model.rejection_reason(examples[0], samples, False) if samples > 0 else "is no time"
    if reason is not None:
        raise InputError(f"measure.window={seconds}: {reason}")
    lengths = {site.name: int(model.valid_lengths(site, torch.tensor([samples]))) for site in sites}
    device = next(model.parameters()).device
    profiles = Profiles(sites, group_names(groups), folds, lengths).to(device)
    most = max(1, int(loader.batch_seconds / seconds)) if model.batched else 1
    with eval_mode(model):
        for numbers, batch in batches_of(model, examples, loader, "windows"):
            with torch.no_grad():
                seen, _ = forward(model, batch, numbers)
            cut = list(_windows(seen, groups, samples))
            for first in range(0, len(cut), most):
                rows, audio, members = zip(*cut[first : first + most], strict=True)
                _add(model, profiles, batch, rows, torch.stack(audio), torch.stack(members).to(device))
    check_finite(profiles)
    return profiles.all_reduce().to("cpu")


def _windows(seen: ForwardTrace, groups: Sequence[Grouping], samples: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each window of a batch: its row, its audio `(samples,)`, and which groups it is in, `(groups,)`."""
    for row, steps in enumerate(seen.lengths):
        labels = [grouping.label(seen, seen.out, row, steps) for grouping in groups]
        if labels[1] is None:
            continue
        times, length = seen.times(seen.out, row, steps), int(seen.batch.lengths[row])
        for middle in _middles(labels[1].tolist()):
            members = []
            for grouping, own in zip(groups, labels, strict=True):
                inside = torch.zeros(len(grouping.names))
                if own is not None and own[middle] != NONE:
                    inside[own[middle]] = 1
                members.append(inside)
            start = round(float(times[middle]) * seen.model.sample_rate) - samples // 2
            audio = seen.batch.inputs.new_zeros(samples)
            low, high = max(0, start), min(length, start + samples)
            audio[low - start : high - start] = seen.batch.inputs[row, low:high]
            yield row, audio, torch.cat(members)


def _middles(labels: Sequence[int]) -> Iterator[int]:
    """The middle step of each run of equal labels."""
    first = 0
    for place in range(1, len(labels) + 1):
        if place == len(labels) or labels[place] != labels[first]:
            if labels[first] != NONE:
                yield (first + place - 1) // 2
            first = place


def _add(model: Model, profiles: Profiles, batch: Batch, rows: Sequence[int], audio: Tensor, members: Tensor) -> None:
    examples = [batch.examples[row] for row in rows]
    folds = torch.tensor([fold_of(example, profiles.folds) for example in examples], device=audio.device)
    lengths = torch.full((len(rows),), audio.shape[1], device=audio.device)

    def add(site: Site, x: Tensor, gradient: Tensor) -> None:
        profiles.update_windows(site, members, folds, *align(x, gradient))

    with capture_gradients(model, profiles.sites, add):
        _, score = forward(model, Batch(audio, lengths, examples), rows, middle=True)
        score.backward()


def align(x: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Shift activations and gradients `(windows, time, units)` in time, so that the step that matters most, by the mean
    size of its gradients, comes to `time // 2`. Windows whose steps all matter alike stay as they are.
    """
    time = x.shape[1]
    saliency = gradient.abs().mean(-1)
    peak = saliency.argmax(1)
    peak = peak.where(saliency.amax(1) > saliency.amin(1), time // 2)
    place = torch.arange(time, device=x.device) + (peak - time // 2).unsqueeze(1)  # where each step comes from
    there = ((place >= 0) & (place < time)).unsqueeze(-1)
    place = place.clamp(0, time - 1).unsqueeze(-1).expand_as(x)
    return x.gather(1, place).where(there, 0), gradient.gather(1, place).where(there, 0)
