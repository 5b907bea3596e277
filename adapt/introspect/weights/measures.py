"""Measure weight changes: size, rank and directions by parameter, and size by neuron compared with chance."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.files import is_file, read_json, write_json
from adapt.introspect.weights.change import align_parameters, incoming_weights, relative_change, vector_change
from adapt.introspect.weights.readers import readers
from adapt.models.model import Model
from interventions.bits import changed_bits
from interventions.files import FileError
from interventions.neurons import Neurons, Scores
from interventions.sites import Site

DIRECTIONS = 8  # leading singular vectors that `overlap` compares
FILE = "weights.json"
_SCORES = ("incoming", "outgoing", "cosine_distance", "changed", "floor", "evidence")
_OPTIONAL = ("floor", "evidence")
_OLD_NAMES = {"cosine_distance": "turned"}  # of files that earlier versions wrote


@dataclass(frozen=True)
class ParameterChange:
    """How one parameter changed. The axes of a tensor after the first are flattened into columns.

    The last four figures are those of a matrix, from singular values; None for a vector.

    Attributes:
        name: The name of the parameter.
        shape: Its shape afterwards.
        changed: Share of its elements that differ in any bit.
        relative: Frobenius norm of the difference, divided by that of the weights before; None if these are all 0.
        cosine: Cosine of the weights before and after, as vectors.
        floor: The relative change by chance, estimated from a second run; None without one.
        spectral: Largest singular value of the difference, divided by the largest before.
        stable_rank: Squared Frobenius norm of the difference, divided by its squared largest singular value.
        effective_rank: Exponential of the entropy of the singular values of the difference (Roy & Vetterli 2007).
        overlap: How much of the `DIRECTIONS` leading singular vectors before (those of the shorter axis) lies in the
            span of the leading ones afterwards: 1 if the span is the same.
    """

    name: str
    shape: tuple[int, ...]
    changed: float
    relative: float | None
    cosine: float
    floor: float | None
    spectral: float | None
    stable_rank: float | None
    effective_rank: float | None
    overlap: float | None


@dataclass(frozen=True, eq=False)
class WeightMeasures:
    """How the weights of two models differ, by parameter and by neuron.

    Attributes:
        parameters: The change of each parameter.
        incoming: Relative change of the weights and the bias of each unit; 1 for a new output unit.
        outgoing: Relative change of the weights that read each unit, for sites that have such weights
            (`adapt.introspect.weights.readers`).
        cosine_distance: 1 minus the cosine of a unit's weights and bias before and after.
        changed: Share of a unit's weights that differ in any bit.
        floor: The relative change of `incoming` by chance; None without a second run.
        evidence: Negative decimal logarithm of the p-value of each unit, under the hypothesis that only chance moved it
            (see `weight_measures`); None without a second run.
    """

    parameters: tuple[ParameterChange, ...]
    incoming: Scores
    outgoing: Scores
    cosine_distance: Scores
    changed: Scores
    floor: Scores | None = None
    evidence: Scores | None = None

    def flagged(self, level: float = 0.01) -> Neurons:
        """Return the units that both runs moved in the same direction, by more than chance.

        `level` is the probability of at least one false positive among them (Bonferroni).

        Raises:
            ValueError: There was no second run.
        """
        if self.evidence is None:
            raise ValueError("Chance is estimated from a second run with another seed. Pass it as floor=.")
        threshold = -math.log10(level / len(self.evidence))
        return Neurons({
            site: (self.evidence[site] >= threshold).nonzero()[:, 0].tolist() for site in self.evidence.sites
        })  # fmt: skip

    def save(self, folder: Path | str, header: Mapping[str, Any] | None = None, **facts: Any) -> list[Path]:
        """Write `weights.json` (the parameters) and one file of `Scores` per neuron measure to `scores/`.

        `header` is added to `weights.json`, and `facts` to the headers of the scores. Returns the paths of the files.
        """
        folder = Path(folder)
        files = [folder / FILE]
        for name in _SCORES:
            scores = getattr(self, name)
            if scores is not None:
                files.append(_path(folder, name))
                scores.save(files[-1], scores=f"weights: {name}", **facts)
        parameters = [asdict(parameter) for parameter in self.parameters]
        write_json(files[0], {**(header or {}), "parameters": parameters})
        return files

    @classmethod
    def load(cls, folder: Path | str) -> "WeightMeasures":
        """Read what `save` wrote. Raises FileError if a file is missing or damaged, or is something else."""
        path = Path(folder) / FILE
        try:
            rows = read_json(path)["parameters"]
            parameters = tuple(ParameterChange(**row | {"shape": tuple(row["shape"])}) for row in rows)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"'{path}' is not a table of changed weights ({error}).") from None
        scores = {}
        for name in _SCORES:
            file = _path(folder, name)
            if not is_file(file) and name in _OLD_NAMES:
                file = _path(folder, _OLD_NAMES[name])
            if is_file(file) or name not in _OPTIONAL:
                scores[name] = Scores.load(file)
        return cls(parameters, **scores)


def _path(folder: Path | str, name: str) -> Path:
    return Path(folder) / "scores" / f"{name}.safetensors"


@torch.no_grad()
def weight_measures(before: Model, after: Model, floor: Model | None = None, outgoing: bool = True) -> WeightMeasures:
    """Compare the weights of two models of one architecture, with output units paired by character.

    Chance is estimated from the difference between the two runs. With changes `a` and `b` of a unit's weights in the
    two runs, the floor of the unit is `|a - b| / sqrt(2)`, divided by the norm of the weights before. If only chance
    moved the weights, `a + b` is as long as `a - b`, and the ratio of their squared norms has an F distribution with
    the number of weights as both degrees of freedom. A one-sided test of this ratio gives the p-values. It assumes that
    the weights of a unit move independently, which is not quite true in training: if many units are just above the
    threshold, look at `floor` as well.

    Args:
        before: The model before training.
        after: The model afterwards.
        floor: A second run from the same base on the same data with another seed.
        outgoing: Whether to score units by the weights that read them. Finding these takes two short forward passes
            per site.

    Raises:
        ValueError: The models differ in more than their output layer, or the two runs differ in their output layer.
    """
    if floor is not None and floor.vocabulary != after.vocabulary:
        raise ValueError("The second run has another alphabet than the first. Adapt it with the same data and options.")
    old, new = align_parameters(before, after)
    second = None if floor is None else align_parameters(before, floor)[1]
    parameters = tuple(
        _parameter(name, old[name], new[name], None if second is None else second[name])
        for name, _ in after.named_parameters()
    )
    models = [(before, old), (after, new)]
    if floor is not None and second is not None:
        models.append((floor, second))
    # The rows of each unit before, afterwards, and in the second run.
    rows: dict[Site, list[Tensor]] = {}
    for site in after.sites:
        rows[site] = [incoming_weights(model, site, tensors) for model, tensors in models]
    into = Scores({site: _relative(*own[:2]) for site, own in rows.items()})
    out = {}
    for site, names in zip(after.sites, readers(after).values(), strict=True) if outgoing else ():
        if names:
            out[site] = _relative(_columns(old, names), _columns(new, names))
    scores = {
        "outgoing": Scores(out),
        "cosine_distance": Scores({site: 1 - _cosine(*own[:2]) for site, own in rows.items()}),
        "changed": Scores({site: changed_bits(*own[:2]).double().mean(1) for site, own in rows.items()}),
    }
    if floor is not None:
        scores["floor"] = Scores({site: _floor(*own) for site, own in rows.items()})
        scores["evidence"] = Scores({site: _evidence(*own) for site, own in rows.items()})
    return WeightMeasures(parameters, into, **scores)


def _columns(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    # (units, weights that read them). Those of a new output unit are NaN before.
    return torch.cat([tensors[name].double().transpose(0, 1).flatten(1) for name in names], 1)


def _relative(old: Tensor, new: Tensor) -> Tensor:
    return relative_change(old, new).nan_to_num(1.0)  # a new unit counts as changed by 1


def _cosine(old: Tensor, new: Tensor) -> Tensor:
    unchanged = (old == new).all(1)  # including rows of zeros
    return torch.where(unchanged, 1.0, torch.cosine_similarity(old, new, dim=1).nan_to_num(0.0))


def _floor(old: Tensor, new: Tensor, second: Tensor) -> Tensor:
    size = old.nan_to_num().norm(dim=1)
    return torch.where(old.isnan().any(1), 0.0, (new - second).norm(dim=1) / 2**0.5 / size.clamp(min=1e-12))


def _evidence(old: Tensor, new: Tensor, second: Tensor) -> Tensor:
    from scipy.stats import f

    a, b = (new - old).nan_to_num(), (second - old).nan_to_num()
    moved = ((a != 0) | (b != 0)).sum(1)
    total, difference = (a + b).square().sum(1), (a - b).square().sum(1)
    degrees = moved.clamp(min=1)
    p = torch.from_numpy(f.sf((total / difference.clamp(min=1e-300)).numpy(), degrees, degrees))
    return torch.where(moved > 0, -p.clamp(min=1e-300).log10(), 0.0).clamp(min=0.0)


def _parameter(name: str, old: Tensor, new: Tensor, second: Tensor | None) -> ParameterChange:
    known = ~old.isnan()
    relative, cosine = vector_change(old, new)
    matrix: dict[str, float | None] = {"spectral": None, "stable_rank": None, "effective_rank": None, "overlap": None}
    if old.dim() > 1:
        rows = known.flatten(1).all(1)
        matrix = _spectra(old[rows].double().flatten(1), new[rows].double().flatten(1))
    floor = None
    if second is not None and (size := float(old[known].double().norm())):
        floor = float((new[known].double() - second[known].double()).norm()) / 2**0.5 / size
    return ParameterChange(
        name, tuple(new.shape),
        changed=float(changed_bits(old, new).double().mean()),
        relative=relative, cosine=cosine, floor=floor, **matrix,
    )  # fmt: skip


def _spectra(old: Tensor, new: Tensor) -> dict[str, float | None]:
    if not old.numel() or torch.equal(old, new):
        return {"spectral": 0.0, "stable_rank": 0.0, "effective_rank": 0.0, "overlap": 1.0}
    difference = new - old
    values = torch.linalg.eigvalsh(_gram(difference)).clamp(min=0).sqrt()
    shares = values / values.sum()
    spectrum, before = torch.linalg.eigh(_gram(old))
    _, after = torch.linalg.eigh(_gram(new))
    # Directions without variance have no order.
    count = min(DIRECTIONS, int((spectrum > 1e-12 * spectrum[-1]).sum()))
    both = before[:, -count:].T @ after[:, -count:] if count else torch.zeros(0)
    largest = float(spectrum[-1].clamp(min=0).sqrt())
    return {
        "spectral": float(values[-1]) / largest if largest else None,
        "stable_rank": float(difference.square().sum() / values[-1].square()),
        "effective_rank": float(torch.special.entr(shares).sum().exp()),
        "overlap": float(both.square().sum()) / count if count else None,
    }


def _gram(matrix: Tensor) -> Tensor:
    # The Gram matrix of the shorter side: its eigenvalues are the squared singular values.
    return matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
