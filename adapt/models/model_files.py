"""A whole model in one safetensors file: its tensors, and a JSON header that describes the model. No pickle."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from adapt.errors import InputError
from adapt.files import atomic, is_file, read_json
from adapt.models.model import Model
from adapt.models.state import weights
from interventions.bits import fingerprint

FORMAT = 1
_PICKLES = {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}


def save_model(path: Path, model: Model, half: bool = False, **facts: Any) -> None:
    """Write a whole model to a safetensors file, and the files that its family needs in the same folder.

    Args:
        path: The file to write.
        model: The model to save.
        half: Store matrices in 16 bits. The file is half as large, and the saved weights are rounded.
        **facts: Further entries of the header, such as data, seed and error rates.
    """
    from safetensors.torch import save_file

    current = weights(model.net)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in current.items()}
    if half:
        state = {name: tensor.half() if tensor.dim() > 1 else tensor for name, tensor in state.items()}
    stored = {name: tensor.to(current[name].dtype) for name, tensor in state.items()}
    header = {"format": FORMAT, **model.header(), "fingerprint": fingerprint(stored, model.vocabulary), **facts}
    model.save_files(path.parent)
    with atomic(path) as part:
        # transformers requires the entry "format" in files of its models.
        save_file(state, part, metadata={"format": "pt", "innertune": json.dumps(header, ensure_ascii=False)})


def read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return innertune's header (empty if the file has none) and all tensors of a safetensors file.

    Raises:
        InputError: the file is a pickle, is damaged, or cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if path.suffix.lower() in _PICKLES:
        raise InputError(
            f"'{path}' is a pickle file. Pickles can run arbitrary code when loaded, so innertune does not read them. "
            "If you trust the file, convert it: "
            "safetensors.torch.save_file(torch.load(path, weights_only=True), 'weights.safetensors')."
        )
    header = read_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def read_header(path: Path) -> dict[str, Any]:
    """Return innertune's header of a safetensors file; empty if it has none. Raises InputError if it is damaged.

    A file that `innertune export` wrote has its header in `model.json` in the same folder.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("innertune", "{}"))
    except (SafetensorError, ValueError, RecursionError, OSError) as error:  # json raises ValueError
        raise _unreadable(path, error) from None
    if not isinstance(header, dict):
        raise InputError(f"'{path}' has an invalid header: expected a JSON object, got {str(header)[:60]!r}.")
    return header or _exported_header(path.with_name("model.json"))


def damaged(location: str) -> InputError:
    """Return the error for weights whose fingerprint is not the stored one."""
    return InputError(f"The weights {location} do not match their stored fingerprint: they were changed or damaged.")


def _exported_header(path: Path) -> dict[str, Any]:
    try:
        header = read_json(path) if is_file(path) else {}
    except ValueError as error:
        raise InputError(f"'{path}' is not valid JSON ({error}).") from None
    return header if isinstance(header, dict) and {"class", "family"} <= header.keys() else {}


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"'{path}' is not a complete safetensors file ({error}).")


def check_sizes(header: Mapping[str, Any], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Check a header before a network of its sizes is made: no size may exceed those of the tensors.

    Raises:
        InputError: a size in the header's "shape" is larger than every dimension of the tensors.
    """
    shape = header.get("shape")
    largest = max((size for tensor in tensors.values() for size in tensor.shape), default=0)
    for name, value in shape.items() if isinstance(shape, Mapping) else ():
        if isinstance(value, (int, float)) and value > largest:
            raise InputError(
                f"'{path}' has a header with {name}={value}, but no tensor of that size: it was changed or damaged."
            )
