"""Interventions to and from one safetensors file: tensors, and a JSON header that says what they are. No code in it.

save("accent.safetensors", {"accent": Steer(site, vector, 2.0)}, model, corpus="...")
with intervene(model, *load("accent.safetensors", model).values()):
    model.generate(audio)
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from interventions.ablate import Ablate
from interventions.bits import fingerprint
from interventions.clamp import Clamp, Scale, Set
from interventions.erase import Erase
from interventions.files import FileError, read_tensors, site_from_json, site_to_json, write_tensors
from interventions.intervention import Custom, Intervention
from interventions.lowrank import LowRank
from interventions.neurons import Neurons
from interventions.patch import Patch
from interventions.scope import Scope
from interventions.sites import Site, Step
from interventions.steer import Steer

# What a file may name. A class is found here and nowhere else, and its fields are all that is read.
OPERATIONS: dict[str, type[Intervention]] = {
    "ablate": Ablate,
    "clamp": Clamp,
    "erase": Erase,
    "lowrank": LowRank,
    "patch": Patch,
    "scale": Scale,
    "set": Set,
    "steer": Steer,
}
_KIND = "interventions"


def save(
    path: Path | str,
    interventions: Mapping[str, Intervention] | Sequence[Intervention],
    model: nn.Module | str,
    **provenance: Any,
) -> None:
    """Write interventions, in their order, and which model they are for; whole or not at all.

    `model` is that model, or the fingerprint that its user knows it by. `provenance` is what else the header says, as
    JSON. Interventions of a sequence are named by their numbers.

    Raises:
        ValueError: an intervention holds code (`Custom`), or what neither tensors nor JSON can hold.
    """
    if not isinstance(interventions, Mapping):
        interventions = {str(number): intervention for number, intervention in enumerate(interventions)}
    names = {kind: name for name, kind in OPERATIONS.items()}
    tensors: dict[str, Tensor] = {}
    entries = []
    for name, intervention in interventions.items():
        kind = type(intervention)
        if isinstance(intervention, Custom):
            raise ValueError(
                f"Intervention '{name}' is a Custom function, and a file holds no code. Say it by an operation: "
                f"{', '.join(OPERATIONS)}."
            )
        if kind not in names:
            raise ValueError(f"Intervention '{name}' is a {kind.__name__}, which interventions.store does not know.")
        said = {field.name: _encode(getattr(intervention, field.name), tensors) for field in fields(intervention)}
        entries.append({"name": name, "operation": names[kind], "fields": said})
    header = {"model": _named(model), "interventions": entries, "provenance": provenance}
    write_tensors(path, _KIND, header, tensors)


def load(path: Path | str, model: nn.Module | str, any_model: bool = False) -> dict[str, Intervention]:
    """Read the interventions that `save` wrote, by name in their order. Tensors come back bit for bit, untrained.

    `model` is the one they are for, as `save` was given it. `any_model=True` takes another, such as one that was
    trained on since; then only the sites must fit.

    Raises:
        FileError: there is no such file, it is damaged or of something else, or it is for another model.
    """
    header, tensors = read_tensors(path, _KIND)
    made, given = header.get("model"), _named(model)
    if not any_model and (not isinstance(made, dict) or made.get("fingerprint") != given["fingerprint"]):
        made = made if isinstance(made, dict) else {}
        raise FileError(
            f"'{path}' is for another model: for a {made.get('class') or 'model'} with fingerprint "
            f"{str(made.get('fingerprint'))[:12]}..., and this one is a {given['class'] or 'model'} with "
            f"{given['fingerprint'][:12]}.... Their weights differ. If the sites are the same, any_model=True tries."
        )
    loaded = {}
    for entry in _list(path, header.get("interventions")):
        operation = entry.get("operation")
        if operation not in OPERATIONS:
            raise FileError(f"'{path}' names an operation {operation!r}; there are {', '.join(OPERATIONS)}.")
        try:
            known = {field.name for field in fields(OPERATIONS[operation])}
            said = {name: _decode(value, tensors) for name, value in entry["fields"].items()}
            if unknown := sorted(said.keys() - known):
                raise ValueError(f"{operation} has no '{unknown[0]}'")
            loaded[str(entry["name"])] = OPERATIONS[operation](**said)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileError(f"'{path}' does not describe a {operation}: {error}") from None
    return loaded


def describe(path: Path | str) -> dict[str, Any]:
    """What a file says of itself, as JSON: `model`, `interventions`, `provenance`. Raises FileError as `load` does."""
    return read_tensors(path, _KIND)[0]


def _named(model: nn.Module | str) -> dict[str, str | None]:
    if isinstance(model, str):
        return {"fingerprint": model, "class": None}
    return {"fingerprint": fingerprint(model.state_dict()), "class": type(model).__name__}


def _list(path: Path | str, entries: Any) -> list[dict[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FileError(f"'{path}' holds no list of interventions.")
    return entries


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A field as JSON; what JSON does not have is an object with one key, which says what it is."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Site):
        return {"site": site_to_json(value)}
    if isinstance(value, Step):
        return {"step": asdict(value)}
    if isinstance(value, Scope):
        return {"scope": asdict(value)}
    if isinstance(value, Neurons):
        pairs = zip(value.sites, value.units, strict=True)
        return {"neurons": [[site_to_json(site), list(units)] for site, units in pairs]}
    if isinstance(value, (tuple, list)):
        return [_encode(part, tensors) for part in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"mapping": {key: _encode(part, tensors) for key, part in value.items()}}
    raise ValueError(f"A {type(value).__name__} cannot be stored: {value!r}.")


def _decode(said: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(said, list):
        return tuple(_decode(part, tensors) for part in said)
    if not isinstance(said, dict):
        return said
    ((kind, value),) = said.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "site":
        return site_from_json(value)
    if kind == "step":
        return Step(**value)
    if kind == "scope":
        return Scope(**{key: tuple(part) if isinstance(part, list) else part for key, part in value.items()})
    if kind == "neurons":
        return Neurons({site_from_json(site): units for site, units in value})
    if kind == "mapping":
        return {key: _decode(part, tensors) for key, part in value.items()}
    raise ValueError(f"nothing is called {kind!r}")
