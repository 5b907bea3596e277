"""innertune manifest writes nothing but the manifest to standard output."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from adapt.data.manifest import read_manifest
from adapt.errors import InputError


@pytest.fixture
def table(tmp_path):
    rows = ["\ufeffDatei;Satz;Sprecher"]
    for number in range(6):
        soundfile.write(tmp_path / f"ä {number}.wav", np.full(800, 0.1 * number), 8000)
        rows.append(f"ä {number}.wav;schön {number};s{number % 3}")
    (tmp_path / "my data.csv").write_text("\r\n".join(rows), encoding="utf-8")
    return tmp_path / "my data.csv"


OPTIONS = ("data.audio_column=Datei", "data.text_column=Satz")


@pytest.mark.slow
def test_standard_output_is_the_manifest(table):
    command = [sys.executable, "-m", "adapt.cli", "manifest", "my data.csv", *OPTIONS]
    done = subprocess.run(command, capture_output=True, cwd=table.parent)
    rows = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert done.returncode == 0 and [row["text"] for row in rows] == [f"schön {number}" for number in range(6)]
    assert rows[0] == {
        "audio_filepath": str(table.parent / "ä 0.wav"), "duration": 0.1, "text": "schön 0", "Sprecher": "s0",
    }  # fmt: skip
    said = done.stderr.decode()
    assert "6 utterances, 0.6 s" in said and "8000 Hz (6 files)" in said and "Traceback" not in said


def test_files_and_parts(innertune, table, caplog):
    folder = table.parent
    given = [f"input='{table}'", *OPTIONS]
    innertune("manifest", *given, f"output={folder / 'all.jsonl'}")
    assert len(read_manifest(folder / "all.jsonl")[0]) == 6
    assert json.loads((folder / "all.jsonl").read_text(encoding="utf-8").splitlines()[0])["audio_filepath"] == "ä 0.wav"
    with pytest.raises(InputError, match="all.jsonl' exists already"):
        innertune("manifest", *given, f"output={folder / 'all.jsonl'}")
    innertune("manifest", *given, f"output={folder / 'all.jsonl'}", "overwrite=true")
    table.write_text(table.read_text(encoding="utf-8-sig").replace("Sprecher", "speaker"), encoding="utf-8")
    innertune("manifest", *given, f"output={folder / 'parts'}", "split=[0.4,0.3,0.3]")
    found = {name: read_manifest(folder / "parts" / f"{name}.jsonl")[0] for name in ("train", "validation", "test")}
    assert [len(part) for part in found.values()] == [2, 2, 2]
    assert len({one.speaker for part in found.values() for one in part[:1]}) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["split=[0.5,0.5]"], "give a folder for them, output=FOLDER"),
        (["output=/dev/null/x"], "output=/dev/null/x: '/dev/null' is a file"),
        (["split=[0.5,0.6]", "output=OUT"], "split must be the shares"),
        (["split=0.5", "output=OUT"], "split must be the shares"),
        (["split_by=speakers", "split=[0.5,0.5]", "output=OUT"], "split_by must be one of speaker, utterance"),
        (["seed=x"], "seed must be a whole number"),
        (["data.on_error=never"], "on_error must be one of stop, skip"),
    ],
)
def test_wrong_options(innertune, table, options, message):
    options = [option.replace("OUT", str(table.parent / "out")) for option in options]
    with pytest.raises(InputError, match=message):
        innertune("manifest", f"input='{table}'", *OPTIONS, *options)
    assert not (table.parent / "out").exists()
