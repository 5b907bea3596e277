"""The examples that `--help` shows run, as printed, in a folder that has what they name."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile

from adapt.cli import COMMANDS as ALL
from adapt.option_texts import examples

pytestmark = pytest.mark.slow

COMMANDS = [command for command in ALL if command != "show"]

ROOT = Path(__file__).parent.parent
BASE = ROOT / "adapt" / "models" / "embedded" / "us-english.safetensors"
TEXTS = ["call a friend", "the red bus is late", "open the window", "it rains in london"]
# Made small. An option that is given twice has its last value.
SYNTHETIC = ["data.train=8", "data.validation=2", "data.test=8", "data.source_test=8", "data.source_train=8"]
TRAINING = ["trainer.max_epochs=1", "loader.batch_seconds=8"]
SMALL = {
    "adapt": [*TRAINING, "causes=2", "compare_neurons=4", "audio_clips=1"], "pretrain": TRAINING,
    "compare": ["causes=2", "compare_neurons=4", "audio_clips=1"], "choose": ["examples=4"],
    "introspect": [], "steer": ["coefficients=[1]"], "blend": ["causes=0", "compare_neurons=0", "audio_clips=0"],
}  # fmt: skip
# All in one process, which imports torch once.
DRIVER = """
import io, json, sys, webbrowser
import uvicorn
from adapt.cli import main
# The studio would serve until somebody stops it; whoever calls it opens no browser.
uvicorn.Server.run, webbrowser.open = (lambda server, sockets: sockets[0].close()), print
failed, plain = [], sys.stdout
for words in json.load(open(sys.argv[1])):
    if "<" in words:
        sys.stdin = open(words[words.index("<") + 1])
        words = words[: words.index("<")] + words[words.index("<") + 2 :]
    sys.argv = words
    print("==", *words, flush=True)
    if ">" in words:
        sys.stdout = open(words[-1], "w")
        sys.argv = words[:-2]
    try:
        main()
    except SystemExit as error:
        if error.code:
            failed.append(words)
    except Exception as error:
        failed.append([*words, repr(error)])
    sys.stdout = plain
sys.exit(str(failed) if failed else 0)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Recordings, texts and models under the names that the examples have."""
    pytest.importorskip("espeakng_loader")
    from adapt.data.synthetic.espeak import speak

    place = tmp_path_factory.mktemp("examples")
    (place / "recordings").mkdir()
    said = []
    for pitch, name in enumerate(("train", "validation", "test", "corrections"), start=40):
        rows = []
        for number, text in enumerate(TEXTS):
            speech = speak(text, "en-gb-scotland", pitch=pitch)
            path = f"recordings/{name}-{number}.wav"
            soundfile.write(place / path, speech.samples, speech.sample_rate)
            speaker = ("anna", "ben")[number % 2]
            said.append((path, text))
            rows.append(json.dumps({"audio_filepath": path, "text": text, "speaker": speaker}))
        (place / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    shutil.copy(place / "recordings" / "test-0.wav", place / "take.wav")
    (place / "recordings.csv").write_text("path,sentence\n" + "".join(f"{path},{text}\n" for path, text in said))
    (place / "clips.tsv").write_text(
        "path\tsentence\tspeaker\n" + "".join(f"{path}\t{text}\ts{n % 4}\n" for n, (path, text) in enumerate(said))
    )
    (place / "kaldi" / "train").mkdir(parents=True)
    for name, column in (("wav.scp", 0), ("text", 1)):
        lines = [f"u{n} {place / row[0] if name == 'wav.scp' else row[column]}\n" for n, row in enumerate(said)]
        (place / "kaldi" / "train" / name).write_text("".join(lines))
    (place / "lines.txt").write_text("It is cold.\nThe sun is shining.\n")
    shutil.copy(BASE, place / "us-english.safetensors")
    (place / "models" / "base").mkdir(parents=True)
    shutil.copy(BASE, place / "models" / "base" / "model.safetensors")
    return place


def small(command, number, words):
    """The example with options that make it quick, and a folder of its own: they may all run in one second."""
    more = [*SMALL.get(command, [])]
    words = [word.replace("caribbean", "scottish") for word in words]  # one adaptation is enough
    synthetic = command != "blend" or "data=accents" in words
    if command in SMALL and synthetic and "data=manifest" not in words:
        more += SYNTHETIC
    if command in (*SMALL, "evaluate", "plan"):
        more.append(f"output=outputs/{command}{number}")
    cut = words.index("<") if "<" in words else len(words)
    return [*words[:cut], *more, *words[cut:]]


def commands():
    """All examples in an order in which each finds what it needs."""
    first = ["innertune", "adapt", "tuning=head", *SMALL["adapt"], *SYNTHETIC, "output=outputs/scottish"]
    every = {
        command: [small(command, number, shlex.split(line)) for number, line in enumerate(examples(command))]
        for command in COMMANDS
    }
    swaps = [words for pair in zip(every.pop("apply"), every.pop("remove"), strict=True) for words in pair]
    late = [*every.pop("corrections"), *every.pop("evaluate")]
    return [first, *(words for own in every.values() for words in own), *late, *swaps]


def test_every_example_runs(folder, empty_memories):
    (folder / "driver.py").write_text(DRIVER)
    (folder / "commands.json").write_text(json.dumps(commands()))
    shutil.copytree(empty_memories, folder / "data")
    environment = os.environ | {"INNERTUNE_DATA": str(folder / "data")}
    done = subprocess.run(
        [sys.executable, "driver.py", "commands.json"], cwd=folder, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert done.stdout.count("== innertune") == 3 * len(COMMANDS) + 1
