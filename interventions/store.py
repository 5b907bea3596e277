"""Save and load interventions: a safetensors file with tensors and a JSON header, and no code.

save("accent.safetensors", {"accent": Steer(site, vector, 2.0)}, model, corpus="...")
with intervene(model, *load("accent.safetensors", model).values()):
    model.generate(audio)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast

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

# A file can only name these classes, and only their fields are read: loading never runs code from a file.
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
    """Write interventions, in order, and the fingerprint of their model to a file, atomically.

    Args:
        path: the file to write.
        interventions: interventions by name; those of a sequence are named by their numbers.
        model: the model that the interventions belong to, or its fingerprint.
        provenance: further JSON data for the header.

    Raises:
        ValueError: If an intervention contains code (`Custom`), or a value that neither tensors nor JSON can represent.
    """
    if not isinstance(interventions, Mapping):
        interventions = {str(number): intervention for number, intervention in enumerate(interventions)}
    names = {kind: name for name, kind in OPERATIONS.items()}
    tensors: dict[str, Tensor] = {}
    entries: list[dict[str, Any]] = []
    for name, intervention in interventions.items():
        kind = type(intervention)
        if isinstance(intervention, Custom):
            raise ValueError(
                f"Intervention '{name}' is a Custom function, and files contain no code. Use one of the operations "
                f"{', '.join(OPERATIONS)} instead."
            )
        if kind not in names:
            raise ValueError(f"Intervention '{name}' is a {kind.__name__}, which cannot be stored.")
        values = {field.name: _encode(getattr(intervention, field.name), tensors) for field in fields(intervention)}
        entries.append({"name": name, "operation": names[kind], "fields": values})
    header = {"model": _identify(model), "interventions": entries, "provenance": provenance}
    write_tensors(path, _KIND, header, tensors)


def load(path: Path | str, model: nn.Module | str, any_model: bool = False) -> dict[str, Intervention]:
    """Read the interventions that `save` wrote, by name and in order. Tensors equal the saved ones bit for bit.

    Args:
        path: the file to read.
        model: the model that the interventions belong to, or its fingerprint, as for `save`.
        any_model: accept another model with the same sites, such as one that was trained further.

    Raises:
        FileError: If the file is missing, damaged, of another kind, or belongs to another model.
    """
    header, tensors = read_tensors(path, _KIND)
    stored, given = header.get("model"), _identify(model)
    stored = cast(dict[str, Any], stored) if isinstance(stored, dict) else {}
    if not any_model and stored.get("fingerprint") != given["fingerprint"]:
        raise FileError(
            f"'{path}' belongs to another model: to a {stored.get('class') or 'model'} with fingerprint "
            f"{str(stored.get('fingerprint'))[:12]}..., but this is a {given['class'] or 'model'} with fingerprint "
            f"{str(given['fingerprint'])[:12]}.... Their weights differ. If both have the same sites, use "
            "any_model=True."
        )
    loaded: dict[str, Intervention] = {}
    for entry in _entries(path, header.get("interventions")):
        operation = entry.get("operation")
        if operation not in OPERATIONS:
            raise FileError(
                f"'{path}' names an unknown operation {operation!r}. Known operations: {', '.join(OPERATIONS)}."
            )
        try:
            known = {field.name for field in fields(OPERATIONS[operation])}
            values = {name: _decode(value, tensors) for name, value in entry["fields"].items()}
            if unknown := sorted(values.keys() - known):
                raise ValueError(f"{operation} has no '{unknown[0]}'")
            loaded[str(entry["name"])] = OPERATIONS[operation](**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FileError(f"'{path}' does not describe a {operation}: {error}") from None
    return loaded


def describe(path: Path | str) -> dict[str, Any]:
    """Return the header of a file: `model`, `interventions` and `provenance`. Raises FileError as `load` does."""
    return read_tensors(path, _KIND)[0]


def _identify(model: nn.Module | str) -> dict[str, str | None]:
    if isinstance(model, str):
        return {"fingerprint": model, "class": None}
    return {"fingerprint": fingerprint(model.state_dict()), "class": type(model).__name__}


def _entries(path: Path | str, entries: Any) -> list[dict[str, Any]]:
    if isinstance(entries, list):
        items = cast(list[Any], entries)
        if all(isinstance(item, dict) for item in items):
            return items
    raise FileError(f"'{path}' has no list of interventions.")


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a field as JSON data. Values of types that JSON lacks become objects whose only key names the type."""
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
        return [_encode(part, tensors) for part in cast(Iterable[Any], value)]
    if isinstance(value, Mapping):
        mapping = cast(Mapping[Any, Any], value)
        if all(isinstance(key, str) for key in mapping):
            return {"mapping": {key: _encode(part, tensors) for key, part in mapping.items()}}
    raise ValueError(f"A {type(cast(object, value)).__name__} cannot be stored: {value!r}.")


def _decode(data: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(data, list):
        return tuple(_decode(part, tensors) for part in cast(list[Any], data))
    if not isinstance(data, dict):
        return data
    ((kind, value),) = cast(dict[str, Any], data).items()
    if kind == "tensor":
        return tensors[value]
    if kind == "site":
        return site_from_json(value)
    if kind == "step":
        return Step(**value)
    if kind == "scope":
        ranges: dict[str, Any] = {key: tuple(part) for key, part in value.items() if isinstance(part, list)}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        return Scope(**{**value, **ranges})
    if kind == "neurons":
        return Neurons({site_from_json(site): units for site, units in value})
    if kind == "mapping":
        return {key: _decode(part, tensors) for key, part in cast(dict[str, Any], value).items()}
    raise ValueError(f"there is no type {kind!r}")
