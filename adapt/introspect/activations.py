"""Read the activations of a corpus in one pass, batch by batch and without padding."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from adapt.data.example import Example
from adapt.data.loader import SECONDS, Batch, Loader
from adapt.distributed import rank_and_size
from adapt.models.batch_memory import within_budget
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
    """Pass the activations of each site and batch to `reduce`.

    A decoder reads the references, as in training. The model is in eval mode.

    Args:
        model: The model.
        examples: The examples to read.
        loader: Makes the batches.
        sites: The sites to read.
        reduce: Called with a site and its activations `(steps, units)`: the valid steps of all examples of a batch.
        what: The label of the progress bar.
    """
    device = next(model.parameters()).device
    with eval_mode(model), torch.no_grad():  # inference tensors could not be used for training later
        for batch in track(batches(model, examples, loader), what):
            batch = batch.to(device)
            with capture(model, sites, reduce, valid_lengths(model, batch)):
                run(model, batch)


def read_means(
    model: Model, examples: Sequence[Example], loader: Loader, sites: Sequence[Site], what: str = "means"
) -> dict[str, Tensor]:
    """Return the mean activations of each example over its valid steps, `(examples, units)` by site name."""
    rows: dict[str, Tensor] = {}
    device = next(model.parameters()).device
    with eval_mode(model), torch.no_grad():
        for numbers, batch in numbered_batches(batches(model, examples, loader), what):
            batch = batch.to(device)
            steps = valid_lengths(model, batch)
            with capture(model, sites) as acts:
                run(model, batch)
            for site in sites:
                mask = length_mask(steps(site), acts[site].shape[1]).unsqueeze(-1)
                means = (acts[site] * mask).sum(1) / mask.sum(1)
                # Copied, because small tensors that are kept between the large ones of a network fragment the memory.
                rows.setdefault(site.name, means.new_empty(len(examples), means.shape[1]))[numbers] = means
    return rows


def map_batches(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    read: Callable[[list[int], Batch], list[Tensor]],
    what: str,
) -> Iterator[tuple[list[int], list[Tensor]]]:
    """Yield the result of `read` for each batch, together with the indices of its examples, longest examples first.

    If `torch.distributed` is initialised, each process reads every n-th batch, and all processes get the results of
    all batches in the same order. The batches are those of a single process, so results are equal bit by bit. Results
    should be small, such as a few rows per example, because they are sent to all processes.

    Args:
        model: The model.
        examples: The examples to read.
        loader: Makes the batches.
        read: Called with the indices of a batch's examples and the batch; returns tensors.
        what: The label of the progress bar.
    """
    rank, ranks = rank_and_size()
    device = next(model.parameters()).device
    if ranks == 1:
        for numbers, batch in numbered_batches(batches(model, examples, loader), what):
            yield numbers, read(numbers, batch)
        return
    shared = within_budget(model, examples, loader_of(model, loader)).once(
        examples, model.reader, [(n, 1.0) for n in range(len(examples))], rank, ranks
    )
    results = (
        (numbers, [one.cpu() for one in read(numbers, batch)]) for numbers, batch in numbered_batches(shared, what)
    )
    while True:
        turn: list[tuple[list[int], list[Tensor]] | None] = [None] * ranks
        torch.distributed.all_gather_object(turn, next(results, None))
        if turn[0] is None:  # the first process has the most batches, so others may run out
            return
        for numbers, tensors in filter(None, turn):
            yield numbers, [one.to(device) for one in tensors]


def batches(model: Model, examples: Sequence[Example], loader: Loader) -> DataLoader:
    """Return batches of the examples for the model, longest examples first."""
    return within_budget(model, examples, loader_of(model, loader)).evaluation(examples, model.reader)


def loader_of(model: Model, loader: Loader) -> Loader:
    """Return the loader, with one example per batch if the model reads one example at a time.

    Without a bound in seconds there are 24 s in a batch, so one window of Whisper: all sites are read at once.
    """
    if not model.batched:
        return replace(loader, batch_seconds=0.0)
    return loader if loader.batch_seconds is not None else replace(loader, batch_seconds=SECONDS)


def numbered_batches(loaded: DataLoader, what: str) -> Iterator[tuple[list[int], Batch]]:
    """Yield each batch with the indices of its examples."""
    # Worker processes return copies of the examples, so examples are identified by index.
    numbers = [[number for number, _ in batch] for batch in cast(Iterable[Any], loaded.batch_sampler)]
    yield from zip(numbers, track(loaded, what), strict=True)


def run(model: Model, batch: Batch) -> None:
    """Run a forward pass. A decoder reads the references."""
    if isinstance(model, DecoderModel):
        model.task.loss(model, batch)
    else:
        model(batch.inputs, batch.lengths)


def valid_lengths(model: Model, batch: Batch) -> Callable[[Site], Tensor]:
    """Return a function from a site to the number of valid steps of each example, `(batch,)`."""
    tokens = None
    if isinstance(model, DecoderModel):
        counts = [len(model.target(example)) for example in batch.examples]
        tokens = torch.tensor(counts, device=batch.lengths.device)
    return lambda site: model.valid_lengths(site, batch.lengths, tokens)
