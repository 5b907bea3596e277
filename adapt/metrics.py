"""Word and character error rates, with bootstrap intervals over utterances."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapt.models.labels import tidy

RESAMPLES = 1000


@dataclass(frozen=True)
class ErrorRates:
    """Edits and lengths per utterance, each `(utterances,)`; rates are sums of edits by sums of reference lengths."""

    word_edits: np.ndarray
    words: np.ndarray
    character_edits: np.ndarray
    characters: np.ndarray

    @property
    def wer(self) -> float:
        """Word error rate, 1.0 = as many edits as reference words."""
        return float(self.word_edits.sum() / self.words.sum())

    @property
    def cer(self) -> float:
        """Character error rate."""
        return float(self.character_edits.sum() / self.characters.sum())

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, chosen: np.ndarray) -> "ErrorRates":
        """The scores of some utterances, picked by an index or bool array."""
        return ErrorRates(
            self.word_edits[chosen], self.words[chosen], self.character_edits[chosen], self.characters[chosen]
        )

    def as_dict(self) -> dict[str, object]:
        """Rates, their 95 % intervals, and the number of utterances: what `metrics.json` holds."""
        return {
            "wer": self.wer,
            "wer_interval": bootstrap_interval(self.word_edits, self.words),
            "cer": self.cer,
            "cer_interval": bootstrap_interval(self.character_edits, self.characters),
            "utterances": len(self),
        }


def error_rates(references: Sequence[str], answers: Sequence[str]) -> ErrorRates:
    """Compare texts after `tidy` (lower case, NFC, single spaces). Raises ValueError if a reference has no word."""
    import jiwer

    references, answers = [tidy(text) for text in references], [tidy(text) for text in answers]
    if not all(references):
        raise ValueError("A reference without words has no error rate.")
    words = jiwer.process_words(references, answers)
    characters = jiwer.process_characters(references, answers)
    return ErrorRates(
        np.array([_edits(chunks) for chunks in words.alignments]),
        np.array([len(text.split()) for text in references]),
        np.array([_edits(chunks) for chunks in characters.alignments]),
        np.array([len(text) for text in references]),
    )


def bootstrap_interval(edits: np.ndarray, lengths: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of `sum(edits) / sum(lengths)`, utterances resampled (Bisani & Ney 2004)."""
    draw = np.random.default_rng(seed)
    block = max(1, 1_000_000 // len(edits))  # resamples drawn at a time: memory stays bounded, however many utterances
    rates = []
    for start in range(0, RESAMPLES, block):
        picks = draw.integers(0, len(edits), (min(block, RESAMPLES - start), len(edits)))
        rates.append(edits[picks].sum(1) / lengths[picks].sum(1))
    low, high = np.percentile(np.concatenate(rates), [2.5, 97.5])
    return float(low), float(high)


def paired_interval(before: ErrorRates, after: ErrorRates, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of WER after minus before, each resample taking the same utterances from both."""
    return bootstrap_interval(after.word_edits - before.word_edits, before.words, seed)


def _edits(chunks: Sequence) -> int:
    # Deletions span the reference only and insertions the answer only; a substitution spans both alike.
    return sum(
        max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
        for chunk in chunks
        if chunk.type != "equal"
    )
