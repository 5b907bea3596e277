"""How a speech encoder-decoder writes, as a user may ask for it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Writing:
    """How a model writes: in which language (None: detected by Whisper, and where there is one only), whether it
    transcribes or translates to English (Whisper alone is told), by how many beams, and whether punctuation is dropped
    from the answers.
    """

    language: str | None = None
    task: str = "transcribe"
    beams: int = 1
    normalise: bool = False
