"""Models and adaptations on disk: safetensors with a JSON header, nothing that can run code.

A model in the transformers format (a folder with `config.json`, or a hub id) is read by `adapt/models/hf.py`.
"""

import importlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapt.errors import InputError
from adapt.files import atomic, write_json
from adapt.models import hf
from adapt.models.factor_files import factor_facts, factor_tensors, load_factors, with_factors
from adapt.models.factors import Factors
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from interventions.bits import changed_bits, fingerprint

FORMAT = 1
# Of an adaptation; 2 has tensors of which only the rows that differ are stored, 3 factors in place of what they make.
ADAPTATION_FORMATS = (1, 2, 3)
_ROWS = ":rows"  # the tensor that says which, in the order of names
EMBEDDED = Path(__file__).parent / "embedded"
_PICKLES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}


def weights(net: nn.Module) -> dict[str, Tensor]:
    """The state of a network, tied weights once, under the name that `named_parameters` gives them."""
    tied = dict(net.named_parameters(remove_duplicate=False)).keys() - dict(net.named_parameters()).keys()
    return {name: tensor for name, tensor in net.state_dict().items() if name not in tied}


def model_fingerprint(model: Model) -> str:
    """The fingerprint of a model's weights and alphabet."""
    return fingerprint(weights(model.net), model.vocabulary)


def save_model(path: Path, model: Model, half: bool = False, **facts: Any) -> None:
    """Write a whole model to one safetensors file. `facts` are kept in its header (data, seed, error rates).

    `half` stores matrices in 16 bits: half the file, and a model that is no longer the one in memory bit for bit.
    """
    from safetensors.torch import save_file

    own = weights(model.net)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in own.items()}
    if half:
        state = {name: tensor.half() if tensor.dim() > 1 else tensor for name, tensor in state.items()}
    stored = {name: tensor.to(own[name].dtype) for name, tensor in state.items()}
    named = fingerprint(stored, model.vocabulary)
    header = {"format": FORMAT, **model.header(), "fingerprint": named, **facts}
    model.save_files(path.parent)
    with atomic(path) as part:
        # "format" is what transformers looks for in a file of its models.
        save_file(state, part, metadata={"format": "pt", "innertune": json.dumps(header, ensure_ascii=False)})


def save_adaptation(folder: Path, base: Loaded, model: Model, factors: Sequence[Factors] = (), **facts: Any) -> None:
    """Write what differs from the base, and what the base is. `adaptation.json` comes last.

    Of a tensor of which few rows differ, only these are written: neurons, or the embeddings of words that came up. Of
    weights that `factors` were merged into, these are written; beside them, what they do not make of the base.
    """
    from safetensors.torch import save_file

    # A rebuilt output layer has other rows than the base's, into which its factors would not fit: it is written whole.
    shapes = [{name: own.shape for name, own in one.named_parameters()} for one in (base.model, model)]
    factors = [one for one in factors if len({each[f"{one.module}.weight"] for each in shapes}) == 1]
    merged = with_factors(base.model, factors)
    before = {**weights(base.model.net), **merged}
    different: dict[str, Tensor] = {}
    rows: dict[str, Tensor] = {}
    for name, tensor in sorted(weights(model.net).items()):
        tensor, old = tensor.detach().cpu().contiguous(), before.get(name)
        if old is None or old.shape != tensor.shape:
            different[name] = tensor
            continue
        changed = changed_bits(old.cpu(), tensor)
        if not changed.any():
            continue
        own = changed.reshape(len(changed), -1).any(1).nonzero().flatten().int() if tensor.dim() else None
        if own is not None and tensor[own].nbytes + own.nbytes < tensor.nbytes:
            different[name], rows[name] = tensor[own], own
        else:
            different[name] = tensor
    index = {_ROWS: torch.cat(list(rows.values()))} if rows else {}
    stored = {**different, **index, **factor_tensors(factors)}
    with atomic(folder / "weights.safetensors") as part:
        save_file(stored, part)
    write_json(
        folder / "adaptation.json",
        {
            "format": 3 if factors else 2 if rows else FORMAT,
            "base": {"reference": base.reference, "fingerprint": base.fingerprint, "model": base.model.header()},
            "fingerprint": model_fingerprint(model),
            "model": model.header(),
            "tensors": sorted(different),
            "rows": sorted(rows),
            **({"factors": factor_facts(factors, merged), "stored": fingerprint(stored)} if factors else {}),
            **facts,
        },
    )


def _whole(stored: dict[str, Tensor], rows: Sequence[str], base: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors of an adaptation, with the base's rows in those of which only some were stored."""
    index, whole, first = stored.pop(_ROWS, torch.empty(0, dtype=torch.int32)), dict(stored), 0
    try:
        for name in rows:
            last = first + len(stored[name])
            whole[name] = base[name].clone().index_copy_(0, index[first:last].long(), stored[name])
            first = last
    except (KeyError, IndexError, RuntimeError, TypeError):
        raise _damaged(f"in '{path}'") from None
    return whole


def load_model(pretrained: str, base: str | None = None) -> Loaded:
    """Load a model, in eval mode: a run's folder, an adaptation, a safetensors file, an embedded name (us-english), a
    folder in the transformers format, or OWNER/NAME on the Hugging Face hub.

    `base` says where an adaptation's base lies, if it is no longer where it was.

    Raises:
        InputError: there is no such model, the file is damaged or a pickle, or it does not belong to its base.
    """
    return _load(pretrained, base, None, frozenset())


def _load(pretrained: str, base: str | None, described: Any, visited: frozenset[Path]) -> Loaded:
    # `described` is the header to use where the file has none; `visited` are the adaptations that wait for this base.
    if hf.is_hub_id(pretrained):
        return hf.load(pretrained)
    path = _locate(pretrained)
    if path.name == "config.json":
        loaded = hf.load(str(path.parent.absolute()))
        ours = path.with_name("model.safetensors")
        header = _read_header(ours) if ours.is_file() else {}
        if header.get("fingerprint", loaded.fingerprint) != loaded.fingerprint:
            raise _damaged(f"in '{ours}'")
        if "family" in header:  # a run of ours, which also knows how the model is to be used
            model = loaded.model.with_header(header)
            own = {"topographic": header["topographic"]} if "topographic" in header else {}
            loaded = replace(loaded, model=model, header={**loaded.header, **model.header(), **own})
        return replace(loaded, reference=pretrained) if path.is_relative_to(EMBEDDED) else loaded
    if path.name == "adaptation.json":
        if path.resolve() in visited:
            raise InputError(f"'{path}' is named as its own base.")
        return _load_adaptation(path, pretrained, base, visited | {path.resolve()})
    header, state = read_safetensors(path)
    header = header or described
    if not header:
        raise InputError(
            f"'{path}' holds weights but does not say of which model. Say it: model=wav2letter or another "
            "(`innertune show model`), and model.labels='...', its characters in the order of the output units."
        )
    model = _build(header, path)
    load_weights(model, state, path)
    found = model_fingerprint(model)
    if header.get("fingerprint", found) != found:
        raise _damaged(f"in '{path}'")
    return Loaded(model.eval(), _absolute(pretrained), found, header)


def load_weights(model: Model, state: Mapping[str, Tensor], path: Path) -> None:
    """Fill a model's network with weights (16-bit ones become 32-bit). Raises InputError, naming the first unlike."""
    own = weights(model.net)
    for name, tensor in own.items():
        if name not in state or state[name].shape != tensor.shape:
            has = f"one of shape {tuple(state[name].shape)}" if name in state else "none"
            writes = name.startswith(model.head.removeprefix("net."))
            labels = f" The label list has {len(model.vocabulary)} entries, the blank included." if writes else ""
            raise InputError(f"'{path}' does not fit: '{name}' should be {tuple(tensor.shape)}, it has {has}.{labels}")
    unknown = sorted(state.keys() - own.keys())
    if unknown:
        raise InputError(f"'{path}' does not fit: the model has no '{unknown[0]}'.")
    # Not strict, for tied weights have further names; that none is missing was checked.
    model.net.load_state_dict({name: state[name].to(tensor.dtype) for name, tensor in own.items()}, strict=False)


def read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return our header (empty where the file has none) and all tensors. Raises InputError."""
    from safetensors import SafetensorError, safe_open

    if path.suffix.lower() in _PICKLES:
        raise InputError(
            f"'{path}' is a pickle, which may run any code when read, so it is not. Where you trust it, convert it: "
            "safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')."
        )
    header = _read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise InputError(f"'{path}' is not a whole safetensors file ({error}).") from None


def _read_header(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("innertune", "{}"))
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise InputError(f"'{path}' is not a whole safetensors file ({error}).") from None
    if not isinstance(header, dict):
        raise InputError(f"'{path}' has a header that is not ours: expected a JSON object, got {str(header)[:60]!r}.")
    return header or _exported(path.with_name("model.json"))


def _exported(path: Path) -> dict[str, Any]:
    """What `innertune export` says of a plain state dict beside it; nothing where it did not write there."""
    try:
        header = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise InputError(f"'{path}' is not JSON ({error}).") from None
    return header if isinstance(header, dict) and {"class", "family"} <= header.keys() else {}


def _damaged(where: str) -> InputError:
    return InputError(f"The weights {where} are not those it was written with: they were changed or damaged.")


def has_header(reference: str) -> bool:
    """Whether a model says itself what it is; bare weights do not. Raises InputError where there is no such model."""
    path = _locate(reference)
    return path.suffix == ".json" or bool(read_safetensors(path)[0])


def _locate(reference: str) -> Path:
    path = Path(reference).expanduser()
    places = [path / "adaptation" / "adaptation.json", path / "adaptation.json"]
    places += [path / "config.json"] * hf.is_folder(path) + [path / "model.safetensors"]
    for place in [path, *places] if path.is_file() else places:
        if place.is_file():
            return place
    if re.fullmatch(r"[\w-]+", reference):
        for place in (EMBEDDED / f"{reference}.safetensors", EMBEDDED / reference / "config.json"):
            if place.is_file():
                return place
    if path.is_dir() and (path / "checkpoints").is_dir():
        raise InputError(f"The run in '{path}' was not finished. Go on with it: the same command with resume=true.")
    names = ", ".join(embedded_models()) or "none"
    raise InputError(
        f"There is no model at '{reference}'. Give the folder of a finished run, a .safetensors file, a folder in the "
        f"transformers format, or the name of an embedded model ({names})."
    )


def embedded_models() -> list[str]:
    """The names of the models that come with the package."""
    files = {file.stem for file in EMBEDDED.glob("*.safetensors")}
    return sorted(files | {folder.name for folder in EMBEDDED.iterdir() if hf.is_folder(folder)})


def read_adaptation(reference: str) -> tuple[Path, dict[str, Any]]:
    """Where an adaptation's `adaptation.json` lies, and what it says; its weights are not read yet.

    Raises:
        InputError: there is none at `reference`, or it is not one as this version reads it.
    """
    path = _locate(reference)
    if path.name != "adaptation.json":
        raise InputError(f"'{reference}' is a whole model, and no adaptation. Give the folder of an `adapt` run.")
    return path, _facts(path)


def adapted_tensors(path: Path, facts: Mapping[str, Any], base: Model) -> tuple[dict[str, Tensor], bool]:
    """The tensors in which an adaptation differs from its base, whole, however they are stored; and whether with them
    the base must have exactly the fingerprint that the adaptation names.

    Raises:
        InputError: the stored tensors are damaged, or of another family of models.
    """
    family = base.header()["family"]
    if facts["model"].get("family") != family:
        raise InputError(f"'{path}' is an adaptation of a {facts['model'].get('family')!r}, its base is a {family!r}.")
    stored = path.parent / "weights.safetensors"
    tensors = read_safetensors(stored)[1]
    if facts.get("stored", fingerprint(tensors)) != fingerprint(tensors):
        raise _damaged(f"in '{stored}'")
    try:
        made, exact = load_factors(base, facts.get("factors", []), tensors)
    except ValueError as error:
        raise InputError(f"'{stored}' has factors that cannot be merged here: {error}") from None
    # What peft computes may differ in a last bit from one machine to another; the base and the factors do not.
    return {**made, **_whole(tensors, facts.get("rows", []), {**weights(base.net), **made}, stored)}, exact


def adapted_fingerprint(path: Path, facts: Mapping[str, Any], model: Model, exact: bool) -> str:
    """The fingerprint of a model with an adaptation's tensors in it. Raises InputError where it should be another."""
    found = model_fingerprint(model)
    if exact and found != facts["fingerprint"]:
        raise _damaged(f"beside '{path}'")
    return found


def _facts(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        texts = (facts["base"]["reference"], facts["base"]["fingerprint"], facts["fingerprint"])
        if not all(isinstance(text, str) for text in texts) or not isinstance(facts["model"], dict):
            raise TypeError("a value is of another kind")
        if "model" not in facts["base"]:
            raise KeyError("model")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"'{path}' is not an adaptation as we write it ({type(error).__name__}: {error}).") from None
    if facts.get("format") not in ADAPTATION_FORMATS:
        raise InputError(
            f"'{path}' has format {facts.get('format')}, this version reads {', '.join(map(str, ADAPTATION_FORMATS))}. "
            "Update innertune."
        )
    return facts


def _load_adaptation(path: Path, reference: str, base: str | None, visited: frozenset[Path]) -> Loaded:
    facts = _facts(path)
    named, wanted, described = (facts["base"][key] for key in ("reference", "fingerprint", "model"))
    # A folder that was moved as a whole keeps its base where it was beside it.
    run = path.parent.parent
    beside = run.parent / Path(named).name
    moved = not Path(named).exists() and beside.exists() and beside.resolve() != run.resolve()
    place = base or (str(beside) if moved else named)
    try:
        parent = _load(place, None, described, visited)
    except InputError as error:
        raise InputError(f"The adaptation '{path}' needs its base: {error} Say where it is: model.base=...") from None
    if parent.fingerprint != wanted:
        raise InputError(
            f"The adaptation '{path}' belongs to another base: it was made from fingerprint {wanted[:12]} ('{named}'), "
            f"'{place}' has {parent.fingerprint[:12]}. Give the right one: model.base=..."
        )
    different, exact = adapted_tensors(path, facts, parent.model)
    model = parent.model.with_header(facts["model"])
    load_weights(model, {**weights(parent.model.net), **different}, path.parent / "weights.safetensors")
    found = adapted_fingerprint(path, facts, model, exact)
    return Loaded(model.eval(), _absolute(reference), found, {**facts["model"], **facts})


def _build(header: Mapping[str, Any], path: Path) -> Model:
    # The header is only data: it picks one of our own modules by a checked name, and gives it plain numbers.
    family = str(header.get("family", ""))
    if not re.fullmatch(r"[a-z0-9_]+", family) or header.get("format", FORMAT) != FORMAT:
        raise InputError(
            f"'{path}' names the model family {family!r}, format {header.get('format')}: unknown to this version."
        )
    if not (Path(__file__).parent / f"{family}.py").is_file():
        raise InputError(f"'{path}' names the model family {family!r}, which this version does not have.")
    module = importlib.import_module(f"adapt.models.{family}")
    if not hasattr(module, "from_header"):
        raise InputError(
            f"'{path}' names the model family {family!r}, which is no model that one file makes. If its config.json "
            "lies beside it, give their folder."
        )
    return module.from_header(dict(header))


def _absolute(reference: str) -> str:
    path = Path(reference).expanduser()
    return str(path.absolute()) if path.exists() else reference
