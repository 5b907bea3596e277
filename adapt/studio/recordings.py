"""The examples that the studio shows: recordings and sentences by id, and what a page draws of their sound."""

import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from adapt.data.audio import decoded
from adapt.data.example import Example
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.files import is_folder
from interventions.files import atomic, private_folder

MAX_SECONDS = 1800.0  # the longest recording that a page may send
MAX_ITEMS = 10_000
BANDS, HOP, FLOOR = 96, 0.01, 70.0  # of spectrograms: mel bands, seconds between frames, dB below the loudest
_SUFFIX = re.compile(rb"^RIFF....WAVE|^fLaC|^OggS|^ID3|^\xff[\xe2-\xff]|^....ftyp|^\x1aE\xdf\xa3|^FORM....AIF", re.S)


@dataclass(frozen=True)
class Item:
    """An example with the id by which pages name it.

    Attributes:
        id: A letter and a number.
        example: The recording or the sentence.
        set: Where it comes from: "data", "source", or "added" by a person.
    """

    id: str
    example: Example
    set: str

    @property
    def name(self) -> str:
        """A short name for people."""
        if isinstance(self.example, Pair):
            return self.example.source
        if self.set == "added":
            return f"Recording {self.id[1:]}"
        return Path(self.example.name).name

    def as_dict(self) -> dict[str, object]:
        """Return what a list shows of it, as JSON data."""
        groups = {key: self.example.group(key) for key in ("accent", "speaker", "lang", "domain")}
        return {
            "id": self.id,
            "name": self.name,
            "set": self.set,
            "reference": self.example.text,
            "kind": "text" if isinstance(self.example, Pair) else "audio",
            "groups": {key: value for key, value in groups.items() if value != "unknown"},
        }


@dataclass
class Items:
    """All examples of a studio, by id. Those that people add are files in `folder`, so that they survive the studio.

    Args:
        sets: The examples that are there from the start, by set.
        folder: Where recordings that people add are written.
    """

    sets: dict[str, Sequence[Example]]
    folder: Path
    _items: dict[str, Item] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        for name, examples in self.sets.items():
            for example in examples[: MAX_ITEMS - len(self._items)]:
                self._put(example, name)
        if is_folder(self.folder):
            for path in sorted(self.folder.glob("*.audio"), key=lambda path: path.stat().st_mtime_ns):
                self._put(Utterance(path, ""), "added")

    def __iter__(self) -> Iterator[Item]:
        return iter(list(self._items.values()))

    def __len__(self) -> int:
        return len(self._items)

    def get(self, id: str) -> Item:
        """Return an item. Raises InputError if there is none of this id."""
        if id not in self._items:
            raise InputError("There is no such recording or sentence here. It may have been removed.")
        return self._items[id]

    def add_audio(self, data: bytes) -> Item:
        """Store a recording that a person recorded or dropped.

        Args:
            data: The content of a file, in any format that commands read too.

        Raises:
            InputError: It is no audio, is damaged, or is longer than half an hour.
        """
        if not _SUFFIX.match(data[:16]):
            raise InputError("This is not a recording: expected WAV, FLAC, MP3, OGG, M4A, WEBM or AIFF.")
        private_folder(self.folder)
        path = self.folder / f"{hashlib.blake2b(data, digest_size=8).hexdigest()}.audio"
        known = next((item for item in self if item.example.name == str(path)), None)
        if known is not None:
            return known
        with atomic(path, private=True) as part:
            part.write_bytes(data)
        utterance = Utterance(path, "")
        try:
            decoded(utterance, MAX_SECONDS)
        except InputError as error:
            path.unlink()
            raise InputError(str(error).replace(f"'{path}'", "The recording")) from None
        return self._put(utterance, "added")

    def add_text(self, source: str) -> Item:
        """Add a sentence to translate. Raises InputError if it is empty or longer than 10,000 characters."""
        text = " ".join(source.split())
        if not 0 < len(text) <= 10_000:
            raise InputError(f"Give a sentence of 1 to 10,000 characters; this one has {len(text):,}.")
        return self._put(Pair(text, "", where="a sentence"), "added")

    def remove(self, id: str) -> None:
        """Remove an item that a person added, with its file. Raises InputError if it is not one."""
        item = self.get(id)
        if item.set != "added":
            raise InputError("Only what was added here can be removed; this comes from your data.")
        with self._lock:
            del self._items[id]
        if isinstance(item.example, Utterance):
            item.example.audio_filepath.unlink(missing_ok=True)

    def _put(self, example: Example, name: str) -> Item:
        with self._lock:
            if len(self._items) >= MAX_ITEMS:
                raise InputError(f"The studio holds {MAX_ITEMS:,} examples. Remove some first.")
            number = 1 + max((int(id[1:]) for id in self._items), default=0)
            item = Item(f"e{number}", example, name)
            self._items[item.id] = item
            return item


def samples_of(example: Example) -> tuple[np.ndarray, int]:
    """Return the sound of an example, `(samples,)` float32, and its rate in Hz. Raises InputError for a sentence."""
    if isinstance(example, Recording):
        return example.samples, example.sample_rate
    if isinstance(example, Utterance):
        return decoded(example)
    raise InputError("A sentence has no sound.")


def wav(samples: np.ndarray, rate: int) -> bytes:
    """Return a mono WAV file with 16 bits."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1.0, 1.0), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def spectrogram(samples: np.ndarray, rate: int) -> Tensor:
    """Return the mel spectrogram in dB below its loudest value, as bytes for a picture, `(bands, frames)` uint8.

    0 is `FLOOR` dB below the loudest value or quieter, 255 the loudest. A frame has `HOP` seconds.
    """
    from torchaudio.transforms import MelSpectrogram

    if not len(samples):
        raise InputError("The recording is empty.")
    hop = max(1, round(rate * HOP))
    window = min(max(2 * hop, round(rate * 0.025)), 4096)
    size = 1 << (2 * window - 1).bit_length()
    mel = MelSpectrogram(rate, n_fft=size, win_length=window, hop_length=hop, n_mels=BANDS, pad_mode="constant")
    power = mel(torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32)))
    decibels = 10 * torch.log10(power.clamp(min=1e-12))
    return ((decibels - decibels.max() + FLOOR) * (255 / FLOOR)).clamp(0, 255).round().to(torch.uint8)
