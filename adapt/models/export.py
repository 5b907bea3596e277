"""Export a model for use without innertune: as a folder in the transformers format, or a plain state dict."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from adapt.errors import InputError
from adapt.files import write_json
from adapt.models.checkpoint import load_transformers
from adapt.models.model import DecoderModel, Model
from adapt.models.new_folder import new_folder
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
    with new_folder(folder) as made, folded(model, interventions):
        write_plain(model, made, dtype)
        return sorted(path.name for path in made.iterdir())


@contextmanager
def folded(model: Model, interventions: Sequence[Intervention]) -> Iterator[None]:
    """Within this context, interventions are part of the model's weights. Raises InputError if they cannot be."""
    try:
        undo = fold(model, *interventions)
    except ValueError as error:
        raise InputError(f"The interventions cannot be folded: {error}") from None
    try:
        yield
    finally:
        unfold(undo)


def write_plain(model: Model, made: Path, dtype: DType = "float32") -> None:
    """Write a model into an existing folder, as `export` does. Raises InputError."""
    net = copy.deepcopy(model.net).to(getattr(torch, dtype)) if dtype != "float32" else model.net
    if hasattr(net, "save_pretrained"):
        _write_folder(model, net, made)
    else:
        _write_state(model, net, made)


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
