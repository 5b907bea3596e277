"""What a measure returns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Measured(Protocol):
    """What was found, ready to be written down.

    `summary` is for `metrics.json`: numbers as JSON, without NaN. `told` is the result in a sentence or two.
    """

    @property
    def summary(self) -> Mapping[str, Any]: ...

    @property
    def told(self) -> str: ...

    def write(self, folder: Path, title: str, config: str, provenance: Mapping[str, Any]) -> list[Path]:
        """Write its files, each whole or not at all, and return where they are, its page first.

        `title` and `config` are for the page; `provenance` says which model and data it is of, for files' headers.
        """
