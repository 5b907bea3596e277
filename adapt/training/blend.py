"""Blend what was trained with its base at the end of training: by a given factor, or by a search on validation data."""

import logging
from dataclasses import dataclass, replace
from typing import Any, Literal

from adapt.blending.choice import Budget, check_blend
from adapt.blending.front import Front
from adapt.blending.interpolate import Factor, Interpolation
from adapt.blending.search import EXAMPLES, FEW_FACTORS, search
from adapt.blending.source_data import part_off, stand_in
from adapt.checks import is_number
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.data.replay import Replay
from adapt.errors import InputError
from adapt.models.loaded import Loaded
from adapt.models.model import DecoderModel, Model
from adapt.models.state import model_fingerprint
from adapt.training.adapted import Adapted

_LEAST = 32  # examples of each set on which a decoder's blend is searched

log = logging.getLogger(__name__)

Blend = float | Literal["auto", "off"]


@dataclass(frozen=True)
class Blending:
    """How a run blends its result with the base.

    Attributes:
        how: "auto" searches, "off" keeps what was trained, and a number is the factor from 0 (base) to 1 (trained).
        budget: How much worse the source may become; None for the least forgetting that keeps the gain.
        source: A sentence on where the source examples come from; empty if a stand-in is needed.
    """

    how: Blend = "off"
    budget: Budget | None = None
    source: str = ""

    @classmethod
    def of(cls, blend: Any, forget: float | str | None) -> "Blending":
        """Check the options `blend` and `forget`. Raises InputError."""
        return cls(*check_blend(blend, forget))

    def prepared(self, splits: Splits, replay: Replay) -> tuple["Blending", Splits]:
        """Part validation data of the source off its training data, if the search needs it.

        Raises:
            InputError: a budget of forgetting is given without validation data of the target.
        """
        if self.how != "auto":
            return self, splits
        if not splits.validation:
            if self.budget is not None:
                raise InputError("forget needs validation data of the target: give data.validation=...")
            return replace(self, how="off"), splits
        splits, sentence = part_off(splits, replayed=bool(replay))
        wanted = sentence or splits.source_test or self.budget is not None
        return replace(self, how="auto" if wanted else "off", source=sentence), splits


def blended(adapted: Adapted, unmodified: Model, splits: Splits, loader: Loader, blending: Blending) -> Adapted:
    """Return the result of a run, blended with its base.

    Args:
        adapted: What was trained.
        unmodified: The base with the alphabet of the run.
        splits: The examples of the run; `validation` and `source_validation` decide.
        loader: Batches the examples.
        blending: How to blend.

    Returns:
        The blend with its `front`, and with `adapted` as `unblended`; `adapted` itself if nothing is blended.
    """
    line = None if blending.how == "off" else Interpolation(unmodified, adapted.loaded.model, adapted.factors)
    if line is None or not line.changed:
        return adapted
    if blending.how != "auto":
        factor = float(blending.how)
        log.info("Blended with the base by the factor %g.", factor)
        return _at(adapted, line, factor, None) if factor < 1 else adapted
    source, sentence = list(splits.source_validation), blending.source
    if not source:
        source, sentence = stand_in(adapted.base, unmodified, splits.validation, loader)
    if not source:
        log.warning("The trained weights are kept: the base answers nothing that could stand in for source data.")
        return adapted
    log.info("Blending with the base. Target: %d validation examples. %s", len(splits.validation), sentence)
    sets = {"target": splits.validation, "source": source}
    front = search(line, sets, loader, budget=blending.budget, data=sentence, **_effort(unmodified, len(splits.train)))
    log.info("  %s", front.reason)
    for name in front.examples:
        log.info("  %s: %s (%d validation examples)", name, front.shown(name), front.examples[name])
    point = front.point
    factor = point.factor if point.kind == "single" else point.layers
    return replace(adapted, front=front) if factor == 1 else _at(adapted, line, factor, front)


def _effort(model: Model, trained: int) -> dict[str, Any]:
    """Return how thoroughly to search. A decoder writes token after token, and may take longer here than to train."""
    if not isinstance(model, DecoderModel):
        return {}
    return {"layers": False, "factors": FEW_FACTORS, "examples": min(EXAMPLES, max(_LEAST, trained // 4))}


def _at(adapted: Adapted, line: Interpolation, factor: Factor, front: Front | None) -> Adapted:
    model = line.model_at(factor)
    facts = {"blend": factor if is_number(factor) else dict(factor)}  # pyright: ignore[reportArgumentType, reportCallIssue]
    loaded = adapted.loaded
    loaded = Loaded(model, loaded.reference, model_fingerprint(model), {**loaded.header, **facts})
    return replace(adapted, loaded=loaded, factors=line.factors(factor), front=front, unblended=adapted, facts=facts)
