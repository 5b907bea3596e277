"""Split the rows of a target into a training and a test set, and evaluate predictions for the test set."""

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.errors import InputError
from adapt.introspect.probes.target import Target
from adapt.metrics import RESAMPLES


def split_rows(
    target: Target, examples: Sequence[Example], by: str, share: float, seed: int
) -> tuple[Target, np.ndarray, Tensor]:
    """Split the rows of a target into a training and a test set.

    Args:
        target: The target.
        examples: The examples that its rows are read from.
        by: "example", or a key of the examples: all examples with the same value are in the same set.
        share: Share of the examples, or of these values, in the test set.
        seed: Seed of the draw.

    Returns:
        The target without the classes that are missing in one of the sets, the group of each row `(rows,)`, and a bool
        mask of the test rows `(rows,)`.

    Raises:
        InputError: Fewer than two classes are in both sets.
    """
    numbers = target.examples.tolist()
    groups = np.array([str(number) if by == "example" else examples[number].group(by) for number in numbers])
    # If all rows of each group have one class, groups are drawn within each class, so each class is in both sets.
    of_group: dict[str, set[int]] = {}
    for group, label in zip(groups.tolist(), target.labels.tolist(), strict=True):
        of_group.setdefault(group, set()).add(label)
    one_class_each = all(len(labels) == 1 for labels in of_group.values())
    pools: dict[int, list[str]] = {}
    for group in sorted(of_group):
        pools.setdefault(min(of_group[group]) if one_class_each else 0, []).append(group)
    held = set()
    for pool in pools.values():
        random.Random(f"{seed} {len(pool)}").shuffle(pool)
        held |= set(pool[: min(len(pool) - 1, max(1, round(share * len(pool))))])
    test = torch.tensor([group in held for group in groups.tolist()])
    sides = [Counter(target.labels[side].tolist()) for side in (~test, test)]
    in_both = [label for label in range(len(target.classes)) if sides[0][label] > 1 and sides[1][label]]
    if len(in_both) < 2:
        raise InputError(
            f"After the split by {by}, fewer than two classes of '{target.name}' are in both the training and the test "
            f"set. Each class needs examples with at least two values of '{by}'. Or use split_by=example."
        )
    chosen = torch.isin(target.labels, torch.tensor(in_both))
    return target[chosen], groups[chosen.numpy()], test[chosen]


def standardise(x: Tensor, train: Tensor) -> Tensor:
    """Standardise each unit of `x` `(rows, units)` to mean 0 and standard deviation 1 over the training rows.

    `train` is a bool mask of these rows, `(rows,)`. A unit without variance becomes 0.
    """
    mean, deviation = x[train].mean(0), x[train].std(0)
    constant = deviation <= 1e-6 * mean.abs()  # a dead unit, up to rounding
    return torch.where(constant, 0.0, (x - mean) / torch.where(constant, 1.0, deviation))


def count_correct(predictions: Tensor, labels: Tensor, groups: np.ndarray) -> np.ndarray:
    """Count the correct rows and all rows of each class in each group, `(groups, 2, classes)`."""
    names, places = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), 2, int(labels.max()) + 1))
    np.add.at(counts[:, 0], (places, labels.numpy()), (predictions == labels).numpy())
    np.add.at(counts[:, 1], (places, labels.numpy()), 1)
    return counts


def mean_accuracy(counts: np.ndarray) -> float:
    """Return the mean over the classes of the share of correct rows, from counts `(2, classes)`."""
    return float((counts[0] / counts[1]).mean())


def accuracy_interval(counts: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of the accuracy, with groups resampled."""
    groups = len(counts)
    draws = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)
    drawn, whole = np.tensordot(draws, counts, axes=1), counts.sum(0)
    # A class that is missing in a draw keeps its overall share.
    drawn = np.where(drawn[:, 1:] > 0, drawn, whole)
    low, high = np.percentile((drawn[:, 0] / drawn[:, 1]).mean(1), [2.5, 97.5])
    return float(low), float(high)
