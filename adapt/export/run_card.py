"""What a run's folder says about the model in it: data, training, and results before and after."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapt.errors import InputError
from adapt.files import is_file, read_json
from adapt.models.loaded import Loaded
from adapt.models.locate import is_hub_id, locate


@dataclass(frozen=True)
class RunCard:
    """The facts of a run; all empty for a model that is not a run.

    Attributes:
        card: The content of its `card.json`: base, data, examples, hours, seed, versions, results.
        weights: From its `metrics.json`: the number of weights, and of those that were trained and that changed.
        folder: The folder of the run; None for a model that is not a run.
    """

    card: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def get(self, *keys: str) -> Any:
        """Return a value of the card, by the keys that lead to it; None if it is not there."""
        value: Any = self.card
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value


def run_card(loaded: Loaded) -> RunCard:
    """Return the facts of the run that a model was loaded from. A card that is damaged or of other weights is not."""
    if is_hub_id(loaded.reference):
        return RunCard()
    try:
        path = locate(loaded.reference)
        folder = path.parent.parent if path.name == "adaptation.json" else path.parent
        card, metrics = _read(folder / "card.json"), _read(folder / "metrics.json")
    except (InputError, OSError, ValueError):
        return RunCard()
    if card.get("fingerprint") not in (loaded.fingerprint, loaded.header.get("fingerprint")):
        return RunCard()
    weights = metrics.get("weights")
    return RunCard(card, weights if isinstance(weights, Mapping) else {}, folder)


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path) if is_file(path) else {}
    return content if isinstance(content, dict) else {}
