"""What a tuning may look at when it chooses what trains."""

from collections.abc import Sequence
from dataclasses import dataclass

from adapt.data.example import Example
from adapt.data.loader import Loader


@dataclass(frozen=True)
class Sample:
    """Examples of the target, and of the source (none where the data have none), and how they are batched.

    They are training data: what a run is judged by has no part in a choice.
    """

    target: Sequence[Example]
    source: Sequence[Example]
    loader: Loader
