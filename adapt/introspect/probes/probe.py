"""Probing a model: at each site a simple classifier of a target, a control task beside it, and the units that know."""

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.files import write_json
from adapt.introspect.probes.fitted import Fitted
from adapt.introspect.probes.gaussian import gaussian
from adapt.introspect.probes.linear import linear
from adapt.introspect.probes.precision import average_precision, iou
from adapt.introspect.probes.probeless import probeless
from adapt.introspect.probes.target import Target, make_target, read_target, sites_of
from adapt.metrics import RESAMPLES
from adapt.models.model import Model
from interventions.files import FileError, read_tensors, write_tensors
from interventions.neurons import Scores
from interventions.sites import Site

METHODS: dict[str, Callable[[Tensor, Tensor, int], Fitted]] = {
    "linear": linear, "probeless": probeless, "gaussian": gaussian, "average_precision": average_precision, "iou": iou,
}  # fmt: skip


@dataclass(frozen=True)
class ProbeRow:
    """What is found at one site, on held-out rows.

    `accuracy` is the mean over the classes of the share of their rows that are answered right, with its 95 %
    `interval` (whole examples, or speakers, resampled; of few it is rough), and `control` that of the same probe on the
    control task's labels, which mean nothing. `selectivity` is the difference (Hewitt & Liang 2019).
    """

    site: str
    accuracy: float
    interval: tuple[float, float]
    control: float

    @property
    def selectivity(self) -> float:
        return self.accuracy - self.control


@dataclass(frozen=True, eq=False)
class Probe:
    """A target, probed at some sites by one method.

    `scores` says of each unit how much it knows of the target, `by_class` of each class of it. What a score counts is
    the method's: see `METHODS`. `chance` is what guessing gets right; `trained` and `tested` count rows.
    """

    target: str
    method: str
    classes: tuple[str, ...]
    rows: tuple[ProbeRow, ...]
    scores: Scores
    by_class: Mapping[str, Scores]
    trained: int
    tested: int

    @property
    def chance(self) -> float:
        return 1 / len(self.classes)

    def save(self, folder: Path | str) -> None:
        """Write `scores.safetensors` (`Scores`), `classes.safetensors` (those of each class) and `probe.json` (the
        table) to a folder.
        """
        folder = Path(folder)
        self.scores.save(folder / "scores.safetensors", target=self.target, method=self.method)
        each = {
            f"{n}/{m}": scores[site] for n, scores in enumerate(self.by_class.values())
            for m, site in enumerate(self.scores.sites)
        }  # fmt: skip
        write_tensors(folder / "classes.safetensors", "scores by class", {"classes": list(self.by_class)}, each)
        rows = [asdict(row) | {"selectivity": row.selectivity} for row in self.rows]
        said = {key: getattr(self, key) for key in ("target", "method", "classes", "chance", "trained", "tested")}
        write_json(folder / "probe.json", said | {"rows": rows})

    @classmethod
    def load(cls, folder: Path | str) -> "Probe":
        """Read what `save` wrote. Raises FileError where a file is missing, another or damaged."""
        folder = Path(folder)
        scores = Scores.load(folder / "scores.safetensors")
        header, each = read_tensors(folder / "classes.safetensors", "scores by class")
        by_class = {
            name: Scores({site: each[f"{n}/{m}"] for m, site in enumerate(scores.sites)})
            for n, name in enumerate(header["classes"])
        }
        try:
            said = json.loads((folder / "probe.json").read_text(encoding="utf-8"))
            rows = tuple(_row(row) for row in said["rows"])
            return cls(
                said["target"], said["method"], tuple(said["classes"]), rows, scores, by_class, said["trained"],
                said["tested"],
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"'{folder / 'probe.json'}' is not the table of a probe ({error}).") from None


def _row(said: Mapping[str, Any]) -> ProbeRow:
    return ProbeRow(said["site"], said["accuracy"], tuple(said["interval"]), said["control"])


def probe(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    target: str = "accent",
    method: str = "linear",
    sites: Sequence[Site] | None = None,
    split_by: str = "example",
    held_out: float = 0.25,
    most: int = 200,
    controls: int = 3,
    seed: int = 0,
    **options: Any,
) -> Probe:
    """Find which units of a model know a target, and how well it can be read off each site.

    `target` is "phoneme", "token" (of a decoder's references), or any key of the examples, of which the means over
    their steps are probed. `method` is one of `METHODS`, and `options` are its own. The share `held_out` of the
    examples is not trained on, or of the groups that `split_by` names: by "speaker", no voice is on both sides, and an
    accent is not known by who speaks. Of each class at most `most` rows are read, drawn evenly, and activations are
    standardised by the mean and deviation of the rows that are trained on. The control task's accuracy is the mean over
    `controls` draws of its labels. Memory is the rows at all sites.

    Raises:
        InputError: the examples do not have the target or cannot be split so, no site can be read there, or an option
            is unknown.
    """
    if method not in METHODS or not 0 < held_out < 1 or most < 2 or controls < 1:
        raise InputError(
            f"Expected method {', '.join(METHODS)}, held_out above 0 and below 1, most of 2 or more, and controls of 1 "
            f"or more; got method={method!r}, held_out={held_out!r}, most={most!r}, controls={controls!r}."
        )
    own = list(signature(METHODS[method]).parameters)[3:]
    if not options.keys() <= set(own):
        raise InputError(f"method={method} has {', '.join(own) or 'no options'}; got {', '.join(options)}.")
    wanted = make_target(model, examples, target, most, seed)
    sites = sites_of(model, wanted, sites)
    # Strings, so that examples and the values of a key are told apart alike.
    wanted, groups, test = _split(wanted, examples, split_by, held_out, seed)
    drawn = [wanted.control(f"{seed} {number}") for number in range(controls)]
    activations = read_target(model, examples, loader, wanted, sites)
    scores, each, rows = {}, {name: {} for name in wanted.classes}, []
    for site in sites:
        x = _standardised(activations.pop(site.name), ~test)
        found = METHODS[method](x[~test], wanted.labels[~test], len(wanted.classes), **options)
        right = _shares(found.answer(x[test]), wanted.labels[test], groups[test.numpy()])
        control = sum(_control(x, labels, test, method, options) for labels in drawn) / controls
        rows.append(ProbeRow(site.name, _mean(right.sum(0)), _interval(right, seed), control))
        scores[site] = found.scores.float()
        for name, own in zip(wanted.classes, found.by_class.float(), strict=True):
            each[name][site] = own
    return Probe(
        target, method, wanted.classes, tuple(rows), Scores(scores),
        {name: Scores(own) for name, own in each.items()}, int((~test).sum()), int(test.sum()),
    )  # fmt: skip


def _split(
    target: Target, examples: Sequence[Example], by: str, share: float, seed: int
) -> tuple[Target, np.ndarray, Tensor]:
    """The target without classes that are not on both sides, the group `(rows,)` of each row, and which rows test."""
    numbers = target.examples.tolist()
    groups = np.array([str(number) if by == "example" else examples[number].group(by) for number in numbers])
    # Groups are drawn within each class where a group is of one class, so that each class is on both sides.
    of_group: dict[str, set[int]] = {}
    for group, label in zip(groups.tolist(), target.labels.tolist(), strict=True):
        of_group.setdefault(group, set()).add(label)
    apart = all(len(labels) == 1 for labels in of_group.values())
    pools: dict[int, list[str]] = {}
    for group in sorted(of_group):
        pools.setdefault(min(of_group[group]) if apart else 0, []).append(group)
    held = set()
    for pool in pools.values():
        random.Random(f"{seed} {len(pool)}").shuffle(pool)
        held |= set(pool[: min(len(pool) - 1, max(1, round(share * len(pool))))])
    test = torch.tensor([group in held for group in groups.tolist()])
    sides = [Counter(target.labels[side].tolist()) for side in (~test, test)]
    both = [label for label in range(len(target.classes)) if sides[0][label] > 1 and sides[1][label]]
    if len(both) < 2:
        raise InputError(
            f"Split by {by}, fewer than two classes of '{target.name}' are on both sides. Each needs examples of two "
            f"or more values of '{by}'; split_by=example splits by examples."
        )
    chosen = torch.isin(target.labels, torch.tensor(both))
    return target[chosen], groups[chosen.numpy()], test[chosen]


def _standardised(x: Tensor, train: Tensor) -> Tensor:
    mean, deviation = x[train].mean(0), x[train].std(0)
    still = deviation <= 1e-6 * mean.abs()  # a dead unit, but for rounding
    return torch.where(still, 0.0, (x - mean) / torch.where(still, 1.0, deviation))


def _control(x: Tensor, labels: Tensor, test: Tensor, method: str, options: Mapping[str, Any]) -> float:
    """The accuracy of the same probe on labels that mean nothing."""
    on_both = [label for label in labels.unique() if (labels[~test] == label).any() and (labels[test] == label).any()]
    own = torch.isin(labels, torch.tensor(on_both))
    x, labels, test = x[own], labels[own].unique(return_inverse=True)[1], test[own]
    if len(on_both) < 2:
        return 1.0
    found = METHODS[method](x[~test], labels[~test], len(on_both), **options)
    return _mean(_shares(found.answer(x[test]), labels[test], np.zeros(int(test.sum()))).sum(0))


def _shares(answers: Tensor, labels: Tensor, groups: np.ndarray) -> np.ndarray:
    """How many rows of each class are answered right, and how many there are, `(groups, 2, classes)`."""
    names, places = np.unique(groups, return_inverse=True)
    counted = np.zeros((len(names), 2, int(labels.max()) + 1))
    np.add.at(counted, (places, 0, labels.numpy()), (answers == labels).numpy())
    np.add.at(counted, (places, 1, labels.numpy()), 1)
    return counted


def _mean(counted: np.ndarray) -> float:
    """The mean over the classes of the share that is right, from counts `(2, classes)`; each class has a row."""
    return float((counted[0] / counted[1]).mean())


def _interval(counted: np.ndarray, seed: int) -> tuple[float, float]:
    """The 95 % percentile interval of the accuracy, groups resampled."""
    groups = len(counted)
    draws = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)
    drawn, whole = np.tensordot(draws, counted, axes=1), counted.sum(0)
    # A class that is not among those drawn has the share that it has in all.
    drawn = np.where(drawn[:, 1:] > 0, drawn, whole)
    low, high = np.percentile((drawn[:, 0] / drawn[:, 1]).mean(1), [2.5, 97.5])
    return float(low), float(high)
