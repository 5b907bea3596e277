"""Speech data in every format that is read: manifests, tables, documents and folders, with damaged lines and bytes."""

import csv
import gzip
import io
import json
import random
import shutil
import wave
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from adapt_formats import SPEECH_FILES

from adapt.data.formats import kind_of
from adapt.data.manifest import manifest_line
from adapt.data.splits import check_splits, read_splits
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from fuzzing.damage import VALUES, damage_bytes, damage_json, damage_json_file, damage_text
from fuzzing.frame import Case, Make, Wrong

_TEXTS = ("set the kettle to two", "play some folk", "we have eggs")
_ROWS = [
    {"audio_filepath": f"clips/{n}.wav", "text": text, "duration": 1.0, "speaker": f"s{n % 2}", "accent": "Glasgow"}
    for n, text in enumerate(_TEXTS)
]
_KALDI_LINES = (
    "", " ", "\0", "u0", "u0 sox x.wav - |", "u9 clips/9.wav", "u0 u0 5 1", "u0 u0 nan inf", "u0 " + "9" * 5000,
)  # fmt: skip


def prepare(work: Path) -> Make:
    """Write three recordings of one second."""
    clips = work / "clips"
    clips.mkdir()
    noise = np.random.default_rng(0).integers(-3000, 3000, (len(_TEXTS), 16_000), dtype=np.int16)
    for n, samples in enumerate(noise):
        with wave.open(str(clips / f"{n}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
    model = Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "batch"), Labels.of(" abcdefghijklmnopqrstuvwxyz'"))

    def make(draw: random.Random, folder: Path) -> Case:
        if draw.random() < 0.4:
            what, path = _any_format(draw, folder)
        else:
            shutil.copytree(clips, folder / "clips")
            what, path = draw.choice(_FORMATS)(draw, folder)
        skip = draw.choice(["stop", "skip"])
        return Case(f"{what}, on_error={skip}", lambda: _use(path, model, skip))

    return make


def _use(path: Path, model: Wav2LetterCTC, on_error: str) -> None:
    kind_of(path)
    splits, _ = check_splits(read_splits(train=path), model, on_error)  # pyright: ignore[reportArgumentType]
    for example in splits.train:
        manifest_line(example).encode()  # pyright: ignore[reportArgumentType]
        samples = model.reader.read(example)  # pyright: ignore[reportArgumentType]
        if not len(samples) or not example.text.strip() or not samples.isfinite().all():
            raise Wrong(f"an utterance without samples or text was accepted: {example}")


def _any_format(draw: random.Random, folder: Path) -> tuple[str, Path]:
    """Write one of the formats that the tests read, and damage one of its text files or archives."""
    made = draw.choice(SPEECH_FILES)
    path, _ = made(folder)
    file = draw.choice(sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix != ".wav"))
    what, data = damage_text(draw, file.read_bytes())
    file.write_bytes(data)
    return f"{made.__name__}, {file.name}: {what}", path


def _json_lines(draw: random.Random, folder: Path) -> tuple[str, Path]:
    return _written(draw, folder / "train.jsonl", "\n".join(map(json.dumps, _damaged(draw))).encode())


def _json_array(draw: random.Random, folder: Path) -> tuple[str, Path]:
    what, data = damage_json_file(draw, json.dumps(_ROWS).encode())
    return _put(what, folder / "train.json", data)


def _speechbrain(draw: random.Random, folder: Path) -> tuple[str, Path]:
    rows = {f"u{n}": {"wav": row["audio_filepath"], "words": row["text"], "length": 1.0} for n, row in enumerate(_ROWS)}
    what, data = damage_json_file(draw, json.dumps(rows).encode())
    return _put(what, folder / "data.json", data)


def _table(draw: random.Random, folder: Path) -> tuple[str, Path]:
    ending, delimiter = draw.choice([("csv", ","), ("tsv", "\t"), ("csv", ";"), ("txt", "|")])
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    names = draw.choice([("audio_filepath", "text"), ("path", "sentence"), ("file_name", "transcription"), ("x", "y")])
    writer.writerow([*names, "speaker"])
    for row in _damaged(draw):
        values = list(row.values()) if isinstance(row, dict) else [row]
        writer.writerow([str(value).replace("\0", "\\0") for value in values[:3]])
    encoding = draw.choice(["utf-8", "utf-8-sig", "utf-16", "latin-1"])
    return _written(draw, folder / f"metadata.{ending}", text.getvalue().encode(encoding, errors="replace"))


def _kaldi(draw: random.Random, folder: Path) -> tuple[str, Path]:
    texts = {
        "wav.scp": "".join(f"u{n} clips/{n}.wav\n" for n in range(len(_ROWS))),
        "text": "".join(f"u{n} {row['text']}\n" for n, row in enumerate(_ROWS)),
        "utt2spk": "".join(f"u{n} {row['speaker']}\n" for n, row in enumerate(_ROWS)),
        "segments": "".join(f"u{n} u{n} 0.1 0.9\n" for n in range(len(_ROWS))),
    }
    for name, text in texts.items():
        if name != "segments" or draw.random() < 0.5:
            (folder / name).write_text(text)
    name = draw.choice([name for name in texts if (folder / name).exists()])
    lines = texts[name].splitlines()
    if draw.random() < 0.5:
        lines[draw.randrange(len(lines))] = draw.choice(_KALDI_LINES)
        (folder / name).write_text("\n".join(lines) + "\n")
        return f"Kaldi, {name}: a line", folder
    what, data = damage_bytes(draw, texts[name].encode())
    (folder / name).write_bytes(data)
    return f"Kaldi, {name}: {what}", folder


def _cuts(draw: random.Random, folder: Path) -> tuple[str, Path]:
    cuts = [
        {
            "id": f"c{n}", "type": "MonoCut", "start": 0.0, "duration": 1.0, "channel": 0,
            "supervisions": [
                {"id": "s", "recording_id": f"r{n}", "start": 0.0, "duration": 1.0, "text": row["text"], "speaker": "a"}
            ],
            "recording": {
                "id": f"r{n}", "sampling_rate": 16_000, "num_samples": 16_000, "duration": 1.0,
                "sources": [{"type": "file", "channels": [0], "source": str(folder / row["audio_filepath"])}],
            },
        }
        for n, row in enumerate(_ROWS)
    ]  # fmt: skip
    what, damaged = damage_json(draw, cuts)
    lines = damaged if isinstance(damaged, list) else [damaged]
    data = "\n".join(map(json.dumps, lines)).encode()
    if draw.random() < 0.5:
        return _put(f"cuts, {what}", folder / "cuts.jsonl", data)
    data = gzip.compress(data, mtime=0)
    if draw.random() < 0.5:
        what, data = damage_bytes(draw, data)
    return _put(f"cuts.gz, {what}", folder / "cuts.jsonl.gz", data)


def _beside(draw: random.Random, folder: Path) -> tuple[str, Path]:
    for n, text in enumerate(_TEXTS):
        (folder / "clips" / f"{n}.txt").write_text(text)
    name = draw.choice(["0.txt", "1.wav"])
    what, data = damage_bytes(draw, (folder / "clips" / name).read_bytes())
    (folder / "clips" / name).write_bytes(data)
    return f"texts beside audio, {name}: {what}", folder / "clips"


_Write = Callable[[random.Random, Path], tuple[str, Path]]
_FORMATS: Sequence[_Write] = (
    _json_lines, _json_lines, _table, _table, _json_array, _speechbrain, _kaldi, _cuts, _beside,
)  # fmt: skip


def _damaged(draw: random.Random) -> list[object]:
    """Return the rows, of which one or more have a damaged value."""
    rows: list[object] = [dict(row) for row in _ROWS]
    for _ in range(draw.choice([0, 1, 1, 2])):
        number = draw.randrange(len(rows))
        _, rows[number] = damage_json(draw, rows[number])
    if draw.random() < 0.1:
        rows.insert(draw.randrange(len(rows)), draw.choice(VALUES))
    return rows


def _written(draw: random.Random, path: Path, data: bytes) -> tuple[str, Path]:
    if draw.random() < 0.4:
        what, data = damage_bytes(draw, data)
        return _put(what, path, data)
    return _put("a value", path, data)


def _put(what: str, path: Path, data: bytes) -> tuple[str, Path]:
    path.write_bytes(data)
    return f"{path.name}: {what}", path
