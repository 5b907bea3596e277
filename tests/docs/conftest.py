"""Files with the names that the README and the site use."""

import json
import shutil
from pathlib import Path

import pytest
from tone_speech import write_tones

from adapt.data.manifest import Utterance, read_manifest, write_manifest


def _speech(folder: Path) -> None:
    """Recordings of tones, by two speakers with two accents, with their manifests."""
    counts = {"train": (4, 1), "validation": (2, 2), "test": (8, 3), "source": (2, 4)}
    for name, (count, seed) in counts.items():
        both: list[Utterance] = []
        for speaker, accent in (("ann", "Glasgow"), ("bob", "London")):
            path = write_tones(
                folder / "tones", f"{name}-{speaker}", count, seed=seed * 10 + len(both), speaker=speaker, accent=accent
            )
            both += read_manifest(path)[0]
        write_manifest(folder / f"{name}.jsonl", both)
    recordings = folder / "recordings"
    recordings.mkdir()
    for path in sorted((folder / "tones" / "test-ann").glob("*.wav"))[:2]:
        shutil.copy(path, recordings)


def _table(folder: Path) -> None:
    """A table of recordings by three speakers, with columns of other names than in a manifest."""
    lines = ["file,transcript,speaker_id"]
    for name, speaker in (("test-ann", "ann"), ("test-bob", "bob"), ("train-ann", "cat")):
        utterances = read_manifest(folder / "tones" / f"{name}.jsonl")[0]
        lines += [f"{one.audio_filepath},{one.text},{speaker}" for one in utterances]
    (folder / "recordings.csv").write_text("\n".join(lines) + "\n")


def _scottish_speech(folder: Path) -> None:
    """Recordings that can be corrected: `mike/`, `corrections.jsonl`, and `a.wav`, whose words are "what was said"."""
    import numpy as np
    import soundfile
    import torch
    import torchaudio

    from adapt.data.synthetic.accents import accents
    from adapt.data.synthetic.espeak import speak

    splits = accents(train=6, validation=0, test=50, source_test=0)
    (folder / "mike").mkdir()
    for number, utterance in enumerate(splits.test):
        if number in (2, 7):
            shutil.copy(utterance.audio_filepath, folder / "mike" / f"{number}.flac")
    seventh = next(one for one in splits.test if one.text == "julia is sixty years old")
    shutil.copy(seventh.audio_filepath, folder / "mike" / "7.flac")
    rows = [{"audio_filepath": str(one.audio_filepath), "text": one.text} for one in splits.train]
    (folder / "corrections.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spoken = speak("what was said", voice="en-gb-scotland")
    samples = torch.as_tensor(spoken.samples / np.float32(32768))
    samples = torchaudio.functional.resample(samples, spoken.sample_rate, 16_000)
    for name in ("a.wav", "b.flac"):
        soundfile.write(folder / name, samples.numpy(), 16_000)


def _pairs(folder: Path, language: dict[str, Path]) -> None:
    for part, path in language.items():
        shutil.copy(path, folder / f"pairs-{part}.jsonl")
    rows = [json.loads(line) for line in language["test"].read_text().splitlines()]
    general = [json.loads(line) for line in language["source_test"].read_text().splitlines()]
    lines = ["source\ttarget", *(f"{row['source']}\t{row['target']}" for row in general)]
    (folder / "general.tsv").write_text("\n".join(lines) + "\n")
    for name, key in (("test.en", "source"), ("test.de", "target"), ("lines.txt", "source")):
        (folder / name).write_text("".join(f"{row[key]}\n" for row in rows))


def _digits(folder: Path) -> None:
    import numpy as np
    import soundfile

    (folder / "recordings").mkdir(parents=True)
    noise = np.random.default_rng(0)
    for speaker in ("jackson", "theo", "nicolas"):
        for digit in range(10):
            for take in range(18):
                path = folder / "recordings" / f"{digit}_{speaker}_{take}.wav"
                soundfile.write(path, noise.normal(0, 0.1, 5_000), 8_000)


def _common_voice(folder: Path) -> None:
    import numpy as np
    import soundfile

    language = folder / "cv-corpus" / "en"
    (language / "clips").mkdir(parents=True)
    lines = ["client_id\tpath\tsentence\taccents"]
    noise = np.random.default_rng(0)
    words = ["abba", "babe", "cabbed", "decade", "added", "accede", "bead", "dead", "cab", "dab", "bad", "ace"]
    for number in range(60):
        name = f"clip_{number}.mp3"
        soundfile.write(language / "clips" / name, noise.normal(0, 0.1, 16_000), 16_000)
        accent = "Scottish English" if number % 2 else "United States English"
        text = f"{words[number % 12]} {words[number // 12]}"
        lines.append(f"speaker{number % 12}\t{name}\t{text}\t{accent}")
    (language / "validated.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="session")
def named_files(tmp_path_factory, own_cache, language, whisper, wav2vec2, marian) -> Path:
    """A folder with all files that the pages name; tests work on copies of it."""
    from adapt import accents, fine_tune, load_model, tunings

    folder = tmp_path_factory.mktemp("named")
    _speech(folder)
    _table(folder)
    _scottish_speech(folder)
    _pairs(folder, language)
    _digits(folder / "fsdd")
    _common_voice(folder)
    for name, model in (("whisper", whisper), ("wav2vec2", wav2vec2), ("marian", marian)):
        shutil.copytree(model, folder / name)
    base, splits = load_model("us-english"), accents(train=12, validation=4, test=0, source_test=0)
    for name, seed in (("scottish", 0), ("scottish-2", 1)):
        adapted = fine_tune(base, splits, tunings.layers("last 2"), epochs=1, seed=seed)
        adapted.save(folder / name / "adaptation")
        (folder / name / "metrics.json").write_text("{}")
    return folder
