"""What a transcription returns: words with their times and confidence, as plain data."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a transcript.

    Attributes:
        text: The word, with the punctuation that belongs to it.
        start, end: When it is said, in seconds from the start of the recording.
        confidence: How sure the model is of the word, from 0 to 1: the probability of its least likely part, a
            character of a CTC model or a token of a decoder. None if the word cannot be located in the audio.
    """

    text: str
    start: float
    end: float
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of speech without a longer pause: what the model read at once, or a part of it.

    Attributes:
        text: Its text, as the model wrote it.
        start, end: When it is said, in seconds from the start of the recording.
        words: Its words, in order.
    """

    text: str
    start: float
    end: float
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Transcript:
    """The transcript of a recording.

    Attributes:
        name: The name of the recording, such as its path.
        seconds: Its duration in seconds.
        language: The code of its language; None if it is not known.
        segments: Its segments, in order; none if nothing is said.
    """

    name: str
    seconds: float
    language: str | None
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The whole text."""
        joint = " " if any(" " in segment.text for segment in self.segments) or not self._unspaced else ""
        return joint.join(segment.text for segment in self.segments if segment.text)

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, in order."""
        return tuple(word for segment in self.segments for word in segment.words)

    @property
    def _unspaced(self) -> bool:
        # Languages such as Chinese are written without spaces: then a segment has several words but no space.
        return any(len(segment.words) > 1 and " " not in segment.text for segment in self.segments)

    def as_dict(self) -> dict[str, Any]:
        """Return the transcript as JSON data. Times have three decimals, and confidences too."""
        facts = asdict(self)
        facts["segments"] = [{**segment, "words": list(segment["words"])} for segment in facts["segments"]]
        return {"text": self.text, **_rounded(facts)}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, (list, tuple)) else value
