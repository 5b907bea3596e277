"""Candidates to label next: what the model writes for each, and how unsure it is. Finished blocks are kept on disk."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from adapt.checks import check_choice
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.files import is_file, make_folder, read_json, write_json
from adapt.formatting import duration
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.planning.measures import disagreements, entropies, gradient_lengths, why_unmeasured
from adapt.training.start import digests

log = logging.getLogger(__name__)
Criterion = Literal["combined", "coverage", "gradient", "confusion", "disagreement", "random"]
CRITERIA = ("combined", "coverage", "gradient", "confusion", "disagreement", "random")
BLOCK = 200  # candidates between writes, so that an interruption loses at most these
_MEASURES = {"gradient": gradient_lengths, "confusion": entropies, "disagreement": disagreements}


@dataclass(frozen=True)
class Measured:
    """What a model makes of candidates without references.

    Attributes:
        hypotheses: The model's text for each candidate.
        values: For each measure, `(candidates,)`; NaN where it could not be measured. A high value is promising.
    """

    hypotheses: tuple[str, ...]
    values: dict[str, Tensor]


def measures_for(model: Model, criterion: str) -> tuple[str, ...]:
    """Return the names of the measures that a criterion needs.

    Raises:
        InputError: there is no such criterion, or it does not exist for this model.
    """
    check_choice("criterion", criterion, CRITERIA)
    possible = tuple(name for name in _MEASURES if name != "disagreement" or model.reads_audio)
    if criterion == "disagreement" and not model.reads_audio:
        raise InputError(
            "criterion='disagreement' compares speeds of speech, and this model reads text. Give combined, gradient, "
            "confusion, coverage or random."
        )
    return {"combined": possible, "coverage": (), "random": ()}.get(criterion, (criterion,))


def measure(
    loaded: Loaded, candidates: Sequence[Example], names: Sequence[str], loader: Loader, folder: Path | None = None
) -> Measured:
    """Decode candidates, and measure how unsure the model is of each.

    Args:
        loaded: The model.
        candidates: Recordings or sentence pairs; their own texts are not used.
        names: The measures: "gradient", "confusion", "disagreement".
        loader: Batches the candidates.
        folder: Where finished blocks are kept, so that an interrupted measurement continues; None for nowhere.

    Raises:
        InputError: `folder` holds the blocks of other candidates or of another model, or a measure exists for none of
            the candidates.
    """
    hypotheses: list[str] = []
    values: dict[str, list[float]] = {name: [] for name in names}
    started = time.perf_counter()
    if folder is not None:
        make_folder(folder)
    for start in range(0, len(candidates), BLOCK):
        block = candidates[start : start + BLOCK]
        path = None if folder is None else folder / f"measured-{start}.json"
        found = None if path is None else _read(path, loaded, block, names)
        if found is None:
            found = _block(loaded, block, names, loader)
            if path is not None:
                write_json(path, found)
        hypotheses += found["hypotheses"]
        for name in names:
            values[name] += [math.nan if value is None else value for value in found[name]]
        done = start + len(block)
        if done < len(candidates):
            left = (time.perf_counter() - started) / done * (len(candidates) - done)
            log.info("Measured %d of %d candidates; about %s left.", done, len(candidates), duration(left))
    measured = {name: torch.tensor(own, dtype=torch.float64) for name, own in values.items()}
    for name, own in measured.items():
        _check_measured(name, own, loaded.model, candidates, hypotheses)
    return Measured(tuple(hypotheses), measured)


def ranks(values: Tensor) -> Tensor:
    """Return the relative rank of each value, above 0 and below 1, `(values,)`; NaN has the rank of the median.

    Equal values have the same rank.
    """
    known = values[~values.isnan()]
    if not len(known):
        return torch.full_like(values, 0.5)
    filled = torch.where(values.isnan(), known.median(), values)
    _, place, count = filled.unique(return_inverse=True, return_counts=True)
    middle = count.cumsum(0) - count / 2
    return (middle / len(values))[place]


def _check_measured(
    name: str, values: Tensor, model: Model, candidates: Sequence[Example], hypotheses: Sequence[str]
) -> None:
    missing = values.isnan().nonzero().flatten().tolist()
    if not missing:
        return
    first = int(missing[0])
    reason = f"{candidates[first].name}: {why_unmeasured(model, candidates[first], hypotheses[first])}"
    if len(missing) == len(candidates):
        raise InputError(f"The {name} of no candidate can be measured. {reason} Or choose by criterion=coverage.")
    log.warning("The %s of %d of %d candidates is not known. %s", name, len(missing), len(candidates), reason)


def _block(loaded: Loaded, block: Sequence[Example], names: Sequence[str], loader: Loader) -> dict:
    model = loaded.model
    hypotheses = decode_examples(model, model.task, block, loader, "hypotheses")
    found = {**_identity(loaded, block), "hypotheses": hypotheses}
    for name in names:
        own = _MEASURES[name](model, block, hypotheses, loader).tolist()
        found[name] = [None if math.isnan(value) else value for value in own]
    return found


def _identity(loaded: Loaded, block: Sequence[Example]) -> dict[str, Any]:
    # Names do not tell recordings in memory apart, nor an edited file from what it was.
    names = [example.name for example in block]
    return {"model": loaded.fingerprint, "candidates": names, "inputs": digests(block)["inputs"]}


def _read(path: Path, loaded: Loaded, block: Sequence[Example], names: Sequence[str]) -> dict | None:
    if not is_file(path):
        return None
    found = read_json(path)
    if any(found.get(name) != value for name, value in _identity(loaded, block).items()):
        raise InputError(
            f"'{path}' holds measurements of another model or of other candidates. Give the same ones, or another "
            "folder."
        )
    return found if all(name in found for name in names) else None
