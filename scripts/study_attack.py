#!/usr/bin/env python3
"""Attack a recogniser: how quiet a change suffices, and whether it is seen from inside.

    scripts/study_attack.py --results FILE                             # us-english, synthetic speech
    scripts/study_attack.py --model WHISPER --manifest test.jsonl --count 2 --steps 150 --kinds sentence

Each utterance is attacked with another utterance's text of like length ("sentence"), and with the model's own answer in
which one word is another one of like length ("word"). The quietest success counts, read in 16 bits. Seconds are of the
processor, on one thread, for one attack.

Detection: attacked recordings (both kinds, successes) against clean ones and ones with noise of the same energy and
spectrum. The detector is tested on one speaker at a time, and trained on all others. The rivals say how much the answer
changes with a low-pass filter at 4 kHz, and with 8 bits.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
from result_table import add_results_option, write_table

from adapt.adversarial.attack import attack, hear, quantised
from adapt.adversarial.detect import auroc, changed_answers, features, fit_detector, low_passed, requantised
from adapt.adversarial.parting import part
from adapt.adversarial.result import Attacked
from adapt.data.example import Example
from adapt.data.manifest import read_manifest
from adapt.data.recording import Recording
from adapt.data.synthetic import sentences
from adapt.data.synthetic.accents import accents
from adapt.models.checkpoint import load_model
from adapt.models.model import Model


def like(texts: Sequence[str], text: str) -> str:
    """Return the other text whose length is nearest."""
    return min((one for one in texts if one != text), key=lambda one: (abs(len(one) - len(text)), one))


def other_word(answer: str, words: Sequence[str]) -> str:
    """Return an answer in which its longest word is another word of like length."""
    own = answer.split()
    place = max(range(len(own)), key=lambda number: len(own[number]))
    own[place] = like(words, own[place])
    return " ".join(own)


def row_of(kind: str, found: Sequence[Attacked], seconds: Sequence[float], carriers: Sequence[str]) -> dict[str, Any]:
    """Return a row of the table for all attacks of one kind."""
    quiet = [one.snr if one.success else float("-inf") for one in found]
    return {
        "attack": kind, "attacks": len(found),
        "at 20 dB": f"{sum(snr >= 20 for snr in quiet)} of {len(found)}",
        "at 30 dB": f"{sum(snr >= 30 for snr in quiet)} of {len(found)}",
        "median SNR (dB)": f"{statistics.median(one.snr for one in found):.1f}",
        "noise does the same": f"{sum(one.noise == one.after for one in found if one.success)} of {len(found)}",
        "most frequent carrier": statistics.mode(carriers) if carriers else "",
        "seconds": f"{statistics.mean(seconds):.0f}",
    }  # fmt: skip


def detection(model: Model, attacked: Sequence[tuple[str, Attacked]]) -> list[dict[str, Any]]:
    """Return the AUROC of the detector on held-out speakers, and of the rivals."""
    recordings, labels, speakers = [], [], []
    for speaker, one in attacked:
        for samples, is_attacked in ((one.samples, True), (one.clean, False), (one.noisy, False)):
            recordings.append(Recording(samples, one.rate))
            labels.append(is_attacked)
            speakers.append(speaker)
    truth, values, scores = np.array(labels), features(model, recordings), np.zeros(len(labels))
    for speaker in dict.fromkeys(speakers):
        out = np.array([own == speaker for own in speakers])
        scores[out] = fit_detector(values[~out], truth[~out].tolist()).scores(values[out])
    rivals = {"low-pass": low_passed, "8 bits": requantised}
    areas = {"detector, held-out speakers": auroc(scores, labels)}
    areas |= {name: auroc(changed_answers(model, recordings, change), labels) for name, change in rivals.items()}
    return [
        {"attack": f"detection: {name}", "attacks": int(truth.sum()), "AUROC": f"{area:.3f}"}
        for name, area in areas.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="us-english", help="a model")
    parser.add_argument("--manifest", type=Path, help="recordings instead of synthetic speech")
    parser.add_argument(
        "--count", type=int, default=10, help="number of utterances, each of another speaker if possible"
    )
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--kinds", nargs="+", default=["sentence", "word"], choices=["sentence", "word"])
    parser.add_argument("--seed", type=int, default=0)
    add_results_option(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load_model(given.model)
    model = loaded.model
    if given.manifest:
        every: Sequence[Any] = read_manifest(given.manifest)[0]
    else:
        every = accents(train=0, validation=0, test=0, source_test=8 * given.count).source_test
    speakers: dict[str, Example] = {}
    for one in every:
        speakers.setdefault(one.group("speaker"), one)
    examples = [*speakers.values(), *(one for one in every if one not in speakers.values())][: given.count]
    texts = [model.task.normalise(one.text) for one in every]
    words = sorted(
        {word for text in texts for word in text.split()} | (set() if given.manifest else sentences.ENGLISH.words())
    )
    rows, kept = [], []
    for kind in given.kinds:
        found, seconds, carriers = [], [], []
        for example in examples:
            before = hear(model, quantised(model.reader.read(example)), example)
            plain = model.task.normalise(before)
            target = like(texts, plain) if kind == "sentence" else other_word(plain, words)
            began = time.process_time()
            one = attack(model, example, target, snr=20, steps=given.steps, seed=given.seed)
            seconds.append(time.process_time() - began)
            found.append(one)
            print(kind, f"{seconds[-1]:.0f} s", one.summary(), flush=True)
            if one.success:
                kept.append((example.group("speaker"), one))
                carriers.append(part(model, one).carrier or "")
        rows.append(row_of(kind, found, seconds, carriers))
        print(rows[-1], flush=True)
    if len({speaker for speaker, _ in kept}) > 1:
        rows += detection(model, kept)
        print(*rows[len(given.kinds) :], sep="\n", flush=True)
    if given.results:
        columns = dict.fromkeys(name for row in rows for name in row)
        write_table(
            given.results,
            f"Attacks on {given.model}",
            [{name: row.get(name, "") for name in columns} for row in rows],
            f"seed {given.seed}",
        )


if __name__ == "__main__":
    main()
