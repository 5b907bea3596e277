"""`innertune transcribe`."""

import json
import shutil

import pytest

from adapt.errors import InputError


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
    right = sum(
        transcribe(f"audio={speech['low_test'].parent / row['audio_filepath']}") == [row["text"]] for row in rows[:4]
    )
    assert right > 0


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
