"""Words on sounds without speech: does a recogniser write where nobody speaks, and does adapting make it do so?"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adapt.data.example import Example, language_of
from adapt.data.loader import Loader
from adapt.data.normalisers import split_characters
from adapt.data.synthetic.non_speech import non_speech
from adapt.data.text import strip_punctuation
from adapt.metrics import RESAMPLES
from adapt.models.inference import decode_examples
from adapt.models.model import Model

SOUNDS = 10
_REPEATS = 4  # a phrase this many times in a row is a loop
_LONGEST_PHRASE = 8  # words


@dataclass(frozen=True)
class NonSpeech:
    """What a model writes for sounds without speech.

    Attributes:
        sounds: The name of each sound, with its length and level.
        seconds: The length of each sound.
        texts: What the model wrote for each sound.
        words: The number of words of each text.
        loops: Whether each text repeats a phrase of up to eight words at least four times in a row.
    """

    sounds: tuple[str, ...]
    seconds: tuple[float, ...]
    texts: tuple[str, ...]
    words: tuple[int, ...]
    loops: tuple[bool, ...]

    @property
    def words_per_minute(self) -> float:
        """The number of words that the model writes for a minute without speech."""
        return 60 * sum(self.words) / sum(self.seconds)

    def since(self, before: "NonSpeech", seed: int = 0) -> tuple[float, float]:
        """Return the 95 % bootstrap interval of the words per minute minus those of `before`, paired by sound."""
        changes, seconds = np.array(self.words) - np.array(before.words), np.array(before.seconds)
        picks = np.random.default_rng(seed).integers(0, len(changes), (RESAMPLES, len(changes)))
        low, high = np.percentile(60 * changes[picks].sum(1) / seconds[picks].sum(1), [2.5, 97.5])
        return float(low), float(high)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for `metrics.json`."""
        return {
            "words_per_minute": self.words_per_minute,
            "loops": sum(self.loops),
            "sounds": len(self.sounds),
            "seconds": sum(self.seconds),
            "texts": {name: text for name, text in zip(self.sounds, self.texts, strict=True) if text},
        }


def measure_non_speech(
    model: Model, examples: Sequence[Example], loader: Loader, sounds: int = SOUNDS, seed: int = 0
) -> NonSpeech:
    """Let a recogniser transcribe sounds without speech.

    Args:
        model: The recogniser.
        examples: The examples of a test set. If they have languages, the sounds are said to be in the most frequent.
        loader: Makes the batches.
        sounds: The number of sounds.
        seed: The seed of the sounds.
    """
    languages = Counter(language for one in examples if (language := language_of(one)) is not None)
    language = languages.most_common(1)[0][0] if languages else None
    recordings = non_speech(sounds, model.sample_rate, language, seed, model.reader.window)
    texts = decode_examples(model, model.task, recordings, loader, "sounds without speech")
    words = [split_characters(strip_punctuation(text)).split() for text in texts]
    return NonSpeech(
        tuple(one.name for one in recordings),
        tuple(one.duration for one in recordings),
        tuple(texts),
        tuple(map(len, words)),
        tuple(map(has_loop, words)),
    )


def has_loop(words: Sequence[str]) -> bool:
    """Return whether some phrase of up to eight words is repeated at least four times in a row."""
    for length in range(1, min(_LONGEST_PHRASE, len(words) // _REPEATS) + 1):
        same = 0  # words in a row that equal the word one phrase before
        for place in range(length, len(words)):
            same = same + 1 if words[place] == words[place - length] else 0
            if same >= (_REPEATS - 1) * length:
                return True
    return False
