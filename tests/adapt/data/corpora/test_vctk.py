"""The VCTK recipe, on a tree of the documented layout."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hydra.utils import instantiate
from omegaconf import OmegaConf

from adapt.data.corpora.vctk import download_vctk, prepare_vctk
from adapt.data.manifest import Splits
from adapt.errors import InputError

REPO = Path(__file__).parents[4]
SCOTS = [f"p{number}" for number in range(234, 243)]
AMERICANS = [f"p{number}" for number in range(294, 300)]
INFO = (
    ["ID  AGE  GENDER  ACCENTS  REGION COMMENTS", "p225  23  F    English    Southern  England"]
    + [f"{speaker}  22  F    Scottish    West Dumfries (a comment)" for speaker in SCOTS]
    + [f"{speaker}  26  M    American" for speaker in AMERICANS]
    + ["p315  18  M    American    New  England  (no text)", ""]
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """16 speakers: prompts 1 to 3 are everyone's, 4 is shared by every eighth speaker, 5 to 8 are the speaker's own."""
    root = tmp_path / "VCTK-Corpus-0.92"
    for index, speaker in enumerate(["p225", *SCOTS, *AMERICANS]):
        texts, audio = root / "txt" / speaker, root / "wav48_silence_trimmed" / speaker
        texts.mkdir(parents=True)
        audio.mkdir(parents=True)
        for number in range(1, 9):
            sentence = {1: "Please call Stella.", 2: "Ask her!", 3: "Six spoons."}.get(
                number, f"{speaker} says {number}."
            )
            if number == 4:
                sentence = f"An eighth of us, {index % 8}."
            name = f"{speaker}_{number:03d}"
            (texts / f"{name}.txt").write_text(sentence + "\n")
            soundfile.write(audio / f"{name}_mic1.flac", np.zeros(96, dtype=np.float32), 48000)
    (root / "wav48_silence_trimmed" / "p315").mkdir()
    (root / "speaker-info.txt").write_text("\n".join(INFO))
    return tmp_path


def assert_apart(splits: Splits) -> None:
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test, "source": splits.source_test}
    assert all(parts.values())
    for one in parts:
        for other in parts:
            if one < other:
                assert not {u.speaker for u in parts[one]} & {u.speaker for u in parts[other]}, (one, other)
            if one != other and "train" in (one, other):
                assert not {u.text for u in parts[one]} & {u.text for u in parts[other]}, (one, other)
    assert not {u.text for u in splits.validation} & {u.text for u in splits.test}


@pytest.mark.parametrize("seed", range(6))
def test_apart(tree: Path, seed: int) -> None:
    splits = prepare_vctk(tree, seed=seed)
    assert_apart(splits)
    assert [len({u.speaker for u in part}) for part in (splits.train, splits.validation, splits.test)] == [3, 2, 4]
    assert len(splits.test) == 4 * 8
    assert {"please call stella", "ask her", "six spoons"} <= {u.text for u in splits.source_test}
    assert {u.accent for u in (*splits.train, *splits.validation, *splits.test)} == {"Scottish"}
    assert {u.accent for u in splits.source_test} == {"American"}
    assert len({u.speaker for u in splits.source_test}) == 4


def test_rows(tree: Path) -> None:
    utterance = prepare_vctk(tree).test[0]
    assert (utterance.text, utterance.lang, utterance.extra) == ("please call stella", "en", {"gender": "F"})
    root = tree / "VCTK-Corpus-0.92"
    assert (
        utterance.audio_filepath
        == root / f"wav48_silence_trimmed/{utterance.speaker}/{utterance.speaker}_001_mic1.flac"
    )
    assert utterance.where == str(root / f"txt/{utterance.speaker}/{utterance.speaker}_001.txt")


def test_deterministic_and_seeded(tree: Path) -> None:
    assert prepare_vctk(tree, seed=3) == prepare_vctk(tree / "VCTK-Corpus-0.92", seed=3)
    assert len({frozenset(u.speaker for u in prepare_vctk(tree, seed=seed).test) for seed in range(6)}) > 1


def test_fewer_utterances_keep_the_test(tree: Path) -> None:
    few, everything = prepare_vctk(tree, utterances=5, source=None), prepare_vctk(tree)
    assert len(few.train) == 5
    assert set(u.where for u in few.train) <= set(u.where for u in everything.train)
    assert few.test == everything.test
    assert few.source_test == ()


def test_missing_recordings_and_texts_are_left_out(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree / "VCTK-Corpus-0.92"
    (root / "wav48_silence_trimmed" / "p234" / "p234_005_mic1.flac").unlink()
    (root / "txt" / "p235" / "p235_006.txt").write_text("\n")
    with caplog.at_level(logging.WARNING):
        splits = prepare_vctk(tree)
    names = {u.audio_filepath.name for part in (splits.train, splits.validation, splits.test) for u in part}
    assert not names & {"p234_005_mic1.flac", "p235_006_mic1.flac"}
    assert "3 prompts of" in caplog.text  # these two, and p315, who has no text
    assert "p234_005.txt: there is no recording" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "Welsh"}, r"no accent 'Welsh'. It has: American, English, Scottish\."),
        ({"source": "Welsh"}, "no accent 'Welsh'"),
        ({"test_speakers": 8}, "has 9 speakers of 'Scottish' with text and recordings, but 11 are needed"),
        ({"source_speakers": 7}, "has 6 speakers of 'American' .* but 7 .*p315: the speaker has no text"),
        ({"source": "scottish"}, "Source and target are both"),
        ({"mic": 2}, "has 0 speakers of 'Scottish' .* no recording"),
        ({"mic": 3}, "mic must be one of 1, 2; got 3"),
        ({"utterances": 0}, "utterances must be a whole number of at least 1"),
    ],
)
def test_refused(tree: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare_vctk(tree, **arguments)


def test_nothing_left_to_train(tree: Path) -> None:
    for path in tree.rglob("p2*.txt"):
        path.write_text("The same.")
    with pytest.raises(InputError, match="is also in test"):
        prepare_vctk(tree)


def test_wrong_folder_and_broken_info(tree: Path) -> None:
    with pytest.raises(InputError, match="is not VCTK 0.92. Expected speaker-info.txt"):
        prepare_vctk(tree / "elsewhere")
    (tree / "VCTK-Corpus-0.92" / "speaker-info.txt").write_text("ID AGE\np225 23 F\n")
    with pytest.raises(InputError, match="speaker-info.txt:2: expected ID AGE GENDER ACCENTS"):
        prepare_vctk(tree)


def test_download_leaves_what_is_there(tree: Path) -> None:
    assert download_vctk(tree) == tree / "VCTK-Corpus-0.92"  # without a network


def test_config(tree: Path) -> None:
    config = OmegaConf.load(REPO / "conf" / "data" / "vctk.yaml")
    config.folder = str(tree)
    assert instantiate(config) == prepare_vctk(tree)


@pytest.mark.parametrize("seed", range(4))
def test_source_train_is_of_further_speakers_and_what_is_measured_is_not_in_it(tree: Path, seed: int) -> None:
    splits, without = prepare_vctk(tree, seed=seed, source_train=6), prepare_vctk(tree, seed=seed)
    for part in ("train", "validation", "test", "source_test"):
        assert getattr(splits, part) == getattr(without, part)
    assert without.source_train == () and len(splits.source_train) == 6
    assert {u.accent for u in splits.source_train} == {"American"}
    measured = (*splits.validation, *splits.test, *splits.source_test)
    assert not {u.text for u in splits.source_train} & {u.text for u in measured}
    assert not {u.speaker for u in splits.source_train} & {u.speaker for u in (*splits.train, *measured)}


def test_source_train_needs_a_source_with_speakers_left(tree: Path) -> None:
    with pytest.raises(InputError, match="source_train=5 needs a source accent"):
        prepare_vctk(tree, source=None, source_train=5)
    with pytest.raises(InputError, match="has 6 speakers of 'American' .* 7 are needed"):
        prepare_vctk(tree, source_speakers=6, source_train=5)
