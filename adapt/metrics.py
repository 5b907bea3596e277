"""Metrics of hypotheses against references, with bootstrap intervals: WER and CER, BLEU, chrF and TER."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from adapt.data.text import normalise
from adapt.formatting import amount

RESAMPLES = 1000
EDITS = ("substitutions", "deletions", "insertions")
_ASIAN = ("zh", "ja-mecab", "ko-mecab", "char")  # tokenizers of sacrebleu


@dataclass(frozen=True)
class Metric:
    """A quality metric, such as WER or BLEU.

    Attributes:
        key: Its name in files.
        label: Its name in tables.
        name: Its name in sentences.
        higher: Whether higher values are better.
        percent: Whether values are fractions that are shown in percent (0.1 as 10 %); other values run from 0 to 100.
        signature: Sacrebleu's signature, with which others can reproduce the measurement.
    """

    key: str
    label: str
    name: str
    higher: bool = False
    percent: bool = True
    signature: str = ""

    @property
    def scale(self) -> float:
        """The factor from a value to the number shown, in percent or in points."""
        return 100.0 if self.percent else 1.0

    @property
    def unit(self) -> str:
        """The unit after a shown number: " %" or ""."""
        return " %" if self.percent else ""

    @property
    def title(self) -> str:
        """The label with the unit, for columns and axes: "WER, %", "BLEU"."""
        return f"{self.label},{self.unit}" if self.percent else self.label


WER = Metric("wer", "WER", "word error rate")
CER = Metric("cer", "CER", "character error rate")


@dataclass(frozen=True)
class TextScores:
    """The metrics of a list of examples, in a form that can be resampled.

    Attributes:
        metrics: The metrics. The first one is the main one.
        statistics: For each metric, numbers of each example, `(examples, numbers)`, that can be summed over examples.
        formulas: For each metric, a function from summed statistics `(..., numbers)` to values of the metric `(...)`.
        edits: Substituted, deleted and inserted words of each example, `(examples, 3)`; None for translations.
    """

    metrics: tuple[Metric, ...]
    statistics: tuple[np.ndarray, ...]
    formulas: tuple[Callable[[np.ndarray], np.ndarray], ...]
    edits: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.statistics[0])

    def __getitem__(self, chosen: np.ndarray) -> "TextScores":
        """Return the scores of some examples, selected by an array of indices or of bools."""
        edits = None if self.edits is None else self.edits[chosen]
        return TextScores(self.metrics, tuple(array[chosen] for array in self.statistics), self.formulas, edits)

    def pooled(self, groups: Sequence[np.ndarray]) -> "TextScores":
        """Merge each group of examples (an array of indices) into one, so that speakers can be resampled as a whole."""
        statistics = tuple(np.stack([array[group].sum(0) for group in groups]) for array in self.statistics)
        edits = None if self.edits is None else np.stack([self.edits[group].sum(0) for group in groups])
        return TextScores(self.metrics, statistics, self.formulas, edits)

    def values(self) -> dict[str, float]:
        """Return the value of each metric over all examples, by its key."""
        each = zip(self.metrics, self.statistics, self.formulas, strict=True)
        return {metric.key: float(formula(array.sum(0))) for metric, array, formula in each}

    def __str__(self) -> str:
        values = self.values()
        return ", ".join(f"{metric.label} {amount(values[metric.key], metric)}" for metric in self.metrics)

    def as_dict(self) -> dict[str, Any]:
        """Return the values, their 95 % intervals and the number of examples, as `metrics.json` contains them.

        For recognition, these include substituted, deleted and inserted words per reference word; their sum is the WER.
        """
        rows: dict[str, Any] = {}
        values, intervals = self.values(), bootstrap_intervals(self)
        for metric in self.metrics:
            rows |= {metric.key: values[metric.key], f"{metric.key}_interval": intervals[metric.key]}
        if self.edits is not None:
            words = self.statistics[0][:, 1].sum()
            rows |= dict(zip(EDITS, (self.edits.sum(0) / words).tolist(), strict=True))
        return rows | {"examples": len(self)}


def error_rates(references: Sequence[str], hypotheses: Sequence[str], language: str | None = None) -> TextScores:
    """Return word and character error rates of normalised texts (lower case, NFC, single spaces).

    A rate is the number of edits divided by the length of all references. It can exceed 1. `language` is a code such as
    "tr", whose rule for lower case is used.

    Raises:
        ValueError: a reference has no word.
    """
    import jiwer

    references, hypotheses = ([normalise(text, language) for text in texts] for texts in (references, hypotheses))
    if not all(references):
        raise ValueError("A reference without words has no error rate.")
    characters = jiwer.process_characters(references, hypotheses)
    edits = np.array([_edits(chunks) for chunks in characters.alignments])
    kinds = word_edit_kinds(references, hypotheses)
    words = np.stack([kinds.sum(1), [len(text.split()) for text in references]], axis=1)
    return TextScores(
        (WER, CER),
        (words, np.stack([edits, [len(text) for text in references]], axis=1)),
        (_ratio, _ratio),
        kinds,
    )


@cache
def translation_metrics(tokenize: str = "13a") -> tuple[Metric, ...]:
    """Return sacrebleu's (Post 2018) BLEU (Papineni et al. 2002), chrF (Popović 2015) and TER (Snover et al. 2006).

    `tokenize` is sacrebleu's tokenizer for BLEU: 13a for languages with spaces, or zh, ja-mecab, ko-mecab, char, ...
    With one of these four, TER splits Chinese and Japanese characters and punctuation, as its signature says.

    Raises:
        ValueError: sacrebleu has no such tokenizer, or the tokenizer needs a library that is not installed.
    """
    bleu, chrf, ter = _sacrebleu(tokenize)
    return (
        Metric("bleu", "BLEU", "BLEU", higher=True, percent=False, signature=_signature(bleu)),
        Metric("chrf", "chrF", "chrF", higher=True, percent=False, signature=_signature(chrf)),
        Metric("ter", "TER", "translation edit rate", percent=False, signature=_signature(ter)),
    )


def translation_scores(references: Sequence[str], hypotheses: Sequence[str], tokenize: str = "13a") -> TextScores:
    """Return BLEU, chrF and TER of a corpus, from 0 to 100 (TER can exceed 100); see `translation_metrics`."""
    return TextScores(
        translation_metrics(tokenize),
        # sacrebleu's own bootstrap works with these statistics and formulas.
        tuple(
            np.array(metric._extract_corpus_statistics(list(hypotheses), [list(references)]))
            for metric in _sacrebleu(tokenize)
        ),
        tuple(_each_row(metric._compute_score_from_stats) for metric in _sacrebleu(tokenize)),
    )


def translation_words(text: str, tokenize: str = "13a") -> list[str]:
    """Return the words of a text as BLEU's tokenizer finds them, without punctuation."""
    return [word for word in _sacrebleu(tokenize)[0].tokenizer(text).split() if any(map(str.isalnum, word))]


@cache
def _sacrebleu(tokenize: str) -> tuple[Any, ...]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    if tokenize not in BLEU.TOKENIZERS:
        raise ValueError(f"sacrebleu has no tokenizer {tokenize!r}. It has {', '.join(sorted(BLEU.TOKENIZERS))}.")
    try:
        bleu = BLEU(tokenize=tokenize, force=True)  # no warning about sentences that end in " ."
    except (RuntimeError, ImportError, OSError) as error:  # a missing library, or a file that cannot be downloaded
        reason = " ".join(str(error).split())
        raise ValueError(f"sacrebleu's tokenizer {tokenize!r} is not available here ({reason}).") from None
    # TER counts words, which these languages do not separate: it must split their characters, as BLEU does. sacrebleu
    # splits them only together with its other normalisation.
    asian = tokenize in _ASIAN
    return bleu, CHRF(), TER(normalized=asian, asian_support=asian)


def _signature(metric: Any) -> str:
    # sacrebleu sets its number of references when it scores a corpus for the first time.
    metric.corpus_score(["a"], [["a"]])
    return str(metric.get_signature())


def _each_row(score: Callable[[list[float]], Any]) -> Callable[[np.ndarray], np.ndarray]:
    def formula(sums: np.ndarray) -> np.ndarray:
        values = [score(row).score for row in sums.reshape(-1, sums.shape[-1]).tolist()]
        return np.array(values).reshape(sums.shape[:-1])

    return formula


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def word_edits(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """Return the number of substituted, deleted and inserted words of each hypothesis, `(examples,)`.

    Raises:
        ValueError: a reference has no word.
    """
    return word_edit_kinds(references, hypotheses).sum(1)


def word_edit_kinds(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """Return the numbers of substituted, deleted and inserted words of each hypothesis, `(examples, 3)`.

    Raises:
        ValueError: a reference has no word.
    """
    import jiwer

    aligned = jiwer.process_words(list(references), list(hypotheses)).alignments
    kinds = ("substitute", "delete", "insert")
    counts = [[_edits([chunk for chunk in chunks if chunk.type == kind]) for kind in kinds] for chunks in aligned]
    return np.array(counts).reshape(-1, len(kinds))


def bootstrap_intervals(scores: TextScores, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return each metric's 95 % percentile interval, from resampled examples (Bisani & Ney 2004; Koehn 2004)."""
    return {
        metric.key: _percentiles(_resampled(array, formula, seed))
        for metric, array, formula in zip(scores.metrics, scores.statistics, scores.formulas, strict=True)
    }


def paired_intervals(before: TextScores, after: TextScores, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of the difference, after minus before, of each metric.

    Both are scores of the same examples, and each resample draws the same examples from both.
    """
    each = zip(before.metrics, before.statistics, after.statistics, before.formulas, strict=True)
    return {
        metric.key: _percentiles(_resampled(new, formula, seed) - _resampled(old, formula, seed))
        for metric, old, new, formula in each
    }


def main_resamples(scores: TextScores, seed: int = 0) -> np.ndarray:
    """Return the main metric of each bootstrap resample, `(resamples,)`.

    Scores of the same examples are resampled alike, so differences between their results are paired.
    """
    return _resampled(scores.statistics[0], scores.formulas[0], seed)


def more_than_chance(count: int, total: int) -> bool:
    """Return whether so many of `total` 95 % intervals lie on one side of 0 that it is unlikely by chance.

    Args:
        count: The number of intervals that lie on the side of interest; by chance, 2.5 % of them do.
        total: The number of intervals.

    Returns:
        True if the one-sided binomial test is significant at 5 %. It takes intervals as independent.
    """
    from scipy.stats import binomtest

    return count > 0 and float(binomtest(count, total, 0.025, "greater").pvalue) < 0.05


def unpaired_intervals(first: TextScores, second: TextScores, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of the difference, first minus second, of each metric.

    The two are scores of different examples, and each is resampled independently.
    """
    each = zip(first.metrics, first.statistics, second.statistics, first.formulas, strict=True)
    return {
        metric.key: _percentiles(_resampled(array, formula, seed) - _resampled(other, formula, seed + 1))
        for metric, array, other, formula in each
    }


def _resampled(statistics: np.ndarray, formula: Callable[[np.ndarray], np.ndarray], seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    block = max(1, 1_000_000 // statistics.size)  # how many resamples to draw at a time, to limit memory
    values = []
    for start in range(0, RESAMPLES, block):
        picks = draw.integers(0, len(statistics), (min(block, RESAMPLES - start), len(statistics)))
        values.append(formula(statistics[picks].sum(1)))
    return np.concatenate(values)


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _edits(chunks: Sequence) -> int:
    # A deletion spans reference words only, an insertion hypothesis words only, a substitution as many of both.
    return sum(
        max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        for chunk in chunks
        if chunk.type != "equal"
    )
