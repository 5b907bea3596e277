"""Profile a corpus: one forward and one backward pass per batch give the sums of all sites.

    groups = groupings(model, examples, ["phoneme", "accent"])
    profiles = read_profiles(model, examples, loader, groups)

The score that is differentiated (`y` in `adapt.introspect.profiles.profiles`) is the logit of the unit that the model
writes at each output step, summed over the steps of each example. The gradient at a step thus shows how much the whole
output depends on it. A decoder reads the references, as in training.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import cast

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Batch, Loader
from adapt.distributed import rank_and_size
from adapt.introspect.activations import loader_of, valid_lengths
from adapt.introspect.profiles.fitter import Membership, ProfilesFitter, fold_of
from adapt.introspect.profiles.groups import NONE, Grouping
from adapt.introspect.profiles.profiles import ALL, FOLDS, Profiles
from adapt.introspect.profiles.trace import ForwardTrace, TimeBase, time_base_of
from adapt.models.batch_memory import keep_within_memory
from adapt.models.inference import eval_mode
from adapt.models.model import DecoderModel, Model
from adapt.models.seq2seq import IGNORED, references
from adapt.progress import track
from interventions.gradients import capture_gradients
from interventions.hooks import module_at, units_last
from interventions.sites import Site, length_mask


def read_profiles(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    groups: Sequence[Grouping],
    sites: Sequence[Site] | None = None,
    folds: int = FOLDS,
) -> Profiles:
    """Profile a model over examples.

    Memory is needed for the sums and one batch. Under `torch.distributed`, each process reads its share of the
    examples, and all return the profiles of all.

    Args:
        model: The model.
        examples: Examples that the model can read.
        loader: Makes the batches.
        groups: The groupings of steps.
        sites: The sites to profile; None for all of `model.sites`.
        folds: The number of folds, for error bars.

    Raises:
        ValueError: An activation or a gradient is not finite.
    """
    sites = list(model.sites if sites is None else sites)
    fitter = ProfilesFitter(sites, group_names(groups), folds).to(next(model.parameters()).device)
    with eval_mode(model):
        for numbers, batch in batches_of(model, examples, loader, "profiles"):
            add_batch(fitter, model, groups, batch, numbers)
    check_finite(fitter.sums)
    return fitter.all_reduce().fit()


def add_batch(
    fitter: ProfilesFitter, model: Model, groups: Sequence[Grouping], batch: Batch, numbers: Sequence[int]
) -> None:
    """Add a batch to profiles. The model must be in eval mode.

    Args:
        fitter: Gathers the profiles of these groups.
        model: The model.
        groups: The groupings of steps.
        batch: The batch, on the device of the model.
        numbers: The position of each example of the batch among all examples.
    """
    add = _BatchAdder(fitter, model, groups, batch)
    with capture_gradients(model, fitter.sites, add):
        add.trace, score = forward(model, batch, numbers)
        score.backward()


class _BatchAdder:
    """Adds the activations and gradients of a batch to profiles. `trace` is set after the forward pass."""

    trace: ForwardTrace

    def __init__(self, fitter: ProfilesFitter, model: Model, groups: Sequence[Grouping], batch: Batch) -> None:
        self.fitter, self.model, self.groups = fitter, model, groups
        self.steps = valid_lengths(model, batch)
        folds = [fold_of(example, fitter.folds) for example in batch.examples]
        self.folds = torch.tensor(folds, device=batch.inputs.device)
        self._members: dict[tuple[TimeBase, int], Membership] = {}  # shared by sites with the same steps

    def __call__(self, site: Site, x: Tensor, gradient: Tensor) -> None:
        key = (time_base_of(self.model, site), x.shape[1])
        if key not in self._members:
            members = membership(self.groups, self.trace, key[0], self.steps(site).tolist(), x.shape[1])
            self._members[key] = self.fitter.membership(members.to(x.device), self.folds)
        self.fitter.update(site, self._members[key], x, gradient)


def group_names(groups: Sequence[Grouping]) -> list[str]:
    """Return the names of groups in profiles: `key:name`, and `all`."""
    return [ALL if grouping.key == ALL else f"{grouping.key}:{name}" for grouping in groups for name in grouping.names]


def membership(
    groups: Sequence[Grouping], trace: ForwardTrace, time_base: TimeBase, steps: Sequence[int], time: int
) -> Tensor:
    """Return which groups each step of a batch is in.

    Args:
        groups: The groupings of steps.
        trace: The forward pass over the batch.
        time_base: The time base of the site.
        steps: The number of valid steps of each example, `(batch,)`.
        time: The number of steps with padding.

    Returns:
        `(batch, groups, time)`: 1 for a step in a group, else 0; 0 in padding.
    """
    valid = length_mask(torch.tensor(steps), time)
    members = torch.zeros(len(steps), len(group_names(groups)), time)
    first = 0
    for grouping in groups:
        rows = [grouping.label(trace, time_base, row, count) for row, count in enumerate(steps)]
        known = [torch.full((count,), NONE) if one is None else one for one, count in zip(rows, steps, strict=True)]
        labels = torch.full((len(steps), 1, time), NONE)
        labels[:, 0][valid] = torch.cat(known)
        labelled = labels != NONE
        # A step without a label writes a 0 to the first group, where there is a 0 already.
        members.scatter_(1, first + labels.clamp_min(0), labelled.to(members))
        first += len(grouping.names)
    return members


def forward(
    model: Model, batch: Batch, numbers: Sequence[int], middle_only: bool = False
) -> tuple[ForwardTrace, Tensor]:
    """Run a batch.

    Args:
        model: The model, in eval mode.
        batch: The batch, on the device of the model.
        numbers: The position of each example of the batch among all examples.
        middle_only: Score only the middle output step of each example.

    Returns:
        The trace, and the score to differentiate: a scalar, summed over the valid output steps.
    """
    if isinstance(model, DecoderModel):
        targets = references(model, batch.examples).to(batch.inputs.device)
        scores, log_probs = model(batch.inputs, batch.lengths, targets), None
        valid = targets != IGNORED
        lengths = valid.sum(1)
    else:
        with _logits(model) as logits:
            log_probs, lengths = model(batch.inputs, batch.lengths)
        (scores,) = logits
        valid = length_mask(lengths, log_probs.shape[1])
        # The trace must not hold the graph: its hooks hold the trace, and neither would ever be freed.
        log_probs = log_probs.detach()
    if middle_only:
        valid = torch.arange(valid.shape[1], device=valid.device) == lengths.unsqueeze(1) // 2
    path = (scores.detach() if log_probs is None else log_probs).argmax(-1)
    score = scores.gather(-1, path.unsqueeze(-1)).squeeze(-1)[valid].sum()
    return ForwardTrace(model, batch, numbers, path.cpu(), lengths.tolist(), log_probs), score


@contextmanager
def _logits(model: Model) -> Iterator[list[Tensor]]:
    # The output of the last layer, before the softmax, `(batch, steps, units)`, with its graph.
    logits: list[Tensor] = []
    site = model.sites[-1]
    handle = module_at(model, site).register_forward_hook(
        lambda module, inputs, output: logits.append(units_last(output, site))
    )
    try:
        yield logits
    finally:
        handle.remove()


def batches_of(
    model: Model, examples: Sequence[Example], loader: Loader, what: str
) -> Iterator[tuple[list[int], Batch]]:
    """Yield the batches of this process on the device of the model, each with the positions of its examples.

    Args:
        model: The model.
        examples: The examples of all processes.
        loader: Makes the batches.
        what: The label of the progress bar.
    """
    rank, ranks = rank_and_size()
    share = range(rank, len(examples), ranks)
    if not share:
        return
    read = [examples[number] for number in share]
    bounded = keep_within_memory(model, read, loader_of(model, loader), trains=False)
    batches = bounded.evaluation(read, model.reader)
    # By position: worker processes return copies of the examples.
    sampler = cast(Iterable[list[tuple[int, float]]], batches.batch_sampler)
    numbers = [[share[number] for number, _ in batch] for batch in sampler]
    device = next(model.parameters()).device
    with closing(track(batches, what)) as tracked:
        for places, batch in zip(numbers, tracked, strict=True):
            yield places, batch.to(device)


def check_finite(sums: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Raise ValueError, with the name of the site, if a sum is not finite."""
    for site, totals in sums.items():
        for name, total in totals.items():
            if not total.isfinite().all():
                raise ValueError(
                    f"'{site}': the sum of {name} is not finite. The model has infinite or undefined activations or "
                    "gradients there. If it is a 16-bit model, profile it in 32 bits."
                )
