"""A model in memory, with its reference and fingerprint."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapt.models.model import Model


@dataclass(frozen=True)
class Loaded:
    """A model with its weights, the reference it was loaded from, its fingerprint and its file's header."""

    model: Model
    reference: str
    fingerprint: str
    header: Mapping[str, Any] = field(default_factory=dict)
