#!/usr/bin/env python
"""How often corrections are refused: texts that were said, texts that were not, and texts with one wrong word.

    scripts/study_refusals.py us-english outputs/scottish --results docs/results/refusals.json
    scripts/study_refusals.py ../shared/models/whisper-tiny.en --count 20 --results docs/results/refusals_whisper.json \
        --speech ../shared/data/speechocean762/adult_test.jsonl --protected ../shared/data/ljspeech/us_test.jsonl

Each model gets the true texts of utterances that it misreads, as many texts of other utterances, and the true texts
with one word replaced by a word of another utterance. Without `--speech`, the utterances are synthetic.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]
_POOL = 4  # utterances are read until this many times as many as are needed have been tried


def speech(reference: str, accent: str, given: argparse.Namespace) -> tuple[list[Any], list[Any] | None]:
    """Return utterances to correct and others to protect; None to protect what an embedded model brings."""
    from adapt import accents
    from adapt.data.manifest import read_manifest
    from adapt.models.locate import embedded_models

    if given.speech is not None:
        protected = list(read_manifest(given.protected)[0])[: given.protect]
        known = {one.audio_filepath for one in protected}
        examples = [one for one in read_manifest(given.speech)[0] if one.audio_filepath not in known]
        random.Random(given.seed).shuffle(examples)
        return examples[: _POOL * given.count], protected
    examples = accents(target=accent, train=0, validation=0, test=200, source_test=0).test
    if reference in embedded_models():
        return list(examples), None
    return list(examples), list(accents(target="en-us", train=0, validation=60, test=0, source_test=0).validation)


def texts_of(example: Any, examples: Sequence[Any], draw: random.Random) -> dict[str, str]:
    """Return what was said, what was not, and what was said but for one word."""
    words = example.text.split()
    others = [word for one in examples if one.text != example.text for word in one.text.split()]
    place = draw.randrange(len(words))
    other = draw.choice([word for word in others if word.lower() != words[place].lower()])
    return {
        "said": example.text,
        "not said": draw.choice([one.text for one in examples if one.text != example.text]),
        "one word wrong": " ".join([*words[:place], other, *words[place + 1 :]]),
    }


def measure(reference: str, accent: str, given: argparse.Namespace) -> dict[str, Any]:
    """Return how many of `given.count` texts of each kind one model refuses."""
    from adapt import load_model
    from adapt.corrections.correct import open_or_create
    from adapt.data.kinds import with_text
    from adapt.data.loader import Loader
    from adapt.models.inference import decode_examples

    loaded = load_model(reference)
    task, draw = loaded.model.task, random.Random(given.seed)
    examples, protected = speech(reference, accent, given)
    answers = decode_examples(loaded.model, task, examples, Loader())

    def wrong(example: Any, answer: str) -> bool:
        # A missing comma is no reason for a correction.
        said, heard = ("".join(c for c in task.normalise(text) if c.isalnum()) for text in (example.text, answer))
        return said != heard and bool(example.text.split())

    misread = [one for one, answer in zip(examples, answers, strict=True) if wrong(one, answer)][: given.count]
    refused = dict.fromkeys(("said", "not said", "one word wrong"), 0)
    with tempfile.TemporaryDirectory() as folder:
        memory = open_or_create(loaded, protected, Path(folder) / "c.db")
        for example in misread:
            for kind, text in texts_of(example, examples, draw).items():
                outcome = memory.correct(with_text(example, text), check_protected=False)
                refused[kind] += bool(outcome.refused)
                if outcome.number is not None:
                    memory.undo(outcome.number)
    count = len(misread)
    return {
        "model": Path(reference).name, "speech": accent if given.speech is None else Path(given.speech).parent.name,
        "said": count, "refused, of said": refused["said"],
        "not said": count, "accepted, of not said": count - refused["not said"],
        "one word wrong": count, "accepted, of one word wrong": count - refused["one word wrong"],
    }  # fmt: skip


def main() -> None:
    from result_table import add_results_option, write_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="embedded names or folders, each with :ACCENT if you like")
    parser.add_argument("--count", type=int, default=40, help="texts of each kind (default: 40)")
    parser.add_argument("--speech", help="a manifest to correct, instead of synthetic speech")
    parser.add_argument("--protected", help="a manifest to protect, with --speech")
    parser.add_argument("--protect", type=int, default=12, help="how many utterances of it (default: 12)")
    parser.add_argument("--seed", type=int, default=0, help="seed for the choice of texts that were not said")
    add_results_option(parser)
    given = parser.parse_args()
    if (given.speech is None) != (given.protected is None):
        parser.error("--speech and --protected go together.")
    rows = []
    for model in given.models:
        reference, _, accent = model.partition(":")
        rows.append(measure(reference, accent or "en-gb-scotland", given))
        print(rows[-1], flush=True)
    if given.results is not None:
        write_table(given.results, "Corrections that are refused", rows, str(given.seed))


if __name__ == "__main__":
    main()
