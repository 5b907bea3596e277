"""A corpus's activations, as they come: each batch runs through the model once, and padding is never seen."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from adapt.data.example import Example
from adapt.data.loader import Batch, Loader
from adapt.distributed import rank_and_size
from adapt.models.inference import eval_mode
from adapt.models.model import DecoderModel, Model
from adapt.progress import track
from interventions.capture import capture
from interventions.sites import Site, length_mask

Reduce = Callable[[Site, Tensor], None]


def read_activations(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    sites: Sequence[Site],
    reduce: Reduce,
    what: str = "activations",
) -> None:
    """Give `reduce` each site's activations, `(steps, units)`, the own steps of a batch's examples one after another.

    The model is in eval mode meanwhile. A decoder reads the references, as in training.
    """
    device = next(model.parameters()).device
    with eval_mode(model), torch.no_grad():  # not inference mode, whose tensors no later training could use
        for batch in track(batches(model, examples, loader), what):
            batch = batch.to(device)
            with capture(model, sites, reduce, valid_lengths(model, batch)):
                run(model, batch)


def read_means(
    model: Model, examples: Sequence[Example], loader: Loader, sites: Sequence[Site], what: str = "means"
) -> dict[str, Tensor]:
    """The mean of each example over its own steps, `(examples, units)` by site name, in the examples' order."""
    rows: dict[str, dict[int, Tensor]] = {site.name: {} for site in sites}
    device = next(model.parameters()).device
    with eval_mode(model), torch.no_grad():
        for numbers, batch in numbered(batches(model, examples, loader), what):
            batch = batch.to(device)
            steps = valid_lengths(model, batch)
            with capture(model, sites) as acts:
                run(model, batch)
            for site in sites:
                own = length_mask(steps(site), acts[site].shape[1]).unsqueeze(-1)
                means = (acts[site] * own).sum(1) / own.sum(1)
                rows[site.name] |= dict(zip(numbers, means, strict=True))
    return {name: torch.stack([own[number] for number in range(len(examples))]) for name, own in rows.items()}


def read_in_turn(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    read: Callable[[list[int], Batch], list[Tensor]],
    what: str,
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """What `read` makes of each batch, given the numbers of its examples, with these numbers; longest examples first.

    Where `torch.distributed` runs, each process reads every n-th of the very batches that one would read, and all get
    what each made of them, in the batches' order: whatever is made of that is the same, bit for bit. It should be
    little, such as a few rows of each example. Memory is that of a batch of each process.
    """
    rank, ranks = rank_and_size()
    device = next(model.parameters()).device
    if ranks == 1:
        for numbers, batch in numbered(batches(model, examples, loader), what):
            yield numbers, read(numbers, batch)
        return
    shared = loader_of(model, loader).once(
        examples, model.reader, [(n, 1.0) for n in range(len(examples))], rank, ranks
    )
    own = ((numbers, [one.cpu() for one in read(numbers, batch)]) for numbers, batch in numbered(shared, what))
    while True:
        turn: list[tuple[list[int], list[Tensor]] | None] = [None] * ranks
        torch.distributed.all_gather_object(turn, next(own, None))
        if turn[0] is None:  # the first has the most batches
            return
        for numbers, found in filter(None, turn):
            yield numbers, [one.to(device) for one in found]


def batches(model: Model, examples: Sequence[Example], loader: Loader) -> DataLoader:
    """Each example once, longest first, in batches that the model reads."""
    return loader_of(model, loader).evaluation(examples, model.reader)


def loader_of(model: Model, loader: Loader) -> Loader:
    """A loader of batches that the model reads: one that is run on one utterance at a time puts out one at a time."""
    return loader if model.batched else replace(loader, batch_seconds=0.0)


def numbered(loaded: DataLoader, what: str) -> Iterator[tuple[list[int], Batch]]:
    """Each batch with the numbers of its examples."""
    # By number: processes that read ahead hand over copies of the examples.
    numbers = [[number for number, _ in batch] for batch in loaded.batch_sampler]
    yield from zip(numbers, track(loaded, what), strict=True)


def run(model: Model, batch: Batch) -> None:
    """A forward pass, in which a decoder reads the references; a CTC model needs no text for it."""
    if isinstance(model, DecoderModel):
        model.task.loss(model, batch)
    else:
        model(batch.inputs, batch.lengths)


def valid_lengths(model: Model, batch: Batch) -> Callable[[Site], Tensor]:
    """How many steps of a site are each example's own, `(batch,)`, where a decoder reads the references."""
    tokens = None
    if isinstance(model, DecoderModel):
        counts = [len(model.encode(example.text)) for example in batch.examples]
        tokens = torch.tensor(counts, device=batch.lengths.device)
    return lambda site: model.valid_lengths(site, batch.lengths, tokens)
