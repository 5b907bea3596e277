"""Export a model for use without innertune: as a folder in the transformers format, or a plain state dict."""

import copy
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from adapt.errors import InputError
from adapt.files import exists, is_folder, write_json
from adapt.models.checkpoint import load_transformers
from adapt.models.model import DecoderModel, Model
from interventions.fold import fold, unfold
from interventions.intervention import Intervention

DType = Literal["float32", "float16", "bfloat16"]


def export(
    model: Model, folder: Path, dtype: DType = "float32", interventions: Sequence[Intervention] = ()
) -> list[str]:
    """Write a model into a new folder, completely or not at all. Return the names of the files.

    A transformers network becomes a folder that `from_pretrained` and the Auto classes load, with the files of its
    processor and a generation config that decodes as this model does (language, beams, length). A Wav2Letter becomes
    `model.safetensors`, the state dict of the network, and `model.json`, its shape and alphabet. The files are read
    back, and every weight is compared. The model itself stays unchanged.

    Args:
        model: The model to export.
        folder: A new or empty folder.
        dtype: The type of the exported weights.
        interventions: Interventions to fold into the exported weights.

    Raises:
        InputError: the folder is not empty, an intervention cannot be folded, or the format cannot hold the result (for
            example a bias that the architecture lacks).
    """
    if dtype not in get_args(DType):
        raise InputError(f"dtype must be one of {', '.join(get_args(DType))}; got {dtype!r}.")
    _check_folder(folder)
    try:
        folded = fold(model, *interventions)
    except ValueError as error:
        raise InputError(f"The interventions cannot be folded: {error}") from None
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
        made.chmod(0o777 & ~mask)  # temporary folders, and some of the files, are readable by their owner only
        for path in made.iterdir():
            path.chmod(0o666 & ~mask)
            _sync(path)
        made.replace(folder)
        _sync(folder.parent)
    finally:
        unfold(folded)
        shutil.rmtree(made, ignore_errors=True)
    return names


def _check_folder(folder: Path) -> None:
    for place in (folder, *folder.parents):
        if exists(place) and not is_folder(place):
            raise InputError(f"folder={folder}: '{place}' is a file. Give a new folder.")
    if exists(folder) and any(folder.iterdir()):
        raise InputError(f"The folder '{folder}' is not empty. Give a new folder.")


def _write_folder(model: Model, net: Any, made: Path) -> None:
    model.save_files(made)
    original = getattr(net, "generation_config", None)
    net.generation_config = copy.deepcopy(original)
    if isinstance(model, DecoderModel):
        for name, value in model.generation_arguments.items():
            setattr(net.generation_config, name, value)
    try:
        net.save_pretrained(made)
    finally:
        net.generation_config = original
    loaded = load_transformers(str(made)).model.net.state_dict()
    for name, tensor in net.state_dict().items():
        # Networks do not load fixed position embeddings but recompute them, in 32 bits.
        again = loaded.get(name)
        fixed = f"net.{name}" in model.never_trained
        if again is None or not (torch.equal(again, tensor.to(again.dtype)) or fixed):
            raise InputError(
                f"A plain {type(net).__name__} cannot store the value of '{name}'. If an intervention was folded into "
                "it, use a site that has a bias of its own."
            )


def _write_state(model: Model, net: nn.Module, made: Path) -> None:
    from safetensors.torch import load_file, save_file

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    save_file(state, made / "model.safetensors", metadata={"format": "pt"})
    again: dict[str, Tensor] = load_file(made / "model.safetensors")
    if not all(torch.equal(again[name], tensor) for name, tensor in state.items()):
        raise OSError(f"The weights in '{made}' differ from those that were written.")
    kind = type(net)
    write_json(made / "model.json", {"class": f"{kind.__module__}.{kind.__qualname__}", **model.header()})


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
