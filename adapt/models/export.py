"""A model as others read it, without anything of ours: a folder in the transformers format, or a plain state dict."""

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from adapt.errors import InputError
from adapt.files import write_json
from adapt.models import hf
from adapt.models.model import Model
from interventions.fold import fold, unfold
from interventions.intervention import Intervention

DType = Literal["float32", "float16", "bfloat16"]


def export(
    model: Model, folder: Path, dtype: DType = "float32", interventions: Sequence[Intervention] = ()
) -> list[str]:
    """Write a model into a new folder, whole or not at all; return the names of the files.

    Of a network of transformers' it is what its `from_pretrained` and its Auto classes load, with the files of its
    processor, and a generation config that writes as this model does (language, beams, length). Of a Wav2Letter it is
    `model.safetensors`, the state dict of the network, and `model.json`, which says its shape and its alphabet.
    `interventions` are folded into the weights that are written. The model itself stays as it is.

    What was written is read back, and every weight compared.

    Raises:
        InputError: there is something in the folder, an intervention cannot be folded, or the format cannot hold what
            it needs (a bias where the architecture has none).
    """
    if dtype not in get_args(DType):
        raise InputError(f"dtype must be {', '.join(get_args(DType))}, got {dtype!r}.")
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"output={folder}: '{place}' is a file. Give a new folder.")
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"There is something in '{folder}' already. Give a new folder: output=...")
    try:
        folded = fold(model, *interventions)
    except ValueError as error:
        raise InputError(f"fold: {error}") from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        net = copy.deepcopy(model.net).to(getattr(torch, dtype)) if dtype != "float32" else model.net
        if hasattr(net, "save_pretrained"):
            _write_folder(model, net, made)
        else:
            _write_state(model, net, made)
        names = sorted(path.name for path in made.iterdir())
        mask = _umask()
        made.chmod(0o777 & ~mask)  # private so far, some of the files too; an export is as any other files are
        for path in made.iterdir():
            path.chmod(0o666 & ~mask)
            _sync(path)
        made.replace(folder)
        _sync(folder.parent)
    finally:
        unfold(folded)
        _remove(made)
    return names


def _write_folder(model: Model, net: Any, made: Path) -> None:
    model.save_files(made)
    known = getattr(net, "generation_config", None)
    net.generation_config = copy.deepcopy(known)
    for name, value in getattr(model, "generation", {}).items():
        setattr(net.generation_config, name, value)
    try:
        net.save_pretrained(made)
    finally:
        net.generation_config = known
    loaded = hf.load(str(made)).model.net.state_dict()
    for name, tensor in net.state_dict().items():
        # Positions that follow from their number are made anew, and in 32 bits.
        again = loaded.get(name)
        if again is None or not (torch.equal(again, tensor.to(again.dtype)) or _fixed(model, name)):
            raise InputError(
                f"A plain {type(net).__name__} cannot hold '{name}' as it is here. Where something was folded into it, "
                "fold at another site, which has a bias of its own."
            )


def _fixed(model: Model, name: str) -> bool:
    return f"net.{name}" in model.never_trained


def _write_state(model: Model, net: nn.Module, made: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    save_file(state, made / "model.safetensors", metadata={"format": "pt"})
    again: dict[str, Tensor] = load_file(made / "model.safetensors")
    if not all(torch.equal(again[name], tensor) for name, tensor in state.items()):
        raise OSError(f"'{made}' did not keep what was written into it.")
    kind = type(net)
    write_json(made / "model.json", {"class": f"{kind.__module__}.{kind.__qualname__}", **model.header()})


def _remove(folder: Path) -> None:
    if folder.exists():
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
