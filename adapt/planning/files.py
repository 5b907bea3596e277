"""Write a chosen batch: the examples to label, as a list to work through, and the scores of all candidates."""

import csv
import io
from dataclasses import replace
from pathlib import Path

from adapt.data.manifest import Utterance, write_manifest
from adapt.data.pairs import Pair, write_pairs
from adapt.errors import InputError
from adapt.files import write_text
from adapt.planning.next_batch import NextBatch

SCORES = "candidates.csv"


def write_batch(folder: Path | str, batch: NextBatch) -> list[Path]:
    """Write the chosen examples in the order of choice, and all candidates with their scores and reasons.

    Args:
        folder: Where to write: `next.jsonl` with recordings (a manifest, whose texts are to be filled in) or with
            source sentences, or `next.txt` with sentences to read; and `candidates.csv`.
        batch: The batch.

    Returns:
        The two files.

    Raises:
        InputError: a chosen recording is audio in memory, which a manifest cannot name.
    """
    folder = Path(folder)
    chosen = folder / ("next.txt" if batch.kind == "read" else "next.jsonl")
    if batch.kind == "read":
        write_text(chosen, "".join(f"{' '.join(one.text.split())}\n" for one in batch.chosen))
    elif batch.kind == "translate":
        write_pairs(chosen, [_to_translate(one.example, one.rank, one.reason) for one in batch.chosen])
    else:
        write_manifest(chosen, [_to_transcribe(one.example, one.rank, one.reason, one.text) for one in batch.chosen])
    write_text(folder / SCORES, _table(batch))
    return [chosen, folder / SCORES]


def _to_translate(example: object, rank: int | None, reason: str) -> Pair:
    assert isinstance(example, Pair)
    return replace(example, target="", extra={**example.extra, "rank": rank, "reason": reason})


def _to_transcribe(example: object, rank: int | None, reason: str, hypothesis: str) -> Utterance:
    if not isinstance(example, Utterance):
        raise InputError("Audio in memory has no file that a manifest could name. Write it to files first.")
    # What the candidate had as its text was not used, and is not passed on as if it were a transcript.
    more = {"rank": rank, "reason": reason, "hypothesis": hypothesis}
    return replace(example, text="", phonemes=(), extra={**example.extra, **more})


def _table(batch: NextBatch) -> str:
    measures = sorted({name for one in batch.candidates for name in one.scores})
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    cost = ["minutes"] if batch.unit == "minutes" else []
    rows.writerow(["rank", "name", *cost, "score", *measures, "reason", "text"])
    for one in batch.candidates:
        scores = [_number(one.scores.get(name)) for name in measures]
        minutes = [f"{one.cost:.4f}"] if cost else []
        rows.writerow([one.rank or "", one.name, *minutes, f"{one.score:.4f}", *scores, one.reason, one.text])
    return out.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.6g}"
