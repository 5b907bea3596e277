"""What large data cost: from a manifest to the first batch, and grouping by many speakers.

    .venv/bin/python scripts/bench_scale.py [--lines 10000] [--results docs/results/scale.json]

The manifest names hard links to one recording of 2 s (64 kB), so that many lines take no disk. Each figure is CPU time
in a process of its own. Times of imports are not part of it. The first start reads the header and the checksum of each
file; the second one recalls them; `full` decodes each file.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from result_table import add_results_option, write_table

TEXT = "the quick brown fox jumps over dog"
SPEAKERS = (1_000, 4_000)  # the exponent is taken between these numbers of speakers, of two utterances each


def make(folder: Path, lines: int) -> None:
    """Write a manifest for training of `lines` lines, and a recording for each of them."""
    import soundfile

    first = folder / "0.wav"
    soundfile.write(first, np.random.default_rng(0).normal(0, 0.1, 32_000), 16_000)
    rows = []
    for number in range(lines):
        if number:
            os.link(first, folder / f"{number}.wav")
        rows.append(json.dumps({"audio_filepath": f"{number}.wav", "text": TEXT, "speaker": f"s{number % 100}"}))
    (folder / "train.jsonl").write_text("\n".join(rows) + "\n")
    time.sleep(3)  # files that were changed just now are not remembered


def start(folder: Path, check: Any) -> dict[str, float]:
    """Return the CPU seconds and the peak of memory (MB) from the manifest to the first batch."""
    import resource

    from adapt.data.loader import Loader
    from adapt.data.splits import check_splits, read_splits
    from adapt.models.labels import ENGLISH, Labels
    from adapt.models.loaded import Loaded
    from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
    from adapt.training.start import Start

    model = Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12), Labels.of(ENGLISH))
    base = Loaded(model, "new", "", {})
    began, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    splits, _ = check_splits(read_splits(train=folder / "train.jsonl"), model, check=check)
    Start.of(base, splits, {})
    next(iter(Loader().training(splits.train, model.reader)))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    return {"seconds": time.process_time() - began, "megabytes": grown / 1024}


def grouping(speakers: int) -> float:
    """Return the CPU seconds of grouping two utterances of each of `speakers` speakers, with their error rates."""
    from adapt.comparison.hypotheses import score_hypotheses
    from adapt.data.manifest import Utterance

    examples = [Utterance(Path(f"{n}.wav"), "a b", speaker=str(n % speakers)) for n in range(2 * speakers)]
    texts = {"target": ["a c"] * len(examples)}
    began = time.process_time()
    score_hypotheses({"target": examples}, texts, texts, group_by=["speaker"])
    return time.process_time() - began


def measure(*arguments: str, cache: str) -> Any:
    """Run this script in a process of its own, and return what it prints."""
    made = subprocess.run(
        [sys.executable, __file__, *arguments], env={**os.environ, "INNERTUNE_CACHE": cache}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(made.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=10_000)
    add_results_option(parser)
    parser.add_argument("--start", nargs=2, metavar=("FOLDER", "CHECK"), help=argparse.SUPPRESS)
    parser.add_argument("--grouping", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.start:
        print(json.dumps(start(Path(args.start[0]), args.start[1])))
        return
    if args.grouping:
        print(json.dumps(grouping(args.grouping)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), args.lines)
        for name, check, cache in (("full", "full", "a"), ("first", "headers", "b"), ("second", "headers", "b")):
            cost = measure("--start", folder, check, cache=str(Path(folder) / cache))
            each = cost["seconds"] / args.lines
            rows.append(
                {"what": f"start, {name}", "microseconds each": 1e6 * each, "seconds for 100,000": 1e5 * each,
                 "MB for 100,000": cost["megabytes"] / args.lines * 1e5, "exponent": None}
            )  # fmt: skip
        fewer, more = (measure("--grouping", str(count), cache=folder) for count in SPEAKERS)
        exponent = math.log(more / fewer) / math.log(SPEAKERS[1] / SPEAKERS[0])
        each = more / SPEAKERS[1] / 2
        rows.append(
            {"what": "utterances in groups of two", "microseconds each": 1e6 * each, "seconds for 100,000": 1e5 * each,
             "MB for 100,000": None, "exponent": exponent}
        )  # fmt: skip
    for row in rows:
        print("   ".join(f"{name} {value:.4g}" if name != "what" else value for name, value in row.items() if value))
    if args.results is not None:
        write_table(args.results, str(__doc__), rows)


if __name__ == "__main__":
    main()
