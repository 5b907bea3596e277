"""`innertune transcribe`."""

import json
import os
import shutil

import numpy as np
import pytest

from adapt.errors import InputError
from adapt.metrics import error_rates
from tests.av_files import encode


@pytest.fixture
def transcribe(base, innertune, capsys):
    def run(*options):
        capsys.readouterr()
        innertune("transcribe", f"model.pretrained={base}", *options)
        out, err = capsys.readouterr()
        assert ("Skipped: " in err) == ("on_error=skip" in options)
        return out.splitlines()

    return run


def test_one_file_gives_its_text_only(transcribe, speech):
    rows = [json.loads(line) for line in speech["low_test"].read_text().splitlines()]
    folder = speech["low_test"].parent
    lines = [line.split("\t") for line in transcribe(f"audio={speech['low_test']}")]
    assert [name for name, _ in lines] == [str(folder / row["audio_filepath"]) for row in rows]
    for name, text in lines[:2]:
        assert transcribe(f"audio={name}") == [text]
    rates = error_rates([row["text"] for row in rows], [text for _, text in lines])
    assert rates.values()["cer"] < 0.2


def test_folders_globs_lists_and_manifests_agree(transcribe, speech, tmp_path):
    folder = tmp_path / "sounds"
    shutil.copytree(speech["low_test"].parent / "low_test", folder)
    lines = transcribe(f"audio={folder}")
    assert len(lines) == 12 and lines[0].startswith(f"{folder / '000.wav'}\t")
    assert transcribe(f"audio='{folder}/*.wav'") == lines
    assert transcribe(f"audio=[{folder / '000.wav'},{folder / '001.wav'}]") == lines[:2]
    (folder / "list.jsonl").write_text('{"audio_filepath": "000.wav"}\n{"audio_filepath": "001.wav"}\n')
    assert transcribe(f"audio={folder / 'list.jsonl'}") == lines[:2]


def test_unreadable_files_are_reported_or_skipped(transcribe, speech, tmp_path):
    shutil.copy(speech["low_test"].parent / "low_test" / "000.wav", tmp_path / "a.wav")
    (tmp_path / "b.wav").write_text("no sound")
    with pytest.raises(InputError, match="b.wav' cannot be read(?s:.*)skip what cannot be used with on_error=skip"):
        transcribe(f"audio={tmp_path}")
    assert len(transcribe(f"audio={tmp_path}", "on_error=skip")) == 1
    (tmp_path / "list.jsonl").write_text('{"audio_filepath": "a.wav"}\n{oops\n')
    with pytest.raises(InputError, match="list.jsonl:2: not JSON"):
        transcribe(f"audio={tmp_path / 'list.jsonl'}")
    assert len(transcribe(f"audio={tmp_path / 'list.jsonl'}", "on_error=skip")) == 1
    with pytest.raises(InputError, match="no such file"):
        transcribe(f"audio={tmp_path / 'nowhere'}")


def test_a_folder_of_phone_recordings(speech, tmp_path, innertune, base, capfdbinary, caplog):
    """M4A is read like WAV, a stereo recording in antiphase too; what is not audio is named, away from the texts."""
    import soundfile

    samples, rate = soundfile.read(speech["low_test"].parent / "low_test" / "000.wav", dtype="float32")
    soundfile.write(tmp_path / "a.wav", samples, rate)
    encode(tmp_path / "b.m4a", "aac", "ipod", samples, rate, bit_rate=128_000)
    encode(tmp_path / "c.m4a", "alac", "ipod", np.stack([samples, -samples]), rate)
    (tmp_path / "notes.txt").write_text("not audio")
    innertune("transcribe", f"model.pretrained={base}", f"audio={tmp_path}")
    out, _ = capfdbinary.readouterr()
    lines = [os.fsdecode(line).split("\t") for line in out.splitlines()]
    assert [name for name, _ in lines] == [str(tmp_path / name) for name in ("a.wav", "b.m4a", "c.m4a")]
    plain, compressed, antiphase = (text for _, text in lines)
    assert plain and antiphase == plain and error_rates([plain], [compressed]).values()["cer"] < 0.2
    assert "notes.txt" in caplog.text and "antiphase" in caplog.text
