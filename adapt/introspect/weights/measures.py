"""How weights changed: of what rank and in which directions, which neurons' most, and how far beyond chance."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.files import write_json
from adapt.introspect.weights.change import incoming, paired, relative_change, vector_change
from adapt.introspect.weights.readers import readers
from adapt.models.model import Model
from interventions.bits import changed_bits
from interventions.files import FileError
from interventions.neurons import Neurons, Scores
from interventions.sites import Site

DIRECTIONS = 8  # how many leading ones `overlap` compares
FILE = "weights.json"
_SCORES = ("incoming", "outgoing", "turned", "changed", "floor", "evidence")


@dataclass(frozen=True)
class ParameterChange:
    """How one parameter `after` differs from `before`, its axes but the first flattened into columns.

    `changed` is the share of its numbers that differ in any bit. `relative` is the Frobenius norm of the difference
    over that of the weights before (None where these are all 0), `cosine` between both as vectors, and `floor` what
    `relative` is by chance, as the second run says (None without one).

    Of matrices, from singular values: `spectral`, the largest of the difference over the largest before; of the
    difference its `stable_rank`, the squared Frobenius norm over the squared largest, and its `effective_rank`, the
    exponential of their entropy (Roy & Vetterli 2007); and `overlap`, the share of the `DIRECTIONS` leading singular
    vectors before, on the shorter side, that lies in the span of those after: 1 where it is the same.
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
    """How two models' weights differ, by parameter and by neuron.

    `incoming` scores each unit by the relative change of the weights and the bias that make it, `outgoing` by that of
    the weights that read it (where some do; see `adapt.introspect.weights.readers`). Of the weights and the bias that make it,
    `turned` is 1 less the cosine of before and after, and `changed` the share that differs in any bit. A new output
    unit scores 1. With a second run, `floor` is what `incoming` is by chance, and `evidence` says how sure it is that
    more than chance moved a unit: minus the decimal logarithm of the p-value, see `weight_measures`.
    """

    parameters: tuple[ParameterChange, ...]
    incoming: Scores
    outgoing: Scores
    turned: Scores
    changed: Scores
    floor: Scores | None = None
    evidence: Scores | None = None

    def flagged(self, level: float = 0.01) -> Neurons:
        """The units that both runs moved alike, beyond chance: at most `level` is the chance of any false one among
        them (Bonferroni).

        Raises:
            ValueError: there was no second run.
        """
        if self.evidence is None:
            raise ValueError("What chance does is known from a second run with another seed: give it as floor=.")
        least = -math.log10(level / len(self.evidence))
        return Neurons({site: (self.evidence[site] >= least).nonzero()[:, 0].tolist() for site in self.evidence.sites})

    def files(self, folder: Path | str) -> list[Path]:
        """What `save` writes to a folder."""
        named = [name for name in _SCORES if getattr(self, name) is not None]
        return [Path(folder) / FILE, *(_path(folder, name) for name in named)]

    def save(self, folder: Path | str, **facts: Any) -> None:
        """Write `weights.json` (the parameters), and a file of `Scores` each to `scores/`: `incoming`, `outgoing`,
        `turned`, `changed`, and with a second run `floor` and `evidence`. `facts` go into their headers.
        """
        for name in _SCORES:
            scores = getattr(self, name)
            if scores is not None:
                scores.save(_path(folder, name), scores=f"weights: {name}", **facts)
        write_json(Path(folder) / FILE, {"parameters": [asdict(parameter) for parameter in self.parameters]})

    @classmethod
    def load(cls, folder: Path | str) -> "WeightMeasures":
        """Read what `save` wrote. Raises FileError where a file is missing, another or damaged."""
        path = Path(folder) / FILE
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))["parameters"]
            parameters = tuple(ParameterChange(**row | {"shape": tuple(row["shape"])}) for row in rows)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"'{path}' is not a table of changed weights ({error}).") from None
        always = _SCORES[:4]
        there = [name for name in _SCORES if name in always or _path(folder, name).is_file()]
        return cls(parameters, **{name: Scores.load(_path(folder, name)) for name in there})


def _path(folder: Path | str, name: str) -> Path:
    return Path(folder) / "scores" / f"{name}.safetensors"


@torch.no_grad()
def weight_measures(before: Model, after: Model, floor: Model | None = None, outgoing: bool = True) -> WeightMeasures:
    """Compare the weights of two models of one architecture; output units are paired by character.

    Without `outgoing`, no unit is scored by what reads it, which takes two short passes for each site to find out.

    `floor` is a second run from the same base on the same data, with another seed. Half of how far the two runs lie
    apart is chance: with changes `a` and `b` of a unit's weights, its floor is `|a - b| / sqrt(2)` over the weights'
    norm before. And if chance alone moved them, `a + b` would be as long as `a - b`; that it is longer is tested by the
    ratio of their squares, which then has an F distribution with as many degrees of freedom as there are weights. This
    takes a unit's weights to move independently of each other, which training does not quite do: where many units are
    flagged by a hair, look at `floor` as well.

    Raises:
        ValueError: the models differ in more than their output layer, or the two runs in that as well.
    """
    if floor is not None and floor.vocabulary != after.vocabulary:
        raise ValueError("The second run has another alphabet than the first: adapt it with the same data and options.")
    old, new = paired(before, after)
    second = None if floor is None else paired(before, floor)[1]
    parameters = tuple(
        _parameter(name, old[name], new[name], None if second is None else second[name])
        for name, _ in after.named_parameters()
    )
    # Rows of each unit before, after, and in the second run.
    made: dict[Site, list[Tensor]] = {}
    for site in after.sites:
        models = [(before, old), (after, new)] + ([(floor, second)] if floor is not None else [])
        made[site] = [incoming(model, site, tensors) for model, tensors in models]
    into = Scores({site: _relative(*rows[:2]) for site, rows in made.items()})
    out = {}
    for site, names in zip(after.sites, readers(after).values(), strict=True) if outgoing else ():
        if names:
            out[site] = _relative(_columns(old, names), _columns(new, names))
    each = {
        "outgoing": Scores(out),
        "turned": Scores({site: 1 - _cosine(*rows[:2]) for site, rows in made.items()}),
        "changed": Scores({site: changed_bits(*rows[:2]).double().mean(1) for site, rows in made.items()}),
    }
    if floor is not None:
        each["floor"] = Scores({site: _floor(*rows) for site, rows in made.items()})
        each["evidence"] = Scores({site: _evidence(*rows) for site, rows in made.items()})
    return WeightMeasures(parameters, into, **each)


def _columns(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    # (units, weights that read them); a new output unit's have no counterpart before, and are NaN there.
    return torch.cat([tensors[name].double().transpose(0, 1).flatten(1) for name in names], 1)


def _relative(old: Tensor, new: Tensor) -> Tensor:
    return relative_change(old, new).nan_to_num(1.0)  # a new unit is wholly new


def _cosine(old: Tensor, new: Tensor) -> Tensor:
    still = (old == new).all(1)  # also where all are 0
    return torch.where(still, 1.0, torch.cosine_similarity(old, new, dim=1).nan_to_num(0.0))


def _floor(old: Tensor, new: Tensor, second: Tensor) -> Tensor:
    size = old.nan_to_num().norm(dim=1)
    return torch.where(old.isnan().any(1), 0.0, (new - second).norm(dim=1) / 2**0.5 / size.clamp(min=1e-12))


def _evidence(old: Tensor, new: Tensor, second: Tensor) -> Tensor:
    from scipy.stats import f

    a, b = (new - old).nan_to_num(), (second - old).nan_to_num()
    moved = ((a != 0) | (b != 0)).sum(1)
    both, apart = (a + b).square().sum(1), (a - b).square().sum(1)
    p = torch.from_numpy(f.sf((both / apart.clamp(min=1e-300)).numpy(), moved.clamp(min=1), moved.clamp(min=1)))
    return torch.where(moved > 0, -p.clamp(min=1e-300).log10(), 0.0).clamp(min=0.0)


def _parameter(name: str, old: Tensor, new: Tensor, second: Tensor | None) -> ParameterChange:
    known = ~old.isnan()
    relative, cosine = vector_change(old, new)
    matrix = {"spectral": None, "stable_rank": None, "effective_rank": None, "overlap": None}
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


def _spectra(old: Tensor, new: Tensor) -> dict[str, float]:
    if not old.numel() or torch.equal(old, new):
        return {"spectral": 0.0, "stable_rank": 0.0, "effective_rank": 0.0, "overlap": 1.0}
    difference = new - old
    values = torch.linalg.eigvalsh(_gram(difference)).clamp(min=0).sqrt()
    shares = values / values.sum()
    spectrum, before = torch.linalg.eigh(_gram(old))
    _, after = torch.linalg.eigh(_gram(new))
    # Directions that hold nothing are in no order.
    most = min(DIRECTIONS, int((spectrum > 1e-12 * spectrum[-1]).sum()))
    both = before[:, -most:].T @ after[:, -most:] if most else torch.zeros(0)
    largest = float(spectrum[-1].clamp(min=0).sqrt())
    return {
        "spectral": float(values[-1]) / largest if largest else None,
        "stable_rank": float(difference.square().sum() / values[-1].square()),
        "effective_rank": float(torch.special.entr(shares).sum().exp()),
        "overlap": float(both.square().sum()) / most if most else None,
    }


def _gram(matrix: Tensor) -> Tensor:
    # Of the shorter side: its eigenvalues are the squared singular values, and there are fewest of them.
    return matrix @ matrix.T if len(matrix) <= matrix.shape[1] else matrix.T @ matrix
