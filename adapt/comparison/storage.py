"""Store nested dataclasses as JSON and named tensors, and restore them according to their type hints.

Numbers, strings, lists, tuples, mappings and dataclasses become JSON. Tensors, arrays, bytes and `Scores` become
tensors for a safetensors file, which the JSON refers to by name. Numbers that are not finite are written as strings.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor

from interventions.files import site_from_json, site_to_json
from interventions.neurons import Scores

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def to_json(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """Return `value` as JSON data, and add its tensors to `tensors` under names that start with `name`.

    Raises:
        TypeError: The value, or a part of it, is of a type that cannot be stored.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return (
            value if math.isfinite(value) else "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        )
    if isinstance(value, Scores):
        for i, site in enumerate(value.sites):
            tensors[f"{name}.{i}"] = value[site]
        return {"tensors": name, "sites": [site_to_json(site) for site in value.sites]}
    if isinstance(value, np.ndarray):
        # The memory layout affects the rounding of sums, so an array in column-major order is stored transposed.
        transposed = value.flags.f_contiguous and not value.flags.c_contiguous
        tensors[name] = torch.from_numpy(np.ascontiguousarray(value.T if transposed else value))
        return {"tensor": name, "transposed": transposed}
    if isinstance(value, bytes):
        tensors[name] = torch.from_numpy(np.frombuffer(value, dtype=np.uint8).copy())
        return {"tensor": name}
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: to_json(getattr(value, field.name), tensors, f"{name}.{field.name}") for field in fields}
    if isinstance(value, Mapping):
        return {str(key): to_json(item, tensors, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item, tensors, f"{name}.{i}") for i, item in enumerate(value)]
    raise TypeError(f"{name}: a value of type {type(value).__name__} cannot be stored.")


def from_json(hint: Any, value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Restore what `to_json` returned, given its type hint. Lists whose type is `Any` become tuples.

    Raises:
        KeyError, TypeError, ValueError: The JSON or the tensors do not match the type.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        (hint,) = (one for one in arguments if one is not NoneType)
        return from_json(hint, value, tensors)
    if hint is float or hint is Any:
        return _number(value)
    if hint in (int, str, bool) or origin is Literal:
        return value
    if hint is Scores:
        stored = enumerate(value["sites"])
        return Scores({site_from_json(site): tensors[f"{value['tensors']}.{i}"] for i, site in stored})
    if hint is Tensor:
        return tensors[value["tensor"]]
    if hint is bytes:
        return tensors[value["tensor"]].numpy().tobytes()
    if origin is np.ndarray:
        array = tensors[value["tensor"]].numpy()
        return array.T if value["transposed"] else array
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        names = [field.name for field in dataclasses.fields(hint)]
        return hint(**{name: from_json(hints[name], value[name], tensors) for name in names})
    if isinstance(origin, type) and issubclass(origin, Mapping):
        key, item = arguments
        return {key(name): from_json(item, one, tensors) for name, one in value.items()}
    if origin is tuple and arguments[-1] is not Ellipsis:
        return tuple(from_json(item, one, tensors) for item, one in zip(arguments, value, strict=True))
    if origin in (list, tuple):
        return origin(from_json(arguments[0], one, tensors) for one in value)
    raise TypeError(f"Values of type {hint} cannot be restored.")


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_number, value))
    return _NOT_FINITE.get(value, value) if isinstance(value, str) else value
