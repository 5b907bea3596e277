"""What a measure reads: which examples of the data, and at which sites."""

import logging
from collections.abc import Sequence

from adapt.data.example import Example
from adapt.data.manifest import Splits
from adapt.data.splits import check_examples
from adapt.errors import InputError
from adapt.models.model import DecoderModel, Model
from interventions.sites import Site, choose_sites

log = logging.getLogger(__name__)


def sites_named(model: Model, sites: str | Sequence[str], part: str | None) -> list[Site]:
    """The sites that `measure.sites` and `measure.part` name. Raises InputError where there is none."""
    if not isinstance(sites, str) and not (isinstance(sites, Sequence) and all(isinstance(one, str) for one in sites)):
        raise InputError(f"measure.sites is a glob over names, or a list of names; got {sites!r}.")
    try:
        return list(choose_sites(model.sites, sites, part))
    except ValueError as error:
        raise InputError(f"measure.sites: {error}") from None


def sites_of_both(sites: Sequence[Site], other: Model, against: str) -> list[Site]:
    """Those of `sites` that another model has too, with as many units: not, say, a rebuilt output layer.

    Raises:
        InputError: it has none of them.
    """
    theirs = {site.name: site.units for site in other.sites}
    found = [site for site in sites if theirs.get(site.name) == site.units]
    if not found:
        raise InputError(
            f"measure.against: '{against}' has none of these sites ({sites[0].name} of {sites[0].units:,} units, ...). "
            "Give one of its kind."
        )
    if len(found) < len(sites):
        left = ", ".join(site.name for site in sites if site not in found)
        log.warning("Left out, for '%s' has no such sites: %s", against, left)
    return found


def examples_of(model: Model, splits: Splits, names: str | Sequence[str]) -> tuple[list[Example], list[str]]:
    """The examples of some splits, and for each the set that it is of ("target", "source", "train", ...).

    Raises:
        InputError: there is no such split, or nothing in any of them.
    """
    names = [names] if isinstance(names, str) else list(names)
    chosen: list[Example] = []
    sets: list[str] = []
    for name in names:
        part = getattr(splits, str(name), None)
        if not isinstance(part, tuple) or name == "problems":
            raise InputError(
                f"measure.examples: there is no '{name}'. Name some of train, validation, test, source_test."
            )
        if isinstance(model, DecoderModel):
            problems: list[str] = []
            left, part = len(part), learnable(model, part, problems)  # a decoder reads the references
            if left and not part:
                raise InputError(f"Nothing is left of the {name} data: {problems[0]}")
        chosen += part
        sets += [{"test": "target", "source_test": "source"}.get(name, name)] * len(part)
    if not chosen:
        raise InputError(
            f"There is nothing to read: give data.{', data.'.join(map(str, names))}, or measure.examples=..."
        )
    return chosen, sets


def learnable(model: Model, examples: Sequence[Example], problems: list[str] | None = None) -> tuple[Example, ...]:
    """Those whose texts the model could learn from: test sets may hold others, too long or in other letters.

    A sentence on each other one goes to `problems`.
    """
    problems = [] if problems is None else problems
    found, unusable = check_examples(examples, model, True, "texts")
    problems += unusable
    if problems:
        log.warning("Left out %d of %d examples, the first: %s", len(problems), len(examples), problems[0])
    return found
