"""How long examples are, as the model reads them: from the headers of their files, or by decoding them."""

import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from adapt.data import remembered
from adapt.data.audio import AudioReader, Header, announced_length, decoded, keep_seconds, read_header
from adapt.data.example import Example
from adapt.data.loader import Reader
from adapt.data.manifest import Utterance
from adapt.data.notes import noted
from adapt.data.resampling import resampled_length
from adapt.data.threads import in_threads
from adapt.errors import InputError

Check = Literal["headers", "full"]
_CHUNK = 250  # examples that a thread gets at once
_SAVED_AFTER = 20_000  # files after which new lengths are remembered, so that a killed process keeps them


def lengths(
    examples: Sequence[Example], reader: Reader, check: Check = "full", recall: bool = False
) -> Generator[int | InputError, None, None]:
    """Yield the length of each example in samples or tokens, as `reader.read` returns it, in their order.

    Args:
        examples: The examples.
        reader: The model's reader. Recordings are read in several threads.
        check: "headers" reads only the headers of audio files, and decodes only what does not tell its length in its
            header. "full" decodes everything, which also finds damage inside of a file.
        recall: Whether "full" may recall what an earlier run decoded, if the file has not changed since. Headers are
            always recalled.

    Yields:
        The length, or the error of an example that cannot be read.
    """
    if not isinstance(reader, AudioReader):
        yield from (_read_length(example, reader) for example in examples)
        return
    measure = _Measure(reader, check, recall)
    chunks = (examples[start : start + _CHUNK] for start in range(0, len(examples), _CHUNK))
    try:
        for found in in_threads(measure, chunks):
            yield from found
            measure.save(_SAVED_AFTER)
    finally:
        measure.save()


def _read_length(example: Any, reader: Reader) -> int | InputError:
    try:
        return len(reader.read(example))
    except InputError as error:
        return error


class _Measure:
    """Measures chunks of examples, and remembers what it read."""

    def __init__(self, reader: AudioReader, check: Check, recall: bool) -> None:
        self.reader, self.check, self.recall = reader, check, recall or check == "headers"
        self.new: dict[bytes, remembered.Entry] = {}

    def __call__(self, examples: Sequence[Example]) -> list[int | InputError]:
        known: dict[bytes, remembered.Entry] = {}
        if self.recall:
            key = _header_key if self.check == "headers" else _decoded_key
            known = remembered.find(list({key(one): None for one in examples if isinstance(one, Utterance)}))
        return [self._length(example, known) for example in examples]

    def save(self, at_least: int = 1) -> None:
        if len(self.new) >= at_least:
            done = dict(self.new)
            remembered.keep(done)
            for key in done:
                self.new.pop(key, None)

    def _length(self, example: Example, known: dict[bytes, remembered.Entry]) -> int | InputError:
        if not isinstance(example, Utterance):
            return _read_length(example, self.reader)
        try:
            state = _state(example.audio_filepath)
            found = self._announced(example, state, known) if self.check == "headers" else None
            samples, rate = self._decoded(example, state, known) if found is None else found
        except InputError as error:
            return error
        return resampled_length(samples, rate, self.reader.sample_rate)

    def _announced(
        self, utterance: Utterance, state: os.stat_result | None, known: dict[bytes, remembered.Entry]
    ) -> tuple[int, int] | None:
        key = _header_key(utterance)
        found = _recalled(key, state, known, self.new)
        if found is None:
            header = read_header(utterance)
            if header.whole and header.frames is not None:
                self._keep(key, utterance, state, header.frames, header.rate)
        else:
            header = Header(found[1], found[0], True)
        if header.frames is None:
            return None
        if state is not None:
            keep_seconds(utterance.audio_filepath, state, self.reader.max_seconds, header.frames / header.rate)
        return announced_length(utterance, header, self.reader.max_seconds), header.rate

    def _decoded(
        self, utterance: Utterance, state: os.stat_result | None, known: dict[bytes, remembered.Entry]
    ) -> tuple[int, int]:
        key = _decoded_key(utterance)
        if self.recall:
            known = remembered.find([key]) if self.check == "headers" else known
            found = _recalled(key, state, known, self.new)
            if found is not None:
                return found
        samples, rate = decoded(utterance, self.reader.max_seconds)
        self._keep(key, utterance, state, len(samples), rate)
        return len(samples), rate

    def _keep(self, key: bytes, utterance: Utterance, state: os.stat_result | None, samples: int, rate: int) -> None:
        # A file with a note on it is read again in each run, so that the note is made again.
        if state is not None and remembered.settled(state) and not noted(str(utterance.audio_filepath)):
            self.new[key] = remembered.identity(state), b"%d %d" % (samples, rate)


def _header_key(utterance: Utterance) -> bytes:
    return remembered.key_of("header", utterance.audio_filepath)


def _decoded_key(utterance: Utterance) -> bytes:
    return remembered.key_of("decoded", utterance.audio_filepath, utterance.offset, utterance.duration)


def _state(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _recalled(
    key: bytes, state: os.stat_result | None, *tables: Mapping[bytes, remembered.Entry]
) -> tuple[int, int] | None:
    # Returns the number of samples and their rate, if they are known and the file has not changed.
    for table in tables:
        entry = table.get(key)
        if entry is not None and state is not None and entry[0] == remembered.identity(state):
            samples, _, rate = entry[1].partition(b" ")
            return int(samples), int(rate)
    return None
