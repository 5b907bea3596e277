"""An adaptation on disk: the tensors that differ from its base, and adaptation.json, which names the base.

If a tensor differs in a few rows only, just these rows are stored. If low-rank factors changed a weight, the factors
are stored instead of the weight (`adapt/models/factor_files.py`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.errors import InputError
from adapt.files import atomic, read_json, write_json
from adapt.models.factor_files import factor_facts, factor_tensors, load_factors, with_factors
from adapt.models.factors import Factors
from adapt.models.loaded import Loaded
from adapt.models.locate import locate
from adapt.models.model import Model
from adapt.models.model_files import damaged, read_safetensors
from adapt.models.state import model_fingerprint, weights
from interventions.bits import changed_bits, fingerprint

FORMATS = (1, 2, 3)  # 1: whole tensors only; 2: some tensors as rows; 3: some weights as factors
_ROWS = ":rows"  # the tensor of row numbers, concatenated in the order of the names in "rows"


def save_adaptation(folder: Path, base: Loaded, model: Model, factors: Sequence[Factors] = (), **facts: Any) -> None:
    """Write what differs from the base: `weights.safetensors`, and last `adaptation.json`.

    If the process is killed, there is the whole adaptation, or no `adaptation.json` and this can be done again.

    Args:
        folder: The folder to write to.
        base: The base model, before it was adapted.
        model: The adapted model.
        factors: Factors that were merged into the model's weights. They are stored in place of these weights.
        **facts: Further entries of adaptation.json.
    """
    from safetensors.torch import save_file

    # A rebuilt output layer has other rows than the base's, so factors do not fit it. It is stored whole.
    shapes = [{name: tensor.shape for name, tensor in one.named_parameters()} for one in (base.model, model)]
    factors = [one for one in factors if len({each[f"{one.module}.weight"] for each in shapes}) == 1]
    merged = with_factors(base.model, factors)
    changed, rows = _differences({**weights(base.model.net), **merged}, weights(model.net))
    index = {_ROWS: torch.cat(list(rows.values()))} if rows else {}
    stored = {**changed, **index, **factor_tensors(factors)}
    (folder / "adaptation.json").unlink(missing_ok=True)  # it would not describe the new weights
    with atomic(folder / "weights.safetensors") as part:
        save_file(stored, part)
    write_json(
        folder / "adaptation.json",
        {
            "format": 3 if factors else 2 if rows else 1,
            "base": {"reference": base.reference, "fingerprint": base.fingerprint, "model": base.model.header()},
            "fingerprint": model_fingerprint(model),
            "model": model.header(),
            "tensors": sorted(changed),
            "rows": sorted(rows),
            **({"factors": factor_facts(factors, merged), "stored": fingerprint(stored)} if factors else {}),
            **facts,
        },
    )


def _differences(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors to store, and the row numbers of those that are stored as rows."""
    changed: dict[str, Tensor] = {}
    rows: dict[str, Tensor] = {}
    for name, tensor in sorted(after.items()):
        tensor, old = tensor.detach().cpu().contiguous(), before.get(name)
        if old is None or old.shape != tensor.shape:
            changed[name] = tensor
            continue
        different = changed_bits(old.cpu(), tensor)
        if not different.any():
            continue
        numbers = different.reshape(len(different), -1).any(1).nonzero().flatten().int() if tensor.dim() else None
        if numbers is not None and tensor[numbers].nbytes + numbers.nbytes < tensor.nbytes:
            changed[name], rows[name] = tensor[numbers], numbers
        else:
            changed[name] = tensor
    return changed, rows


def read_adaptation(reference: str) -> tuple[Path, dict[str, Any]]:
    """Return the path and the content of an adaptation's adaptation.json.

    Raises:
        InputError: there is no such adaptation, it is a whole model, or its file is damaged.
    """
    path = locate(reference)
    if path.name != "adaptation.json":
        raise InputError(f"'{reference}' is a whole model, not an adaptation. Give the folder of an `adapt` run.")
    return path, read_facts(path)


def adapted_tensors(path: Path, facts: Mapping[str, Any], base: Model) -> tuple[dict[str, Tensor], bool]:
    """Return the tensors in which an adaptation differs from its base, each one whole.

    The second value tells whether they equal those on the training machine bit for bit. With some of peft's methods,
    merging the factors may give different last bits on another machine.

    Raises:
        InputError: the stored tensors are damaged, or belong to another family of models.
    """
    family = base.header()["family"]
    if facts["model"].get("family") != family:
        raise InputError(
            f"'{path}' is an adaptation of the model family {facts['model'].get('family')!r}, but its base is of "
            f"{family!r}."
        )
    file = path.parent / "weights.safetensors"
    tensors = read_safetensors(file)[1]
    if facts.get("stored", fingerprint(tensors)) != fingerprint(tensors):
        raise damaged(f"in '{file}'")
    try:
        merged, exact = load_factors(base, facts.get("factors", []), tensors)
    except ValueError as error:
        raise InputError(f"The factors in '{file}' cannot be merged: {error}") from None
    return {**merged, **_whole(tensors, facts.get("rows", []), {**weights(base.net), **merged}, file)}, exact


def adapted_fingerprint(path: Path, facts: Mapping[str, Any], model: Model, exact: bool) -> str:
    """Return the fingerprint of a model with an adaptation's tensors; check it if `exact`.

    Raises:
        InputError: `exact` is True and the fingerprint differs from the one in adaptation.json.
    """
    actual = model_fingerprint(model)
    if exact and actual != facts["fingerprint"]:
        raise damaged(f"of the adaptation '{path}'")
    return actual


def read_facts(path: Path) -> dict[str, Any]:
    """Return the content of an adaptation.json. Raises InputError if it is damaged or of a newer format."""
    try:
        facts = read_json(path)
        texts = (facts["base"]["reference"], facts["base"]["fingerprint"], facts["fingerprint"])
        if not all(isinstance(text, str) for text in texts) or not isinstance(facts["model"], dict):
            raise TypeError("a value has the wrong type")
        if "model" not in facts["base"]:
            raise KeyError("model")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' is not a valid adaptation.json ({type(error).__name__}: {error}).") from None
    if facts.get("format") not in FORMATS:
        raise InputError(
            f"'{path}' has format {facts.get('format')}; this version reads formats {', '.join(map(str, FORMATS))}. "
            "Update innertune."
        )
    return facts


def _whole(stored: dict[str, Tensor], rows: Sequence[str], base: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Fill in the rows that are not stored, from the base, and return the whole tensors."""
    index, whole, first = stored.pop(_ROWS, torch.empty(0, dtype=torch.int32)), dict(stored), 0
    try:
        for name in rows:
            last = first + len(stored[name])
            whole[name] = base[name].clone().index_copy_(0, index[first:last].long(), stored[name])
            first = last
    except (KeyError, IndexError, RuntimeError, TypeError):
        raise damaged(f"in '{path}'") from None
    return whole
