"""Probe a model: fit a classifier of a target at each site, compare it with a control task, and rank the units."""

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
from adapt.files import read_json, write_json
from adapt.introspect.probes.fitted import FittedProbe
from adapt.introspect.probes.gaussian import gaussian
from adapt.introspect.probes.held_out import accuracy_interval, count_correct, mean_accuracy, split_rows, standardise
from adapt.introspect.probes.linear import linear
from adapt.introspect.probes.precision import average_precision, iou
from adapt.introspect.probes.probeless import probeless
from adapt.introspect.probes.target import make_target, read_target, sites_of
from adapt.metrics import more_than_chance
from adapt.models.model import Model
from interventions.files import FileError, read_tensors, write_tensors
from interventions.neurons import Scores
from interventions.sites import Site

METHODS: dict[str, Callable[..., FittedProbe]] = {
    "linear": linear,
    "probeless": probeless,
    "gaussian": gaussian,
    "average_precision": average_precision,
    "iou": iou,
}


@dataclass(frozen=True)
class ProbeRow:
    """The result at one site, on held-out rows.

    Attributes:
        site: The name of the site.
        accuracy: Mean over the classes of the share of their rows that are classified correctly.
        interval: Its 95 % bootstrap interval over examples or speakers; rough if there are few of them.
        control: Accuracy of the same probe on the labels of the control task.
    """

    site: str
    accuracy: float
    interval: tuple[float, float]
    control: float

    @property
    def selectivity(self) -> float:
        """Accuracy minus that on the control task (Hewitt & Liang 2019)."""
        return self.accuracy - self.control

    def above_chance(self, chance: float) -> bool:
        """Return whether the whole interval of the accuracy is above both chance and the control task."""
        return self.interval[0] > max(chance, self.control)


@dataclass(frozen=True, eq=False)
class Probe:
    """A target, probed at some sites by one method.

    Attributes:
        target: The name of the target.
        method: The name of the method, one of `METHODS`.
        classes: The names of the classes.
        rows: The result at each site.
        scores: How much each unit encodes the target. The method defines what the score means.
        by_class: How much each unit encodes each class.
        trained: Number of training rows.
        tested: Number of test rows.
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
        """The accuracy of guessing."""
        return 1 / len(self.classes)

    @property
    def above_chance(self) -> bool:
        """True if more sites are above chance and control than is likely by chance (binomial test at 5 %)."""
        return more_than_chance(sum(row.above_chance(self.chance) for row in self.rows), len(self.rows))

    def save(self, folder: Path | str, **facts: Any) -> list[Path]:
        """Write the probe to a folder, and return the paths of the files.

        These are `scores.safetensors` (`Scores`), `classes.safetensors` (the scores of each class) and `probe.json`
        (the table). `facts` go into the header of the scores.
        """
        files = [Path(folder) / name for name in ("scores.safetensors", "classes.safetensors", "probe.json")]
        self.scores.save(files[0], **{**facts, "target": self.target, "method": self.method})
        tensors = {
            f"{n}/{m}": scores[site]
            for n, scores in enumerate(self.by_class.values())
            for m, site in enumerate(self.scores.sites)
        }
        write_tensors(files[1], "scores by class", {"classes": list(self.by_class)}, tensors)
        table = {
            "target": self.target,
            "method": self.method,
            "classes": self.classes,
            "chance": self.chance,
            "trained": self.trained,
            "tested": self.tested,
            "rows": [asdict(row) | {"selectivity": row.selectivity} for row in self.rows],
        }
        write_json(files[2], table)
        return files

    @classmethod
    def load(cls, folder: Path | str) -> "Probe":
        """Read what `save` wrote. Raises FileError if a file is missing or damaged, or is something else."""
        folder = Path(folder)
        scores = Scores.load(folder / "scores.safetensors")
        header, tensors = read_tensors(folder / "classes.safetensors", "scores by class")
        by_class = {
            name: Scores({site: tensors[f"{n}/{m}"] for m, site in enumerate(scores.sites)})
            for n, name in enumerate(header["classes"])
        }
        path = folder / "probe.json"
        try:
            table = read_json(path)
            rows = tuple(
                ProbeRow(row["site"], row["accuracy"], tuple(row["interval"]), row["control"]) for row in table["rows"]
            )
            target, method, classes = table["target"], table["method"], tuple(table["classes"])
            return cls(target, method, classes, rows, scores, by_class, table["trained"], table["tested"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"'{path}' is not the table of a probe ({error}).") from None


def probe(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    target: str = "accent",
    method: str = "linear",
    sites: Sequence[Site] | None = None,
    split_by: str = "example",
    held_out: float = 0.25,
    max_per_class: int = 200,
    controls: int = 3,
    seed: int = 0,
    **options: Any,
) -> Probe:
    """Fit a probe at each site, and rank the units by how much they encode the target.

    Activations are standardised by the mean and standard deviation of the training rows. The rows of all sites are held
    in memory.

    Args:
        model: The model to probe.
        examples: The examples to read.
        loader: Makes the batches.
        target: "phoneme", "token" (of the references; needs a decoder), or any key of the examples, for which the means
            over their steps are probed.
        method: One of `METHODS`.
        sites: The sites to probe; None: the default sites of the model.
        split_by: "example", or a key of the examples. With "speaker", no speaker is in both the training and the test
            set, so an accent cannot be recognised by its speakers.
        held_out: Share of the examples, or of the values of `split_by`, in the test set.
        max_per_class: Number of rows per class, drawn at random.
        controls: Number of random labellings over which the accuracy of the control task is averaged.
        seed: Seed of the split, the rows, the control task and the bootstrap.
        **options: Options of the method.

    Raises:
        InputError: The examples do not have the target or cannot be split, no site can be read, or an option is
            unknown.
    """
    if method not in METHODS or not 0 < held_out < 1 or max_per_class < 2 or controls < 1:
        raise InputError(
            f"method must be one of {', '.join(METHODS)}, held_out above 0 and below 1, max_per_class at least 2 and "
            f"controls at least 1. Got method={method!r}, held_out={held_out!r}, max_per_class={max_per_class!r}, "
            f"controls={controls!r}."
        )
    known = list(signature(METHODS[method]).parameters)[3:]
    if not options.keys() <= set(known):
        names = f"the options {', '.join(known)}" if known else "no options"
        raise InputError(f"method={method} has {names}; got {', '.join(options)}.")
    rows_of_all = make_target(model, examples, target, max_per_class, seed)
    sites = sites_of(model, rows_of_all, sites)
    wanted, groups, test = split_rows(rows_of_all, examples, split_by, held_out, seed)
    # The seeds are strings, so control labels for examples and for values of a key are drawn in the same way.
    control_labels = [wanted.control(f"{seed} {number}") for number in range(controls)]
    activations = read_target(model, examples, loader, wanted, sites)
    scores: dict[Site, Tensor] = {}
    by_class: dict[str, dict[Site, Tensor]] = {name: {} for name in wanted.classes}
    rows = []
    for site in sites:
        x = standardise(activations.pop(site.name), ~test)
        fitted = METHODS[method](x[~test], wanted.labels[~test], len(wanted.classes), **options)
        counts = count_correct(fitted.predict(x[test]), wanted.labels[test], groups[test.numpy()])
        control = sum(_control_accuracy(x, labels, test, method, options) for labels in control_labels) / controls
        rows.append(ProbeRow(site.name, mean_accuracy(counts.sum(0)), accuracy_interval(counts, seed), control))
        scores[site] = fitted.scores.float()
        for name, own in zip(wanted.classes, fitted.by_class.float(), strict=True):
            by_class[name][site] = own
    each = {name: Scores(own) for name, own in by_class.items()}
    trained, tested = int((~test).sum()), int(test.sum())
    return Probe(target, method, wanted.classes, tuple(rows), Scores(scores), each, trained, tested)


def _control_accuracy(x: Tensor, labels: Tensor, test: Tensor, method: str, options: Mapping[str, Any]) -> float:
    """Return the accuracy of the same probe on the labels of a control task."""
    in_both = [label for label in labels.unique() if (labels[~test] == label).any() and (labels[test] == label).any()]
    usable = torch.isin(labels, torch.tensor(in_both))
    x, labels, test = x[usable], labels[usable].unique(return_inverse=True)[1], test[usable]
    if len(in_both) < 2:
        return 1.0
    fitted = METHODS[method](x[~test], labels[~test], len(in_both), **options)
    return mean_accuracy(count_correct(fitted.predict(x[test]), labels[test], np.zeros(int(test.sum()))).sum(0))
