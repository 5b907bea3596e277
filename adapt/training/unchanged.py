"""Compare what was frozen in training with the base, bit for bit, before an adaptation is saved."""

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor, nn

from adapt.errors import InputError
from adapt.models.factors import Merged
from adapt.models.model import Model
from interventions.bits import changed_bits
from interventions.freeze import frozen_modules


def frozen_buffers(model: nn.Module) -> set[str]:
    """Return the names of the buffers that training leaves alone. Call it before rows are merged.

    Others are the statistics of batch norms in train mode, and buffers of modules with a parameter that trains.
    """
    frozen = set(frozen_modules(model))
    names = set()
    for name, module in model.named_modules():
        trains = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        is_norm = isinstance(module, nn.modules.batchnorm._NormBase)
        if module in frozen or not (trains or is_norm):
            names |= {f"{name}.{own}".lstrip(".") for own, _ in module.named_buffers(recurse=False)}
    return names


def check_frozen(
    base: Model,
    model: Model,
    trained: Collection[str],
    rows: Mapping[str, Sequence[int]],
    merged: Merged,
    buffers: Collection[str],
) -> None:
    """Check that a trained model differs from its base only where it was trained.

    Args:
        base: The base, with the alphabet of the run.
        model: The trained model, with rows and factors merged.
        trained: The names of the parameters that were trained, in whole or in part.
        rows: For each parameter of which only some rows were trained: the numbers of these rows.
        merged: The factors that were merged, with the weights from before.
        buffers: The names of the buffers that training leaves alone.

    Raises:
        InputError: a frozen value changed, as after training continued from a checkpoint of another base.
    """
    before, after = dict(base.named_parameters()), dict(model.named_parameters())
    stored = {name: old for name, (_, old, _) in merged.written.items()}
    for name, tensor in after.items():
        compared = stored.get(name, tensor)
        if name in trained and name not in rows and name not in stored:
            continue
        if _differs(before[name], compared, rows.get(name, ())):
            raise _changed(name)
    kept = dict(base.named_buffers())
    for name, tensor in model.named_buffers():
        if name in buffers and name in kept and _differs(kept[name], tensor, ()):
            raise _changed(name)


def _differs(before: Tensor, after: Tensor, rows: Sequence[int]) -> bool:
    if before.shape != after.shape or before.dtype != after.dtype:
        return True
    bits = changed_bits(before.detach().cpu(), after.detach().cpu())
    if rows:
        bits[list(rows)] = False
    return bool(bits.any())


def _changed(name: str) -> InputError:
    return InputError(
        f"'{name}' was frozen, but differs from the base after training, so nothing was saved: the run continued from "
        "the checkpoint of another base, or the checkpoint was damaged. Start again in another folder."
    )
