#!/usr/bin/env python
"""How often corrections of CTC models are refused: texts that were said, and texts that were not.

    scripts/study_refusals.py us-english outputs/scottish --results docs/results/refusals.json

Each model gets the true texts of utterances that it misreads, and as many texts of other utterances. All are synthetic.
"""

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]


def measure(reference: str, accent: str, count: int, seed: int) -> dict[str, Any]:
    """Return how many of `count` texts of each kind one model refuses."""
    from adapt import accents, load_model
    from adapt.corrections.correct import open_or_create
    from adapt.data.kinds import with_text
    from adapt.data.loader import Loader
    from adapt.models.inference import decode_examples
    from adapt.models.locate import embedded_models

    loaded = load_model(reference)
    task, draw = loaded.model.task, random.Random(seed)
    examples = accents(target=accent, train=0, validation=0, test=200, source_test=0).test
    answers = decode_examples(loaded.model, task, examples, Loader())
    misread = [
        example
        for example, answer in zip(examples, answers, strict=True)
        if task.normalise(answer) != task.normalise(example.text)
    ][:count]
    texts = [example.text for example in examples]
    refused = {"said": 0, "not said": 0}
    with tempfile.TemporaryDirectory() as folder:
        protected = None  # an embedded model brings its own
        if reference not in embedded_models():
            protected = accents(target="en-us", train=0, validation=60, test=0, source_test=0).validation
        memory = open_or_create(loaded, protected, Path(folder) / "c.db")
        for example in misread:
            other = draw.choice([text for text in texts if text != example.text])
            for kind, text in (("said", example.text), ("not said", other)):
                outcome = memory.correct(with_text(example, text), check_protected=False)
                refused[kind] += bool(outcome.refused)
                if outcome.number is not None:
                    memory.undo(outcome.number)
    name = Path(reference).name
    return {
        "model": name, "accent": accent, "said": len(misread), "refused, of said": refused["said"],
        "not said": len(misread), "accepted, of not said": len(misread) - refused["not said"],
    }  # fmt: skip


def main() -> None:
    from result_table import add_results_option, write_table

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="embedded names or folders of runs, each with :ACCENT if you like")
    parser.add_argument("--count", type=int, default=40, help="texts of each kind (default: 40)")
    parser.add_argument("--seed", type=int, default=0, help="seed for the choice of texts that were not said")
    add_results_option(parser)
    given = parser.parse_args()
    rows = []
    for model in given.models:
        reference, _, accent = model.partition(":")
        rows.append(measure(reference, accent or "en-gb-scotland", given.count, given.seed))
        print(rows[-1], flush=True)
    if given.results is not None:
        write_table(given.results, "Corrections that are refused", rows, str(given.seed))


if __name__ == "__main__":
    main()
