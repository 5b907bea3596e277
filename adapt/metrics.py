"""How good answers are: error rates of speech, BLEU, chrF and TER of translations, with bootstrap intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from adapt.data.text import normalise

RESAMPLES = 1000


@dataclass(frozen=True)
class Metric:
    """One figure of quality: its `key` in files, the `label` that tables show, and its `name` in a sentence.

    `higher` says whether more is better; `percent`, whether it is a fraction (0.1 is 10 %), else it runs from 0 to 100.
    `signature` is what others need to measure the same (sacrebleu's).
    """

    key: str
    label: str
    name: str
    higher: bool = False
    percent: bool = True
    signature: str = ""

    @property
    def scale(self) -> float:
        """The factor from a value to the number that is shown, which is in percent or in points."""
        return 100.0 if self.percent else 1.0

    @property
    def unit(self) -> str:
        """What follows a shown number: " %", or nothing."""
        return " %" if self.percent else ""

    @property
    def title(self) -> str:
        """The label with the unit, for a column or an axis: "WER, %", "BLEU"."""
        return f"{self.label},{self.unit}" if self.percent else self.label


WER = Metric("wer", "WER", "word error rate")
CER = Metric("cer", "CER", "character error rate")


@dataclass(frozen=True)
class TextScores:
    """Several metrics of the same examples, the first of which counts most.

    For each metric there are `statistics` `(examples, numbers)`, which add up over examples, and a function in
    `figures` that makes of their sums `(..., numbers)` the metric `(...)`.
    """

    metrics: tuple[Metric, ...]
    statistics: tuple[np.ndarray, ...]
    figures: tuple[Callable[[np.ndarray], np.ndarray], ...]

    def __len__(self) -> int:
        return len(self.statistics[0])

    def __getitem__(self, chosen: np.ndarray) -> "TextScores":
        """The quality of some examples, picked by an index or bool array."""
        return TextScores(self.metrics, tuple(own[chosen] for own in self.statistics), self.figures)

    def together(self, groups: Sequence[np.ndarray]) -> "TextScores":
        """The same with the examples of each group taken together as one, by index arrays: to resample speakers."""
        return TextScores(
            self.metrics, tuple(np.stack([own[g].sum(0) for g in groups]) for own in self.statistics), self.figures
        )

    def values(self) -> dict[str, float]:
        """Each metric over all examples, by its key."""
        each = zip(self.metrics, self.statistics, self.figures, strict=True)
        return {metric.key: float(figure(own.sum(0))) for metric, own, figure in each}

    def __str__(self) -> str:
        values = self.values()
        return ", ".join(f"{m.label} {m.scale * values[m.key]:.1f}{m.unit}" for m in self.metrics)

    def as_dict(self) -> dict[str, Any]:
        """Values, their 95 % intervals, and the number of examples: what `metrics.json` holds."""
        described: dict[str, Any] = {}
        values, intervals = self.values(), bootstrap_intervals(self)
        for metric in self.metrics:
            described |= {metric.key: values[metric.key], f"{metric.key}_interval": intervals[metric.key]}
        return described | {"examples": len(self)}


def error_rates(references: Sequence[str], answers: Sequence[str]) -> TextScores:
    """Word and character error rates, after `normalise` (lower case, NFC, single spaces).

    A rate is the sum of edits by the sum of the references' lengths; 1.0 is as many edits as reference words.

    Raises:
        ValueError: a reference has no word.
    """
    import jiwer

    references, answers = [normalise(text) for text in references], [normalise(text) for text in answers]
    if not all(references):
        raise ValueError("A reference without words has no error rate.")
    characters = jiwer.process_characters(references, answers)
    edits = np.array([_edits(chunks) for chunks in characters.alignments])
    words = np.stack([word_edits(references, answers), [len(text.split()) for text in references]], axis=1)
    return TextScores(
        (WER, CER),
        (words, np.stack([edits, [len(text) for text in references]], axis=1)),
        (_ratio, _ratio),
    )


@cache
def translation_metrics(tokenize: str = "13a") -> tuple[Metric, ...]:
    """BLEU (Papineni et al. 2002), chrF (Popović 2015) and TER (Snover et al. 2006) as sacrebleu (Post 2018) has them.

    `tokenize` is how sacrebleu's BLEU finds words: 13a for languages with spaces; zh, ja-mecab, ko-mecab, char, ...

    Raises:
        ValueError: sacrebleu has no such tokenizer, or it needs what is not installed.
    """
    bleu, chrf, ter = _sacrebleu(tokenize)
    return (
        Metric("bleu", "BLEU", "BLEU", higher=True, percent=False, signature=_signature(bleu)),
        Metric("chrf", "chrF", "chrF", higher=True, percent=False, signature=_signature(chrf)),
        Metric("ter", "TER", "translation edit rate", percent=False, signature=_signature(ter)),
    )


def translation_quality(references: Sequence[str], answers: Sequence[str], tokenize: str = "13a") -> TextScores:
    """BLEU, chrF and TER of a corpus, each 0 to 100 (TER may be more); see `translation_metrics`."""
    return TextScores(
        translation_metrics(tokenize),
        # The statistics and what is made of them are what sacrebleu's own bootstrap works with.
        tuple(
            np.array(metric._extract_corpus_statistics(list(answers), [list(references)]))
            for metric in _sacrebleu(tokenize)
        ),
        tuple(_each_row(metric._compute_score_from_stats) for metric in _sacrebleu(tokenize)),
    )


def translation_words(text: str, tokenize: str = "13a") -> list[str]:
    """The words that BLEU finds in a text, without its punctuation."""
    return [word for word in _sacrebleu(tokenize)[0].tokenizer(text).split() if any(map(str.isalnum, word))]


@cache
def _sacrebleu(tokenize: str) -> tuple[Any, ...]:
    from sacrebleu.metrics import BLEU, CHRF, TER

    if tokenize not in BLEU.TOKENIZERS:
        raise ValueError(f"sacrebleu has no tokenizer {tokenize!r}. It has {', '.join(sorted(BLEU.TOKENIZERS))}.")
    try:
        bleu = BLEU(tokenize=tokenize, force=True)  # no warning: a sentence may well end in " ."
    except (RuntimeError, ImportError, OSError) as error:  # a library, or a file that it downloads
        said = " ".join(str(error).split())
        raise ValueError(f"sacrebleu's tokenizer {tokenize!r} cannot be had here ({said}).") from None
    return bleu, CHRF(), TER()


def _signature(metric: Any) -> str:
    # sacrebleu learns the number of references from the first corpus that it sees.
    metric.corpus_score(["a"], [["a"]])
    return str(metric.get_signature())


def _each_row(score: Callable[[list[float]], Any]) -> Callable[[np.ndarray], np.ndarray]:
    def figure(sums: np.ndarray) -> np.ndarray:
        return np.array([score(row).score for row in sums.reshape(-1, sums.shape[-1]).tolist()]).reshape(
            sums.shape[:-1]
        )

    return figure


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def word_edits(references: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """How many words would have to be changed, added or removed in each answer, `(examples,)`.

    Raises:
        ValueError: a reference has no word.
    """
    import jiwer

    return np.array([_edits(chunks) for chunks in jiwer.process_words(list(references), list(answers)).alignments])


def bootstrap_intervals(quality: TextScores, seed: int = 0) -> dict[str, tuple[float, float]]:
    """The 95 % percentile interval of each metric, examples resampled (Bisani & Ney 2004; Koehn 2004)."""
    return {
        metric.key: _percentiles(_resampled(own, figure, seed))
        for metric, own, figure in zip(quality.metrics, quality.statistics, quality.figures, strict=True)
    }


def paired_intervals(before: TextScores, after: TextScores, seed: int = 0) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each metric after minus before, each resample taking the same examples from both."""
    each = zip(before.metrics, before.statistics, after.statistics, before.figures, strict=True)
    return {
        metric.key: _percentiles(_resampled(new, figure, seed) - _resampled(old, figure, seed))
        for metric, old, new, figure in each
    }


def unpaired_intervals(one: TextScores, other: TextScores, seed: int = 0) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each metric of one minus the other, of different examples, each resampled by itself."""
    each = zip(one.metrics, one.statistics, other.statistics, one.figures, strict=True)
    return {
        metric.key: _percentiles(_resampled(own, figure, seed) - _resampled(theirs, figure, seed + 1))
        for metric, own, theirs, figure in each
    }


def _resampled(statistics: np.ndarray, figure: Callable[[np.ndarray], np.ndarray], seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    block = max(1, 1_000_000 // statistics.size)  # resamples at a time: memory stays bounded, however many examples
    values = []
    for start in range(0, RESAMPLES, block):
        picks = draw.integers(0, len(statistics), (min(block, RESAMPLES - start), len(statistics)))
        values.append(figure(statistics[picks].sum(1)))
    return np.concatenate(values)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _edits(chunks: Sequence) -> int:
    # Deletions span the reference only and insertions the answer only; a substitution spans both alike.
    return sum(
        max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        for chunk in chunks
        if chunk.type != "equal"
    )
