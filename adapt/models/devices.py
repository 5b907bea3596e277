"""Where a model runs, and in which precision it answers: the only place that decides it.

A command calls `place` once, on the model that it loads. Everything else reads the device from the model's weights, and
moves its batches there. Results are moved to the CPU before they are stored.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, get_args

import torch

from adapt.errors import InputError
from adapt.formatting import counted
from adapt.memory import available_memory
from adapt.models.eval_mode import eval_mode
from adapt.models.loaded import Loaded
from adapt.models.model import Model, Precision

_TYPES = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}


def known_devices() -> list[str]:
    """Return the names of the devices of this machine: `["cpu", "cuda:0", "cuda:1"]`."""
    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def device_named(name: Any = "auto", double: bool = False) -> torch.device:
    """Return the device of a name.

    Args:
        name: "cpu", "cuda", "cuda:1", "mps", or "auto": cuda if there is one, else mps, else the CPU. Without a number,
            cuda is the device of this process (`LOCAL_RANK`), usually the first.
        double: Whether the work needs 64-bit numbers, which mps lacks: "auto" does not choose mps then.

    Raises:
        InputError: there is no such device on this machine, or it lacks 64-bit numbers.
    """
    known = known_devices()
    kinds = {one.partition(":")[0] for one in known}
    kind = "cuda" if "cuda" in kinds else "mps" if "mps" in kinds and not double else "cpu"
    kind = kind if name == "auto" else str(name)
    if kind == "cuda" and "cuda" in kinds:
        kind = f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % (len(known) - 1)}"
    if kind not in known:
        raise InputError(f"device={name}: this machine has {', '.join(known)}. Give one of them, or auto.")
    if kind == "mps" and double:
        raise InputError("device=mps: this needs 64-bit numbers, which mps does not have. Give cpu.")
    return torch.device(kind)


def check_accelerator(name: Any, devices: Any = 1) -> None:
    """Check that this machine has what Lightning's name of an accelerator asks for.

    Args:
        name: "cpu", "gpu", "cuda", "mps", or another name, which is left to Lightning.
        devices: The number of devices, or a list of their numbers; other values are left to Lightning.

    Raises:
        InputError: there is no such device on this machine, or there are fewer.
    """
    known = known_devices()
    kinds = {"gpu": ("cuda", "mps"), "cuda": ("cuda",), "mps": ("mps",)}.get(str(name))
    if kinds is None:
        return
    there = [one for one in known if one.startswith(kinds)]
    has = f"this machine has {', '.join(known)}"
    if not there:
        sets = " (as trainer=gpu sets it)" if name == "gpu" else ""
        raise InputError(
            f"trainer.accelerator={name}{sets}: {has}{'' if known != ['cpu'] else ' only'}. Leave it out: device=auto "
            "takes the best device that there is. Or give trainer=cpu."
        )
    wanted = devices if isinstance(devices, int) else 1 + max(devices) if isinstance(devices, list) and devices else 1
    if wanted > len(there):
        raise InputError(f"trainer.devices={devices}: {has}. Give at most {counted(len(there), name.upper())}.")


def device_of(model: Model) -> torch.device:
    """Return the device of a model's weights."""
    return next(model.parameters()).device


def place(loaded: Loaded, device: Any = "auto", precision: Any = "32", double: bool = False) -> Loaded:
    """Move a model to a device, in place, and set the precision in which it answers.

    Args:
        loaded: The model.
        device: The name of a device, as in `device_named`, or a `torch.device`.
        precision: "32"; or "bf16" or "16", in which it computes most sums in 16 bits, and keeps its weights in 32.
        double: As in `device_named`.

    Returns:
        The model that was given.

    Raises:
        InputError: there is no such device or precision, or 16 is asked for on the CPU.
    """
    found = device if isinstance(device, torch.device) else device_named(device, double)
    if str(precision) not in get_args(Precision):
        raise InputError(f"precision must be one of {', '.join(get_args(Precision))}; got {precision!r}.")
    if str(precision) == "16" and found.type == "cpu":
        raise InputError("precision=16 works on a GPU only. On the CPU, give precision=bf16 or 32.")
    if found.type == "cuda" and str(precision) == "32":
        # Otherwise convolutions round their inputs to 10 bits, and texts differ from those of the CPU.
        torch.backends.cudnn.allow_tf32 = False
    loaded.model.to(found)
    loaded.model.precision = str(precision)  # pyright: ignore[reportAttributeAccessIssue]
    return loaded


def beside(loaded: Loaded, other: Model) -> Loaded:
    """Move a model to the device of another, with the same precision. Returns the model that was given."""
    return place(loaded, device_of(other), other.precision)


@contextmanager
def answering(model: Model) -> Iterator[None]:
    """Within this context a model answers: in eval mode, without gradients, and in its own precision.

    Raises:
        InputError: the memory of the GPU does not suffice.
    """
    with eval_mode(model), torch.inference_mode(), in_precision(model):
        try:
            yield
        except torch.OutOfMemoryError:
            raise InputError(
                f"The batches do not fit into the memory of {device_of(model)}. Give a smaller loader.batch_seconds "
                "(loader.batch_tokens for text), or loader.memory= with the GB that a batch may take."
            ) from None


def in_precision(model: Model) -> AbstractContextManager[Any]:
    """Return a context in which a model computes in its own precision."""
    if model.precision == "32":
        return nullcontext()
    return torch.autocast(device_of(model).type, dtype=_TYPES[model.precision])


def own_random(model: Model) -> AbstractContextManager[Any]:
    """Return a context after which random numbers go on as before it, on the CPU and on the GPU of a model."""
    device = device_of(model)
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on a device: a GPU's own, otherwise the machine's; None if it is not known."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # torch keeps freed blocks
        return torch.cuda.mem_get_info(device)[0] + kept
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return available_memory()
