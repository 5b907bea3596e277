#!/usr/bin/env python3
"""Measure hot words: names that a model never saw, in a list of names of which most do not occur.

    scripts/study_hot_words.py --results FILE                     # us-english, made-up names, synthetic speech
    scripts/study_hot_words.py --model WHISPER --manifest test.jsonl --known train.jsonl --beams 1

Without a manifest, names are made of syllables and spoken by espeak-ng in sentences of the grammar that us-english was
trained on, in place of its people and cities. With one, the hot words are the words of its texts with at least five
letters that are not in the texts of `--known`, such as names. The list has as many further names that are never said.

- names: how many are said; precision, recall and F of the names in the answers;
- other WER: the word error rate of all other words; insertions count here;
- seconds: to decode everything, in this order without and with hot words, the least of three rounds.
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import jiwer
import torch
from result_table import add_results_option, write_table

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.data.recording import Recording
from adapt.data.resampling import resample
from adapt.data.synthetic import espeak, sentences
from adapt.data.synthetic.accents import TEST_VARIANTS
from adapt.data.text import strip_punctuation
from adapt.hot_words.favour import favouring
from adapt.hot_words.words import HotWord
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples
from adapt.models.loaded import Loaded

RATE = 16_000
_ONSETS = [*"bdfgklmnprstvz", "br", "dr", "gr", "kr", "pl", "st", "tr"]
_VOWELS = "aeiou"
_CODAS = ["", "", "n", "l", "r", "s", "k", "m"]


def made_up(count: int, seed: int) -> list[str]:
    """Return made-up names of two or three syllables, none of which is a word of the grammar."""
    draw, found = random.Random(seed), dict[str, None]()
    while len(found) < count:
        parts = draw.choice((2, 2, 3))
        name = "".join(draw.choice(_ONSETS) + draw.choice(_VOWELS) for _ in range(parts)) + draw.choice(_CODAS)
        if name not in sentences.ENGLISH.words():
            found[name] = None
    return list(found)


def spoken(names: Sequence[str], count: int, seed: int) -> list[Recording]:
    """Return synthetic sentences with names in place of people and cities, and as many without names."""
    draw = random.Random(seed)
    named = replace(sentences.ENGLISH, slots={**sentences.ENGLISH.slots, "person": tuple(names), "city": tuple(names)})
    found: list[Recording] = []
    while len(found) < count:
        grammar = named if len(found) % 2 else sentences.ENGLISH
        text = grammar.sentence(draw)
        if (len(found) % 2 == 1) != bool({*text.split()} & {*names}) or "{" in text:
            continue
        speech = espeak.speak(text, "en-us", draw.choice(TEST_VARIANTS), draw.randint(140, 190))
        samples = torch.from_numpy(speech.samples / 32768.0).float()
        samples = resample(samples, speech.sample_rate, RATE).numpy()
        found.append(Recording(samples, RATE, text=text))
    return found


def rare_words(texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the words of some texts that others do not have, of at least five letters."""
    seen = {word for text in known for word in text.split()}
    words = dict.fromkeys(word for text in texts for word in text.split())
    return [word for word in words if len(word) >= 5 and word.isalpha() and word not in seen]


def compared(references: Sequence[str], answers: Sequence[str], names: set[str]) -> dict[str, Any]:
    """Return precision, recall and F of the names, and the error rate of all other words."""
    right = said = written = 0
    errors = words = 0
    for reference, answer in zip(references, answers, strict=True):
        own, theirs = (Counter(word for word in text.split() if word in names) for text in (reference, answer))
        right, said, written = right + (own & theirs).total(), said + own.total(), written + theirs.total()
        split = reference.split()
        words += sum(word not in names for word in split)
        for chunk in jiwer.process_words([reference], [answer or "-"]).alignments[0]:
            if chunk.type == "insert":
                errors += chunk.hyp_end_idx - chunk.hyp_start_idx
            elif chunk.type != "equal":
                errors += sum(split[place] not in names for place in range(chunk.ref_start_idx, chunk.ref_end_idx))
    precision, recall = right / max(1, written), right / max(1, said)
    return {
        "names": said, "precision": f"{100 * precision:.1f} %", "recall": f"{100 * recall:.1f} %",
        "F": f"{200 * precision * recall / max(1e-9, precision + recall):.1f}",
        "other WER": f"{100 * errors / words:.2f} %",
    }  # fmt: skip


def decoded(
    loaded: Loaded, examples: Sequence[Example], words: Sequence[HotWord], ngram: Path | None, rounds: int
) -> tuple[list[str], float]:
    """Return the answers and the least seconds."""
    least, answers = float("inf"), [""]
    for _ in range(rounds):
        with favouring(loaded, words or "off", ngram) if words or ngram else nullcontext():
            began = time.process_time()
            answers = decode_examples(loaded.model, loaded.model.task, examples, Loader(batch_seconds=60))
            least = min(least, time.process_time() - began)
    return answers, least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="us-english", help="a model")
    parser.add_argument("--manifest", type=Path, help="recordings instead of synthetic speech")
    parser.add_argument("--known", type=Path, nargs="+", default=[], help="manifests whose words are not rare")
    parser.add_argument("--count", type=int, default=120, help="number of utterances")
    parser.add_argument("--names", type=int, default=40, help="number of made-up names that are said")
    parser.add_argument("--weights", type=float, nargs="+", default=[1.0], help="weights of the hot words")
    parser.add_argument("--beams", type=int, help="beams of a model with a decoder")
    parser.add_argument("--ngram", type=Path, help="a text for an n-gram")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    add_results_option(parser)
    given = parser.parse_args()
    loaded = load_model(given.model, **({"beams": given.beams} if given.beams else {}))
    unsaid = made_up(2 * given.names, given.seed)
    names, unsaid = unsaid[: given.names], unsaid[given.names :]
    if given.manifest:
        examples: Sequence[Any] = read_manifest(given.manifest)[0][: given.count]
        known = [one.text.lower() for path in given.known for one in read_manifest(path)[0]]
        names = rare_words([one.text.lower() for one in examples], known)
        unsaid = unsaid[: len(names)]
    else:
        examples = spoken(names, given.count, given.seed)
    references = [strip_punctuation(one.text) for one in examples]
    rows = []
    for weight in (None, *given.weights):
        words = [] if weight is None else [HotWord(word, weight) for word in (*names, *unsaid)]
        answers, seconds = decoded(loaded, examples, words, given.ngram, given.rounds)
        result = compared(references, [strip_punctuation(answer) for answer in answers], {*names, *unsaid})
        label = "no hot words" if weight is None else f"weight {weight:g}"
        rows.append({"": label, **result, "seconds": f"{seconds:.1f}"})
        print(rows[-1], flush=True)
    if given.results:
        write_table(given.results, "Hot words", rows, f"seed {given.seed}")


if __name__ == "__main__":
    main()
