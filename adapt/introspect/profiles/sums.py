"""The sums of a site (`adapt.introspect.profiles.profiles.Profiles` has their shapes): without a fold, and in files.

A file has only the groups and folds that have steps, because many groups occur at a few sites only.
"""

from collections.abc import Mapping

from torch import Tensor

FORM = 2  # files of form 1 have every sum by fold
_POOLED = ("activation", "gradient", "square", "product")


def pooled(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sums of all folds as those of one."""
    return {name: total.sum(0, keepdim=True) for name, total in sums.items() if name != "fold_activation"}


def without(sums: Mapping[str, Tensor], fold: int, window: int) -> dict[str, Tensor]:
    """Return the sums of all folds but one.

    Activations and steps are exact. The variance within each group, and the means of gradients and products, stay those
    of all folds.

    Args:
        sums: The sums.
        fold: The fold to leave out.
        window: The number of steps of a window; 1 for single steps.
    """
    own = sums["steps"][fold : fold + 1]
    steps = sums["steps"].sum(0, keepdim=True)
    left = steps - own
    parts = sums.get("fold_activation", sums["activation"])  # with one fold, nothing is left
    activation = sums["activation"].double()
    rest = (activation - parts[fold : fold + 1]).where(left[..., None, None] > 0, 0)  # exactly, in spite of rounding
    count, counts_left = (window * number.unsqueeze(2).clamp_min(1) for number in (steps, left))
    variance = sums["square"] / count - (activation.sum(2) / count).square()
    square = (counts_left * variance + rest.sum(2).square() / counts_left).where(left.unsqueeze(2) > 0, 0)
    share = left / steps.clamp_min(1)
    return {
        "steps": left,
        "activation": rest,
        "gradient": sums["gradient"] * share[..., None, None],
        "square": square,
        "product": sums["product"] * share.unsqueeze(2),
    }


def pack(sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sums of a site as they are stored, without loss."""
    steps = sums["steps"]
    packed = {"steps": steps, **{name: sums[name][0, steps.sum(0) > 0] for name in _POOLED}}
    if "fold_activation" in sums:
        packed["fold_activation"] = sums["fold_activation"][steps > 0]
    return packed


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the sums of a site from what `pack` returned."""
    steps = packed["steps"]
    sums = {"steps": steps}
    for name in _POOLED:
        sums[name] = packed[name].new_zeros(1, steps.shape[1], *packed[name].shape[1:])
        sums[name][0, steps.sum(0) > 0] = packed[name]
    if "fold_activation" in packed:
        folds = packed["fold_activation"]
        sums["fold_activation"] = folds.new_zeros(*steps.shape, *folds.shape[1:])
        sums["fold_activation"][steps > 0] = folds
    return sums


def read_site(tensors: Mapping[str, Tensor], number: int, form: int) -> dict[str, Tensor]:
    """Return the sums of the site with this number from the tensors of a file, also of an earlier version."""
    start = f"{number}."
    own = {name.removeprefix(start): values for name, values in tensors.items() if name.startswith(start)}
    if form == FORM:
        return unpack(own)
    sums = {"steps": own["steps"], **{name: own[name].sum(0, keepdim=True) for name in _POOLED}}
    sums |= {name: sums[name].float() for name in ("gradient", "product")}
    return sums | ({"fold_activation": own["activation"].float()} if len(own["steps"]) > 1 else {})
