"""How alike layers are: each layer of a model with each, or with each of the same model after it was adapted."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

import adapt.introspect.similarity.cca as cca
from adapt.data.example import Example
from adapt.data.loader import Batch, Loader, collate
from adapt.errors import InputError
from adapt.introspect.activations import read_in_turn, valid_lengths
from adapt.introspect.sampling import Evenly, Pick, read_rows, reads_text
from adapt.introspect.similarity.cka import CKA
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from interventions.files import read_tensors, write_tensors
from interventions.moments import Moments
from interventions.sites import Site

Method = Literal["cka", "svcca", "pwcca", "procrustes"]
Per = Literal["step", "example"]
FILE = "similarity.safetensors"
NAMES = {
    "cka": "CKA", "svcca": "SVCCA", "pwcca": "PWCCA", "procrustes": "Procrustes similarity",
    "rsa": "representational similarity",
}  # fmt: skip
MOST_UNITS = 8192  # of all layers together, where their covariances are gathered: 512 MB


@dataclass(frozen=True, eq=False)
class Similarity:
    """How alike layers are, by `method`: 1 where they are equal up to what the method does not look at.

    `matrix` `(rows, columns)`, float64, is of the layers named in `rows` with those in `columns`: a model with itself,
    or before with after. `count` rows of activations were compared: `per` step, or per example the mean of its steps
    (for RSA, `count` groups, per "group").
    """

    method: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    matrix: Tensor
    count: int
    per: str

    def between(self, row: str, column: str) -> float:
        """Of two layers by name. Raises KeyError where one was not compared."""
        try:
            return float(self.matrix[self.rows.index(row), self.columns.index(column)])
        except ValueError:
            there = ", ".join(dict.fromkeys((*self.rows, *self.columns)))
            raise KeyError(f"'{row}' and '{column}' were not compared; these were: {there}.") from None

    def save(self, folder: Path | str) -> None:
        """Write it to `similarity.safetensors` in a folder."""
        header = {"method": self.method, "rows": self.rows, "columns": self.columns, "count": self.count}
        write_tensors(Path(folder) / FILE, "similarity", header | {"per": self.per}, {"matrix": self.matrix})

    @classmethod
    def load(cls, folder: Path | str) -> "Similarity":
        """Read what `save` wrote. Raises FileError where the file is another or damaged."""
        said, tensors = read_tensors(Path(folder) / FILE, "similarity")
        rows, columns = tuple(said["rows"]), tuple(said["columns"])
        return cls(said["method"], rows, columns, tensors["matrix"], said["count"], said["per"])


def similarity(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    after: Model | None = None,
    sites: Sequence[Site] | None = None,
    method: Method = "cka",
    per: Per | None = None,
    steps: int = 8,
) -> Similarity:
    """Compare a model's layers with each other, or with those of `after`, from one pass over the examples.

    Of each example, `steps` steps are read, spread evenly over it and at the same places in all layers: those in
    between are much like these. `per` "example" compares means over all of an example's steps instead; None is that
    where the sites count different things (audio and text, or a source and its translation), else "step". `after`
    reads the same examples; of it, the sites of the same names are looked at, or where it has none of them its own.

    `method` is "cka" (`adapt.introspect.similarity.cka`: debiased, any number of rows from 4), or one of `adapt.introspect.similarity.cca`,
    for which the covariances of all layers are gathered, `(sum of units) ** 2` numbers: "svcca", "pwcca" (each needs
    several times as many rows as units) or "procrustes". Where `torch.distributed` runs, the processes share the
    examples, and all return the same as one would.

    Raises:
        InputError: an option is unknown, there are too few rows for the method, or too many units.
    """
    if method not in get_args(Method) or per not in (None, *get_args(Per)) or steps < 1:
        raise InputError(
            f"Expected method {', '.join(get_args(Method))}, per step, example or null, and steps of 1 or more; got "
            f"method={method!r}, per={per!r}, steps={steps!r}. Representational similarity (rsa) is of groups, and has "
            "a function of its own, adapt.introspect.similarity.rsa.rsa."
        )
    models = [model] if after is None else [model, after]
    chosen = [list(model.sites if sites is None else sites)]
    if after is not None:
        known, there = {site.name: site for site in after.sites}, dict(after.named_modules())
        chosen.append([known.get(site.name, site) for site in chosen[0] if site.name in there] or after.sites)
    clocks = {reads_text(one, site) for one, own in zip(models, chosen, strict=True) for site in own}
    per = per or ("example" if len(clocks) > 1 else "step")
    read = _read(models, chosen, examples, loader, steps if per == "step" else None)
    try:
        matrix, count = _by_cka(read) if method == "cka" else _by_covariance(read, chosen, getattr(cca, method))
    except ValueError as error:
        raise InputError(f"method={method}: {error}") from None
    first = len(chosen[0])
    matrix = matrix if after is None else matrix[:first, first:]
    rows, columns = ([site.name for site in own] for own in (chosen[0], chosen[-1]))
    return Similarity(method, tuple(rows), tuple(columns), matrix, count, per)


def _read(
    models: Sequence[Model],
    chosen: Sequence[Sequence[Site]],
    examples: Sequence[Example],
    loader: Loader,
    most: int | None,
) -> Iterator[list[Tensor]]:
    """Of each batch the rows of all sites of the first model, and then of the second, `(rows, units)` each."""
    devices = [next(model.parameters()).device for model in models]

    def read(numbers: list[int], batch: Batch) -> list[Tensor]:
        given = [_for(model, models[0], batch).to(device) for model, device in zip(models, devices, strict=True)]
        pick = None if most is None else _alike(models, chosen, given, most)
        return [
            rows.to(devices[0])
            for model, own, sites in zip(models, given, chosen, strict=True)
            for rows in read_rows(model, own, sites, pick).values()
        ]

    # A model that reads one utterance at a time makes the other do so as well.
    slowest = min(models, key=lambda model: model.batched)
    with eval_mode(models[0]), eval_mode(models[-1]), torch.no_grad():
        for _, rows in read_in_turn(slowest, examples, loader, read, "similarity"):
            yield rows


def _for(model: Model, first: Model, batch: Batch) -> Batch:
    # What a model reads of the same examples: another may hear at another rate, or have other tokens.
    if model.reader == first.reader:
        return batch
    return collate([(example, model.reader.read(example)) for example in batch.examples])


def _alike(models: Sequence[Model], chosen: Sequence[Sequence[Site]], read: Sequence[Batch], most: int) -> Pick:
    # As many steps of each example as the site has that has the fewest.
    counts = []
    for model, batch, sites in zip(models, read, chosen, strict=True):
        steps = valid_lengths(model, batch)
        counts += [steps(site).cpu() for site in sites]
    count = torch.stack(counts).amin(0).clamp(0, most)
    return Evenly(count)


def _by_cka(read: Iterator[list[Tensor]]) -> tuple[Tensor, int]:
    aligned = CKA()
    for rows in read:
        aligned.update(rows)
    return aligned.result().cpu(), aligned.count


def _by_covariance(
    read: Iterator[list[Tensor]], chosen: Sequence[Sequence[Site]], compare: Callable[..., float]
) -> tuple[Tensor, int]:
    sizes = [site.units for sites in chosen for site in sites]
    if sum(sizes) > MOST_UNITS:
        raise ValueError(
            f"Covariances of {sum(sizes):,} units together are too many; at most {MOST_UNITS:,}. Give fewer sites, or "
            "use method=cka."
        )
    moments = Moments(sum(sizes))
    for rows in read:
        moments.update(torch.cat(rows, dim=1).cpu())
    covariance = moments.covariance
    blocks = [row.split(sizes, dim=1) for row in covariance.split(sizes)]
    own = [cca.Covariance(row[place], moments.count) for place, row in enumerate(blocks)]
    matrix = [[compare(x, y, blocks[i][j]) for j, y in enumerate(own)] for i, x in enumerate(own)]
    return torch.tensor(matrix, dtype=torch.float64), moments.count
