"""What stores keep about corrections and protected examples, as JSON data: check it, and leave out names and paths."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adapt.data.example import Example
from adapt.data.kinds import from_row, input_exists
from adapt.errors import InputError
from interventions.corrections.rows import Record

Facts = Mapping[str, Any]
_KEPT = ("before", "text", "answer", "written", "override", "hint", "limits", "examples")  # neither names nor paths
_TEXTS = ("source", "target", "audio", "text", "speaker")


def check_records(records: Sequence[Record], place: Path | str) -> list[Record]:
    """Return the records if each has what `ModelMemory.correct` stores. Raises InputError that names the first other.

    Args:
        records: the records.
        place: the file that they come from.
    """
    for record in records:
        problem = _problem(record.facts)
        if problem:
            raise InputError(
                f"Correction {record.number} in '{place}' is damaged ({problem}). Remove it: innertune corrections "
                f"undo {record.number}."
            )
    return list(records)


def protected_rows(facts: Facts, place: Path | str) -> tuple[list[Facts], list[Facts]]:
    """Return the rows of the protected examples: those that are decoded after each correction, and all others.

    Stores of version 0.1 do not have the others. Raises InputError if a row is not one of an example.
    """
    checked, others = facts.get("protected", []), facts.get("others", [])
    rows = [*checked, *others] if isinstance(checked, list) and isinstance(others, list) else [None]
    if any(_row_problem(row) for row in rows):
        raise InputError(f"The protected examples in '{place}' are damaged. Restore the file, or start another store.")
    return list(checked), list(others)


def as_written(example: Example, answer: str, normalise: Callable[[str], str]) -> dict[str, str]:
    """Return the facts that show a correction as it was written, where that differs from the normalised texts.

    Args:
        example: The example with the user's text.
        answer: The model's answer before the correction, as the model writes it.
        normalise: What normalises both for the comparison.
    """
    facts = {"answer": " ".join(answer.split()), "written": " ".join(example.text.split())}
    return facts if any(normalise(text) != text for text in facts.values()) else {}


def shown_texts(facts: Facts) -> tuple[str, str]:
    """Return the model's answer before a correction, and the corrected text, as they were written.

    Stores of earlier versions only have the normalised answer, and for audio the user's text beside its path.
    """
    row = facts.get("example") or {}
    text = row.get("text", row.get("target", facts["text"])) if isinstance(row, dict) else facts["text"]
    return facts.get("answer", facts["before"]), facts.get("written", text)


def example_of(facts: Facts) -> Example | None:
    """Return the corrected example, without its text; None if the store does not know it, or its file is missing."""
    row = facts.get("example")
    example = from_row(row) if row else None
    return example if example is not None and input_exists(example) else None


def without_names(facts: Facts) -> Facts:
    """Return the facts about a correction or a memory without names and paths.

    Texts stay: those that the model gives, and the sentences that it translates.
    """
    kept = {name: value for name, value in facts.items() if name in _KEPT}
    if facts.get("example"):
        kept["example"] = _text_only(facts["example"])
    if "protected" in facts:
        kept["protected"] = [row for row in map(_text_only, facts["protected"]) if row]
    return kept


def _text_only(row: Facts) -> dict[str, str]:
    return {"source": row["source"], "target": row["target"]} if "source" in row else {}


def _problem(facts: Facts) -> str:
    for name in ("before", "text"):
        if not isinstance(facts.get(name), str):
            return f"it has no {name}"
    return _row_problem(facts["example"]) if facts.get("example") else ""


def _row_problem(row: Any) -> str:
    if not isinstance(row, dict) or not ("source" in row or "audio" in row):
        return "its example is neither audio nor a sentence"
    needed = ("source", "target") if "source" in row else ("audio", "text", "offset", "duration")
    missing = [name for name in needed if name not in row]
    if missing:
        return f"its example has no {missing[0]}"
    wrong = [name for name in _TEXTS if name in row and not isinstance(row[name], str)]
    numbers = [row[name] for name in ("offset", "duration") if row.get(name) is not None]
    if wrong or not all(isinstance(one, (int, float)) and 0 <= one < 1e7 for one in numbers):
        return f"the {(wrong or ['time'])[0]} of its example is invalid"
    return "the path of its audio is invalid" if "\0" in row.get("audio", "") else ""
