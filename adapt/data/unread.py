"""Examples that passed the check of their headers, and cannot be read after all: an error, or left out and named."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from torch.utils.data import DataLoader, Dataset

from adapt.errors import InputError

_ADVICE = (
    "\nCorrect it, or leave out what turns out to be unreadable with data.on_error=skip. data.check=full finds such "
    "files before training."
)


@dataclass
class Unread:
    """What to do about examples that cannot be read, and which they were.

    Attributes:
        on_error: "stop" raises InputError at the first one, and "skip" leaves them out.
        found: For each of them that was left out, by its place: a sentence that says why.
    """

    on_error: Literal["stop", "skip"] = "stop"
    found: dict[str, str] = field(default_factory=dict)

    def add(self, problems: Sequence["Failed"]) -> None:
        """Record examples. Raises InputError if `on_error` is "stop" and there is one."""
        for problem in problems:
            if self.on_error == "stop":
                raise InputError(problem.reason + _ADVICE)
            self.found.setdefault(problem.place, problem.reason)


@dataclass(frozen=True, slots=True)
class Failed:
    """An example that could not be read: its place, or its name, and why."""

    place: str
    reason: str


class ReadOrFailed(Dataset):
    """The items of another dataset by (number, ...), with a `Failed` for each example that cannot be read.

    Args:
        data: the other dataset, with its `examples`.
        replaces: whether a batch of which nothing can be read gets the next example that can, because every epoch must
            have the same number of batches.
    """

    def __init__(self, data: Any, replaces: bool) -> None:
        self.data, self.examples, self.replaces = data, data.examples, replaces

    def __len__(self) -> int:
        return len(self.examples)

    def __getitems__(self, keys: Sequence[Any]) -> list[Any]:
        """Return the items of a batch, which torch asks for."""
        items = [self[key] for key in keys]
        if self.replaces and all(isinstance(item, Failed) for item in items):
            items.append(self._next(keys[-1]))
        return items

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.data[key]
        except InputError as error:
            example = self.examples[key[0]]
            return Failed(example.where or example.name, str(error))

    def _next(self, key: Any) -> Any:
        count = len(self.examples)
        for step in range(1, count):
            item = self[((key[0] + step) % count, *key[1:])]
            if not isinstance(item, Failed):
                return item
        raise InputError(f"None of the {count} examples can be read.")


@dataclass(frozen=True)
class CollateRead:
    """Makes a batch of the items that could be read, which names the others in `unread`."""

    collate: Callable[[Sequence[Any]], Any]

    def __call__(self, items: Sequence[Any]) -> Any:
        """Return the batch; it may be empty."""
        failed = tuple(item for item in items if isinstance(item, Failed))
        batch = self.collate([item for item in items if not isinstance(item, Failed)] if failed else items)
        return replace(batch, unread=failed) if failed else batch


class NamingLoader(DataLoader):
    """A DataLoader whose process learns which examples its workers could not read, and which can go on in an epoch."""

    def __init__(self, unread: Unread | None, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.unread = unread
        self._given = self._first = 0

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of the epoch were given, which a checkpoint within an epoch holds."""
        return {"batches": self._given}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next epoch begin after the batches that were given before. They are not read again."""
        self._first = state["batches"] % len(self)  # at the end of an epoch, all were given

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._given, self._first = self._first, 0
        if self._given:
            cast(Any, self.batch_sampler).skip(self._given)
        for batch in super().__iter__():
            if batch.unread and self.unread is None:
                raise InputError(batch.unread[0].reason)
            if self.unread is not None:
                self.unread.add(batch.unread)
            self._given += 1
            yield batch
