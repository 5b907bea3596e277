"""The weight of each batch in the step that it belongs to, so that a step follows the mean over all of its examples.

A step may sum the gradients of several batches: of `accumulate_grad_batches` in each process, and of all processes.
Lightning and DDP give these batches equal weights. But batches have different numbers of examples, and an epoch's last
window may have fewer batches. With the weights of this file, a step's gradient is that of one batch with all examples.
"""

from collections.abc import Sequence


def window_weights(counts: Sequence[int], window: int, ranks: int, rank: int, steps: int) -> list[float]:
    """Return the factor on the loss of each batch of a process.

    With equal counts and full windows all factors are 1.

    Args:
        counts: For each batch of an epoch, over all processes: the number of terms in the mean that its loss is, which
            are examples or target tokens. Process r takes the batches r, r + ranks, ...; missing ones at the end are
            repetitions of the first ones and get the factor 0.
        window: The number of batches in each process after which a step is made.
        ranks: The number of processes.
        rank: The number of this process.
        steps: The number of batches of each process; after the last one, a step is made in any case.
    """
    weights = []
    for number in range(steps):
        first = number - number % window
        end = min(first + window, steps)
        total = sum(counts[first * ranks : end * ranks])
        place = number * ranks + rank
        own = counts[place] if place < len(counts) else 0
        weights.append(own * window * ranks / total if total else 1.0)
    return weights
