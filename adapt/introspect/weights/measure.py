"""The measure `weights`: how training changed the weights, by parameter and by neuron, compared with chance."""

from collections.abc import Mapping
from typing import Any

from adapt.errors import InputError
from adapt.formatting import counted
from adapt.introspect.weights.measures import weight_measures
from adapt.introspect.weights.result import WeightsResult
from adapt.models.adaptation_files import read_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.loaded import Loaded


def weights(loaded: Loaded, before: str | None = None, floor: str | None = None, level: float = 0.01) -> WeightsResult:
    """Compare the weights of a model with those of another one of the same architecture.

    Args:
        loaded: The model after training.
        before: The model to compare with; None: the base of the run that made `loaded`.
        floor: A second run like the one that made `loaded`, with another seed. The neurons that both runs moved in the
            same direction are flagged (`adapt.introspect.weights.measures.weight_measures`).
        level: Probability of at least one false positive among the flagged neurons.

    Raises:
        InputError: There is no such model, the models are not of one architecture, or the second run has another base
            or trained other weights.
    """
    if not isinstance(level, float) or not 0 < level < 1:
        raise InputError(f"level must be a number between 0 and 1; got {level!r}.")
    base = load_model(str(_base(loaded) if before is None else before))
    second = None if floor is None else load_model(str(floor))
    if second is not None and second.fingerprint == loaded.fingerprint:
        raise InputError(f"floor: '{floor}' is the model that is measured. Give a run with another seed.")
    if second is not None and second.fingerprint == base.fingerprint:
        raise InputError(
            f"floor: '{floor}' is the model before training, from which chance cannot be estimated. Give a second run "
            "from it, with another seed."
        )
    if second is not None:
        _check_comparable(loaded, second)
    try:
        measures = weight_measures(base.model, loaded.model, None if second is None else second.model)
    except ValueError as error:
        raise InputError(f"'{base.reference}' and '{loaded.reference}': {error}") from None
    return WeightsResult(measures, base.reference, level)


def _base(loaded: Loaded) -> str:
    try:
        _, facts = read_adaptation(loaded.reference)
    except InputError:
        raise InputError(
            f"'{loaded.reference}' is not an adaptation that names its base, so there is nothing to compare it with. "
            "Load the folder of a run, or give the other model as before."
        ) from None
    return str(facts["base"]["reference"])


def _check_comparable(one: Loaded, other: Loaded) -> None:
    """Raise InputError if two runs differ in architecture, base or tuning, as far as their headers tell.

    Only a second run that could have made the same changes shows how far chance moves a weight.
    """
    shapes = [{name: own.shape for name, own in loaded.model.named_parameters()} for loaded in (one, other)]
    if one.model.vocabulary != other.model.vocabulary or shapes[0] != shapes[1]:
        what = "alphabet" if one.model.vocabulary != other.model.vocabulary else "architecture"
        raise InputError(
            f"floor: '{other.reference}' has another {what} than '{one.reference}'. Give a run from the same base with "
            "the same data and options, and another seed."
        )
    base, other_base = one.header.get("base"), other.header.get("base")
    if base and other_base and base["fingerprint"] != other_base["fingerprint"]:
        names = [f"{own['reference']} ({own['fingerprint'][:12]})" for own in (base, other_base)]
        raise InputError(
            f"floor: '{other.reference}' was made from {names[1]}, and '{one.reference}' from {names[0]}. Give a run "
            "from the same base, with another seed."
        )
    if "trained" not in one.header or "trained" not in other.header:
        return
    trained, other_trained = (_trained_amounts(own.header) for own in (one, other))
    differ = sorted(name for name in trained | other_trained if trained.get(name) != other_trained.get(name))
    if differ:
        name = differ[0]
        others = counted(len(differ) - 1, "other parameter")
        more = f" They also differ in {others}." if len(differ) > 1 else ""
        raise InputError(
            f"floor: '{other.reference}' could train {other_trained.get(name, 'nothing')} of '{name}', and "
            f"'{one.reference}' {trained.get(name, 'nothing')}.{more} Give a run with the same tuning and another seed."
        )


def _trained_amounts(header: Mapping[str, Any]) -> dict[str, str]:
    """Return how much of each parameter an adaptation could train, in words."""
    rows, factors = header.get("trained_rows") or {}, header.get("trained_factors") or {}
    amounts = {}
    for name in header["trained"]:
        amounts[name] = f"{rows[name]:,} rows" if name in rows else "all"
        if name in factors:
            amounts[name] = f"{factors[name]:,} numbers in factors"
    return amounts
