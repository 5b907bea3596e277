"""Similarity of layers: of each layer of a model with every other layer, or with every layer of a second model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

import adapt.introspect.similarity.cca as cca
from adapt.data.example import Example
from adapt.data.loader import Batch, Loader, collate
from adapt.errors import InputError
from adapt.introspect.activations import map_batches, valid_lengths
from adapt.introspect.sampling import Evenly, Pick, read_rows, reads_text
from adapt.introspect.similarity.cka import CKA
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from interventions.files import FileError, read_tensors, write_tensors
from interventions.moments import Moments
from interventions.sites import Site

Method = Literal["cka", "svcca", "pwcca", "procrustes"]
SampleBy = Literal["step", "example"]
FILE = "similarity.safetensors"
NAMES = {
    "cka": "CKA",
    "svcca": "SVCCA",
    "pwcca": "PWCCA",
    "procrustes": "Procrustes similarity",
    "rsa": "representational similarity",
}
_BY_COVARIANCE = {"svcca": cca.svcca, "pwcca": cca.pwcca, "procrustes": cca.procrustes}
MOST_UNITS = 8192  # in all layers together, for the methods that need covariances: 512 MB


@dataclass(frozen=True, eq=False)
class Similarity:
    """The similarity of layers: 1 for layers that are equal up to the invariances of the method.

    Attributes:
        method: The measure of similarity, one of `NAMES`.
        rows: Names of the layers in the rows of `matrix`.
        columns: Names of the layers in its columns: those of the same model or of the second one.
        matrix: The similarities, `(rows, columns)` in float64.
        count: Number of samples that were compared.
        sample_by: What a sample is: "step", "example" (the mean over its steps), or "group" (for RSA).
    """

    method: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    matrix: Tensor
    count: int
    sample_by: str

    def between(self, row: str, column: str) -> float:
        """Return the similarity of two layers by name. Raises KeyError if one of them was not compared."""
        try:
            return float(self.matrix[self.rows.index(row), self.columns.index(column)])
        except ValueError:
            names = ", ".join(dict.fromkeys((*self.rows, *self.columns)))
            raise KeyError(f"'{row}' and '{column}' were not compared; these layers were: {names}.") from None

    def save(self, folder: Path | str, **facts: Any) -> list[Path]:
        """Write `similarity.safetensors` to a folder, with `facts` in its header. Returns the path of the file."""
        header = {
            "method": self.method,
            "rows": self.rows,
            "columns": self.columns,
            "count": self.count,
            "sample_by": self.sample_by,
        }
        path = Path(folder) / FILE
        write_tensors(path, "similarity", {**facts, **header}, {"matrix": self.matrix})
        return [path]

    @classmethod
    def load(cls, folder: Path | str) -> "Similarity":
        """Read what `save` wrote. Raises FileError if the file is missing or damaged, or is something else."""
        path = Path(folder) / FILE
        header, tensors = read_tensors(path, "similarity")
        try:
            rows, columns = tuple(header["rows"]), tuple(header["columns"])
            sample_by = header["sample_by"] if "sample_by" in header else header["per"]  # its name in earlier versions
            return cls(header["method"], rows, columns, tensors["matrix"], header["count"], sample_by)
        except (KeyError, TypeError) as error:
            raise FileError(f"'{path}' lacks {error}. Measure the similarity again.") from None


def similarity(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    other: Model | None = None,
    sites: Sequence[Site] | None = None,
    method: Method = "cka",
    sample_by: SampleBy | None = None,
    steps: int = 8,
) -> Similarity:
    """Compare the layers of a model with each other, or with those of a second model, in one pass over the examples.

    If `torch.distributed` is initialised, the processes share the examples, and all return the result of one process.

    Args:
        model: The model whose layers are the rows of the result.
        examples: The examples that both models read.
        loader: Makes the batches.
        other: A second model, whose layers are the columns. Its sites of the same names are used, or its default sites
            if it has none of them.
        sites: The sites to compare; None: the default sites of the model.
        method: "cka" (`adapt.introspect.similarity.cka`) is debiased and needs 4 samples. "svcca", "pwcca" and
            "procrustes" (`adapt.introspect.similarity.cca`) hold the covariances of all layers, `units ** 2` numbers
            with the units of all layers together. "svcca" and "pwcca" need several times as many samples as units.
        sample_by: "step" compares single steps, "example" the mean over the steps of each example. None: steps, or
            examples if steps mean different things at the sites (audio and text, or source and translation).
        steps: Number of steps per example, evenly spaced and at the same places in all layers.

    Raises:
        InputError: An option is unknown, there are too few samples for the method, or too many units.
    """
    if method not in get_args(Method) or sample_by not in (None, *get_args(SampleBy)) or steps < 1:
        raise InputError(
            f"method must be one of {', '.join(get_args(Method))}; sample_by must be step, example or None; and steps "
            f"must be at least 1. Got method={method!r}, sample_by={sample_by!r}, steps={steps!r}. "
            "Representational similarity (rsa) compares groups and has its own function, "
            "adapt.introspect.similarity.rsa.rsa."
        )
    models = [model] if other is None else [model, other]
    chosen = [list(model.sites if sites is None else sites)]
    if other is not None:
        known, names = {site.name: site for site in other.sites}, dict(other.named_modules())
        chosen.append([known.get(site.name, site) for site in chosen[0] if site.name in names] or other.sites)
    step_kinds = {reads_text(one, site) for one, own in zip(models, chosen, strict=True) for site in own}
    sample_by = sample_by or ("example" if len(step_kinds) > 1 else "step")
    rows = _read(models, chosen, examples, loader, steps if sample_by == "step" else None)
    try:
        matrix, count = _by_cka(rows) if method == "cka" else _by_covariance(rows, chosen, _BY_COVARIANCE[method])
    except ValueError as error:
        raise InputError(f"method={method}: {error}") from None
    first = len(chosen[0])
    matrix = matrix if other is None else matrix[:first, first:]
    row_names, column_names = (tuple(site.name for site in own) for own in (chosen[0], chosen[-1]))
    return Similarity(method, row_names, column_names, matrix, count, sample_by)


def _read(
    models: Sequence[Model],
    chosen: Sequence[Sequence[Site]],
    examples: Sequence[Example],
    loader: Loader,
    most: int | None,
) -> Iterator[list[Tensor]]:
    """Yield for each batch the samples at all sites of the first model and then of the second, `(rows, units)` each."""
    devices = [next(model.parameters()).device for model in models]

    def read(numbers: list[int], batch: Batch) -> list[Tensor]:
        inputs = [_batch_for(model, models[0], batch).to(device) for model, device in zip(models, devices, strict=True)]
        pick = None if most is None else _common_steps(models, chosen, inputs, most)
        return [
            rows.to(devices[0])
            for model, own, sites in zip(models, inputs, chosen, strict=True)
            for rows in read_rows(model, own, sites, pick).values()
        ]

    # If one model reads one utterance at a time, both do.
    slowest = min(models, key=lambda model: model.batched)
    with eval_mode(models[0]), eval_mode(models[-1]), torch.no_grad():
        for _, rows in map_batches(slowest, examples, loader, read, "similarity"):
            yield rows


def _batch_for(model: Model, first: Model, batch: Batch) -> Batch:
    # The second model may read another sample rate, or other tokens.
    if model.reader == first.reader:
        return batch
    return collate([(example, model.reader.read(example)) for example in batch.examples])


def _common_steps(
    models: Sequence[Model], chosen: Sequence[Sequence[Site]], batches: Sequence[Batch], most: int
) -> Pick:
    # Each example gives as many steps as the site with the fewest has.
    counts = []
    for model, batch, sites in zip(models, batches, chosen, strict=True):
        steps = valid_lengths(model, batch)
        counts += [steps(site).cpu() for site in sites]
    count = torch.stack(counts).amin(0).clamp(0, most)
    return Evenly(count)


def _by_cka(batches: Iterator[list[Tensor]]) -> tuple[Tensor, int]:
    cka = CKA()
    for rows in batches:
        cka.update(rows)
    return cka.result().cpu(), cka.count


def _by_covariance(
    batches: Iterator[list[Tensor]], chosen: Sequence[Sequence[Site]], compare: Callable[..., float]
) -> tuple[Tensor, int]:
    sizes = [site.units for sites in chosen for site in sites]
    if sum(sizes) > MOST_UNITS:
        raise ValueError(
            f"The sites have {sum(sizes):,} units together; their covariances fit at most {MOST_UNITS:,}. Give fewer "
            "sites, or use method=cka."
        )
    moments = Moments(sum(sizes))
    for rows in batches:
        moments.update(torch.cat(rows, dim=1).cpu())
    covariance = moments.covariance
    blocks = [row.split(sizes, dim=1) for row in covariance.split(sizes)]
    own = [cca.Covariance(row[place], moments.count) for place, row in enumerate(blocks)]
    matrix = [[compare(x, y, blocks[i][j]) for j, y in enumerate(own)] for i, x in enumerate(own)]
    return torch.tensor(matrix, dtype=torch.float64), moments.count
