"""Choose what a measure reads: the examples and the sites."""

import logging
from collections.abc import Sequence
from typing import cast

from adapt.data.example import Example
from adapt.data.manifest import Splits
from adapt.data.splits import check_examples
from adapt.errors import InputError
from adapt.models.model import DecoderModel, Model
from interventions.sites import Part, Site, choose_sites

log = logging.getLogger(__name__)

MAX_OUTPUT_UNITS = 4096  # a larger output layer is a vocabulary of tokens, and is read only if it is named
_SPLITS = ("train", "validation", "test", "source_test", "source_train", "source_validation")


def select_sites(model: Model, sites: str | Sequence[str], part: str | None) -> list[Site]:
    """Return the sites that match the options `sites` and `part` of a measure.

    Args:
        model: The model.
        sites: A glob over the names of sites, or a list of names. "*" leaves out an output layer with more than
            `MAX_OUTPUT_UNITS` units: with a unit for each token, it would take more room than the rest of the model.
        part: "encoder", "decoder" or "cross-attention"; None: all parts.

    Raises:
        InputError: No site matches.
    """
    if not isinstance(sites, str) and not (isinstance(sites, Sequence) and all(isinstance(one, str) for one in sites)):
        raise InputError(f"sites must be a glob over names, or a list of names; got {sites!r}.")
    try:
        chosen = list(choose_sites(model.sites, sites, cast(Part | None, part)))  # `choose_sites` checks `part`
    except ValueError as error:
        raise InputError(f"sites: {error}") from None
    output = model.sites[-1]
    if sites == "*" and output in chosen and output.units > MAX_OUTPUT_UNITS and len(chosen) > 1:
        log.info("Left out: '%s', the output layer, with a unit for each of %d tokens.", output.name, output.units)
        chosen.remove(output)
    return chosen


def shared_sites(sites: Sequence[Site], other: Model, reference_model: str) -> list[Site]:
    """Return those of `sites` that a second model has with the same number of units.

    A rebuilt output layer, for example, has other units. `reference_model` is the name of the second model.

    Raises:
        InputError: The second model has none of these sites.
    """
    units = {site.name: site.units for site in other.sites}
    shared = [site for site in sites if units.get(site.name) == site.units]
    if not shared:
        raise InputError(
            f"reference_model: '{reference_model}' has none of these sites ({sites[0].name} with {sites[0].units:,} "
            "units, ...). Give a model of the same architecture."
        )
    if len(shared) < len(sites):
        missing = ", ".join(site.name for site in sites if site not in shared)
        log.warning("Skipped sites that '%s' does not have: %s", reference_model, missing)
    return shared


def select_examples(model: Model, splits: Splits, names: str | Sequence[str]) -> tuple[list[Example], list[str]]:
    """Return the examples of some splits, and the name of the set of each one.

    Sets are named like splits, but "test" is "target" and "source_test" is "source". For a decoder, examples that it
    could not learn from are left out, because it reads the references.

    Raises:
        InputError: There is no such split, or the splits have no examples.
    """
    names = [names] if isinstance(names, str) else list(names)
    chosen: list[Example] = []
    sets: list[str] = []
    for name in names:
        if name not in _SPLITS:
            raise InputError(f"examples: there is no split '{name}'. Choose from {', '.join(_SPLITS)}.")
        part: Sequence[Example] = getattr(splits, name)
        if isinstance(model, DecoderModel):
            problems: list[str] = []
            count, part = len(part), learnable(model, part, problems)
            if count and not part:
                raise InputError(f"All examples of the split '{name}' were rejected. The first: {problems[0]}")
        chosen += part
        sets += [{"test": "target", "source_test": "source"}.get(name, name)] * len(part)
    if not chosen:
        raise InputError(
            f"There is nothing to read: the data have no examples in {', '.join(map(str, names))}. Add some, or choose "
            "other splits as examples."
        )
    return chosen, sets


def learnable(model: Model, examples: Sequence[Example], problems: list[str] | None = None) -> tuple[Example, ...]:
    """Return the examples whose texts the model could learn from. In test sets, a text may be too long, for example.

    The reason for each rejection is appended to `problems`.
    """
    problems = [] if problems is None else problems
    accepted, unusable = check_examples(examples, model, True, "texts")
    problems += unusable
    if problems:
        log.warning("Skipped %d of %d examples. The first: %s", len(problems), len(examples), problems[0])
    return accepted
