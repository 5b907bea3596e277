"""The LibriSpeech recipe, on a tree of the documented layout."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hydra.utils import instantiate
from omegaconf import OmegaConf

from adapt.data.corpora.librispeech import download_librispeech, prepare_librispeech
from adapt.errors import InputError

REPO = Path(__file__).parents[4]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three parts with two speakers each, one chapter, two utterances."""
    for index, part in enumerate(("train-clean-100", "dev-clean", "test-clean")):
        for speaker in (100 + index, 20 + index):
            chapter = tmp_path / "LibriSpeech" / part / str(speaker) / "7"
            chapter.mkdir(parents=True)
            lines = []
            for number, words in enumerate(("IT DIDN'T MATTER", "NOT TO HIM")):
                name = f"{speaker}-7-{number:04d}"
                soundfile.write(chapter / f"{name}.flac", np.zeros(160, dtype=np.float32), 16000)
                lines.append(f"{name} {words}\n")
            (chapter / f"{speaker}-7.trans.txt").write_text("".join(lines))
    return tmp_path


def test_parts_become_splits(tree: Path) -> None:
    splits = prepare_librispeech(tree)
    assert [len(part) for part in (splits.train, splits.validation, splits.test, splits.source_test)] == [4, 4, 4, 0]
    first = splits.train[0]
    assert (first.text, first.speaker, first.lang) == ("it didn't matter", "100", "en")
    assert first.where.endswith("100-7.trans.txt:1")
    assert all(utterance.audio_filepath.is_file() for utterance in splits.test)
    names = [
        utterance.audio_filepath.name for part in (splits.train, splits.validation, splits.test) for utterance in part
    ]
    assert len(set(names)) == 12
    assert prepare_librispeech(tree / "LibriSpeech") == splits


def test_parts_are_chosen(tree: Path) -> None:
    splits = prepare_librispeech(tree, train=[], validation=[], test="dev-clean", source_test=["test-clean"])
    assert {utterance.speaker for utterance in splits.test} == {"101", "21"}
    assert {utterance.speaker for utterance in splits.source_test} == {"102", "22"}
    assert splits.train == splits.validation == ()


def test_missing_part(tree: Path) -> None:
    with pytest.raises(InputError, match="no folder 'test-other'. It has: dev-clean, test-clean, train-clean-100"):
        prepare_librispeech(tree, test=["test-other"])


def test_part_in_two_splits(tree: Path) -> None:
    with pytest.raises(InputError, match="'dev-clean' is used twice"):
        prepare_librispeech(tree, test=["dev-clean"])


def test_missing_recording_and_transcript(tree: Path) -> None:
    chapter = tree / "LibriSpeech" / "dev-clean" / "101" / "7"
    (chapter / "101-7-0001.flac").rename(chapter / "away.flac")
    with pytest.raises(InputError, match=r"101-7.trans.txt:2: there is no '101-7-0001.flac'"):
        prepare_librispeech(tree)
    (chapter / "101-7.trans.txt").write_text("101-7-0000\n")
    with pytest.raises(InputError, match=r"101-7.trans.txt:1: expected SPEAKER-CHAPTER-NUMBER and a transcript"):
        prepare_librispeech(tree)
    for path in (tree / "LibriSpeech" / "dev-clean").rglob("*.trans.txt"):
        path.unlink()
    with pytest.raises(InputError, match="has no transcripts"):
        prepare_librispeech(tree)


def test_download_knows_its_parts(tree: Path) -> None:
    with pytest.raises(InputError, match="no part 'dev'. Its parts: dev-clean"):
        download_librispeech(tree, ["dev"])
    # Parts that are there are not fetched: this needs no network.
    assert download_librispeech(tree, ["dev-clean"]) == tree / "LibriSpeech"


def test_config(tree: Path) -> None:
    config = OmegaConf.load(REPO / "conf" / "data" / "librispeech.yaml")
    config.folder = str(tree)
    assert instantiate(config) == prepare_librispeech(tree)
