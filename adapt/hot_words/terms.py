"""The terms of a user's corrections: words of the corrected texts that the model got wrong and never wrote itself."""

from pathlib import Path

from adapt.corrections.paths import store_path
from adapt.corrections.stored import check_records, protected_rows
from adapt.errors import as_input_errors
from adapt.hot_words.words import HotWord
from adapt.models.loaded import Loaded
from interventions.corrections.store import CorrectionStore

_SHORTEST = 4  # characters; shorter words are rarely terms
_EDGES = ".,;:!?\"'()[]«»„“”‘’…¿¡"


def correction_terms(loaded: Loaded, corrections: Path | str = "auto") -> list[HotWord]:
    """Return the terms of a model's corrections.

    A word is one if the model wrote something else in its place, and writes it in none of the answers that the store
    knows. Common words that were misheard once are none.

    Args:
        loaded: The model.
        corrections: As in `adapt.corrections.model_memory.corrected`; "off" has no terms.

    Raises:
        InputError: the store belongs to another model or cannot be read.
    """
    path = store_path(loaded, corrections)
    if path is None or not CorrectionStore.exists(path):
        return []
    with as_input_errors():
        store = CorrectionStore(path, loaded.fingerprint)
        records, rows = check_records(store.records(), store.path), protected_rows(store.facts, store.path)
    answers = [record.facts["before"] for record in records]
    answers += [str(row.get("target", row.get("text", ""))) for part in rows for row in part]
    normal = loaded.model.task.normalise
    written = {word.strip(_EDGES).lower() for answer in answers for word in normal(answer).split()}
    words = [word.strip(_EDGES) for record in records for word in record.facts["text"].split()]
    terms = [word for word in words if len(word) >= _SHORTEST and normal(word).lower() not in written]
    return [HotWord(word, where="corrections") for word in dict.fromkeys(terms)]
