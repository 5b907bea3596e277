"""Profiles of a corpus: one forward and one backward pass a batch give the sums of every site.

    groups = groupings(model, examples, ["phoneme", "accent"])
    profiles = read_profiles(model, examples, loader, groups)

What is differentiated is the score, before the softmax, of the unit that the model writes at each output step, summed
over the steps of each example: `y` of `adapt.introspect.profiles.profiles`. A step's gradient is thus how much all that is
written would change with it. A decoder reads the references, as in training.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Batch, Loader
from adapt.distributed import rank_and_size
from adapt.introspect.activations import loader_of, valid_lengths
from adapt.introspect.profiles.groups import NONE, Clock, ForwardTrace, Grouping, clock_of
from adapt.introspect.profiles.profiles import ALL, FOLDS, Membership, Profiles, fold_of
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
    """The profiles of the sites (None: all of `model.sites`) over examples that the model can read.

    Memory is the sums' and one batch's. Where `torch.distributed` runs, each process reads its share of the examples,
    and all return the whole.

    Raises:
        ValueError: an activation or a gradient is not finite.
    """
    sites = list(model.sites if sites is None else sites)
    profiles = Profiles(sites, group_names(groups), folds).to(next(model.parameters()).device)
    with eval_mode(model):
        for numbers, batch in batches_of(model, examples, loader, "profiles"):
            add_batch(profiles, model, groups, batch, numbers)
    check_finite(profiles)
    return profiles.all_reduce().to("cpu")


def add_batch(
    profiles: Profiles, model: Model, groups: Sequence[Grouping], batch: Batch, numbers: Sequence[int]
) -> None:
    """Add a batch to profiles of these groups; `numbers` are its examples' among all. The model is in eval mode."""
    add = _Adding(profiles, model, groups, batch)
    with capture_gradients(model, profiles.sites, add):
        add.seen, score = forward(model, batch, numbers)
        score.backward()


class _Adding:
    """Adds a batch's activations and gradients to profiles; `seen` is there once the forward pass has run."""

    def __init__(self, profiles: Profiles, model: Model, groups: Sequence[Grouping], batch: Batch) -> None:
        self.profiles, self.model, self.groups = profiles, model, groups
        self.steps = valid_lengths(model, batch)
        folds = [fold_of(example, profiles.folds) for example in batch.examples]
        self.folds = torch.tensor(folds, device=batch.inputs.device)
        self.seen: ForwardTrace | None = None
        self._members: dict[tuple[Clock, int], Membership] = {}  # sites of one clock share it

    def __call__(self, site: Site, x: Tensor, gradient: Tensor) -> None:
        key = (clock_of(self.model, site), x.shape[1])
        if key not in self._members:
            members = membership(self.groups, self.seen, key[0], self.steps(site).tolist(), x.shape[1])
            self._members[key] = self.profiles.membership(members.to(x.device), self.folds)
        self.profiles.update(site, self._members[key], x, gradient)


def group_names(groups: Sequence[Grouping]) -> list[str]:
    """What profiles call the groups: `key:name`, and `all`."""
    return [ALL if grouping.key == ALL else f"{grouping.key}:{name}" for grouping in groups for name in grouping.names]


def membership(groups: Sequence[Grouping], seen: ForwardTrace, clock: Clock, steps: Sequence[int], time: int) -> Tensor:
    """Which groups each step of a batch is in: `(batch, groups, time)`, 1 or 0; 0 behind each example's own `steps`."""
    own = length_mask(torch.tensor(steps), time)
    members = torch.zeros(len(steps), len(group_names(groups)), time)
    first = 0
    for grouping in groups:
        found = [grouping.label(seen, clock, row, count) for row, count in enumerate(steps)]
        known = [torch.full((count,), NONE) if one is None else one for one, count in zip(found, steps, strict=True)]
        labels = torch.full((len(steps), 1, time), NONE)
        labels[:, 0][own] = torch.cat(known)
        inside = labels != NONE
        # A step in none of them writes a 0 to the first, where there is one already.
        members.scatter_(1, first + labels.clamp_min(0), inside.to(members))
        first += len(grouping.names)
    return members


def forward(model: Model, batch: Batch, numbers: Sequence[int], middle: bool = False) -> tuple[ForwardTrace, Tensor]:
    """Run a batch. Returns what it shows, and the score to differentiate: a scalar, summed over own output steps, or of
    each example the `middle` one.
    """
    if isinstance(model, DecoderModel):
        targets = references(model, batch.examples).to(batch.inputs.device)
        scores, log_probs = model(batch.inputs, batch.lengths, targets), None
        own = targets != IGNORED
        lengths = own.sum(1)
    else:
        with _output(model) as out:
            log_probs, lengths = model(batch.inputs, batch.lengths)
        (scores,) = out
        own = length_mask(lengths, log_probs.shape[1])
    if middle:
        own = torch.arange(own.shape[1], device=own.device) == lengths.unsqueeze(1) // 2
    # Without its graph, which holds the hooks on it, these what is seen, and so each other's memory for good.
    log_probs = None if log_probs is None else log_probs.detach()
    path = (scores.detach() if log_probs is None else log_probs).argmax(-1)
    score = scores.gather(-1, path.unsqueeze(-1)).squeeze(-1)[own].sum()
    return ForwardTrace(model, batch, numbers, path.cpu(), lengths.tolist(), log_probs), score


@contextmanager
def _output(model: Model) -> Iterator[list[Tensor]]:
    # What the output layer puts out, before the softmax, `(batch, steps, units)`, with its graph.
    found: list[Tensor] = []
    site = model.sites[-1]
    handle = module_at(model, site).register_forward_hook(lambda *parts: found.append(units_last(parts[2], site)))
    try:
        yield found
    finally:
        handle.remove()


def batches_of(
    model: Model, examples: Sequence[Example], loader: Loader, what: str
) -> Iterator[tuple[list[int], Batch]]:
    """Batches on the model's device, each with its examples' numbers; of several processes, this one's share."""
    rank, ranks = rank_and_size()
    share = range(rank, len(examples), ranks)
    if not share:
        return
    batches = loader_of(model, loader).evaluation([examples[number] for number in share], model.reader)
    # By number: processes that read ahead hand over copies of the examples.
    numbers = [[share[number] for number, _ in batch] for batch in batches.batch_sampler]
    device = next(model.parameters()).device
    with closing(track(batches, what)) as tracked:
        for own, batch in zip(numbers, tracked, strict=True):
            yield own, batch.to(device)


def check_finite(profiles: Profiles) -> None:
    """Raises ValueError where a sum is not finite, naming the site."""
    for site, own in profiles.sums.items():
        for name, total in own.items():
            if not total.isfinite().all():
                raise ValueError(
                    f"'{site}': a sum of {name} is not finite. The model puts out infinite or undefined activations "
                    "there, or in its gradient; is it a 16-bit model? Profile it in 32 bits."
                )
