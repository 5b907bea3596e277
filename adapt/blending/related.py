"""Find the base that models have in common, and the low-rank factors that an adaptation stores."""

from collections.abc import Sequence

from adapt.errors import InputError
from adapt.models.adaptation_files import read_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.factor_files import read_factors
from adapt.models.factors import Factors
from adapt.models.loaded import Loaded
from adapt.models.model_files import read_safetensors
from adapt.models.state import weights


def common_base(names: Sequence[str], models: Sequence[Loaded], base: str | None = None) -> Loaded:
    """Return the base of all models.

    Args:
        names: What the models were loaded from.
        models: The models. A whole model has no base of its own, and needs `base`.
        base: The base, if it is known.

    Raises:
        InputError: the bases differ, `base` is needed or another one, or the models have different shapes.
    """
    stated = {name: one.header["base"] for name, one in zip(names, models, strict=True) if "base" in one.header}
    prints = {name: facts["fingerprint"] for name, facts in stated.items() if "fingerprint" in facts}
    whole = [name for name in names if name not in prints]
    if base is None and whole:
        raise InputError(
            f"'{whole[0]}' is a whole model, not an adaptation. Name the model that it started from: base=..."
        )
    different = sorted(set(prints.values()))
    if len(different) > 1:
        one, other = (next(name for name in prints if prints[name] == each) for each in different[:2])
        raise InputError(
            f"'{one}' and '{other}' are adaptations of different bases ({stated[one].get('reference')} and "
            f"{stated[other].get('reference')}), so their changes cannot be added. Blend adaptations of one base."
        )
    found = load_model(base if base is not None else stated[names[0]]["reference"])
    if different and found.fingerprint != different[0]:
        name = next(iter(prints))
        raise InputError(
            f"'{name}' belongs to another base: it was made from fingerprint {different[0][:12]}, but "
            f"'{found.reference}' has {found.fingerprint[:12]}. Give the right one: base=..."
        )
    expected = {key: tensor.shape for key, tensor in weights(models[0].model.net).items()}
    for name, one in zip(names, models, strict=True):
        shapes = {key: tensor.shape for key, tensor in weights(one.model.net).items()}
        if shapes != expected or one.model.vocabulary != models[0].model.vocabulary:
            raise InputError(f"'{name}' and '{names[0]}' have different shapes or alphabets, and cannot be blended.")
    return found


def stored_factors(loaded: Loaded, base: Loaded) -> list[Factors]:
    """Return the low-rank factors that an adaptation stores; none for a whole model, or if nothing was trained by them.

    They are in the header's "factors", and their tensors in the file of the adaptation.
    """
    groups = loaded.header.get("factors", [])
    if not groups:
        return []
    path, facts = read_adaptation(loaded.reference)
    tensors = read_safetensors(path.parent / "weights.safetensors")[1]
    return read_factors(facts["factors"], tensors) if facts["base"]["fingerprint"] == base.fingerprint else []
