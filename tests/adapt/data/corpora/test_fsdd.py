"""The digits recipe, on the real recordings if available, and on a small tree of the original layout."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hydra.utils import instantiate
from omegaconf import OmegaConf

from adapt.data.corpora.fsdd import prepare_fsdd
from adapt.data.manifest import Splits, Utterance, write_manifest
from adapt.errors import InputError

REPO = Path(__file__).parents[4]
REAL = REPO.parent / "shared" / "data" / "fsdd"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the recordings are not on this machine")
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def take(utterance: Utterance) -> int:
    return int(utterance.audio_filepath.stem.split("_")[2])


def assert_disjoint(splits: Splits) -> None:
    parts = (splits.train, splits.validation, splits.test, splits.source_test, splits.source_train)
    paths = [utterance.audio_filepath for part in parts for utterance in part]
    assert len(paths) == len(set(paths))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Three speakers, three digits, takes 0 to 15, and a stray file such as some systems create."""
    (tmp_path / "recordings").mkdir()
    for speaker in ("jackson", "theo", "nicolas"):
        for digit in range(3):
            for number in range(16):
                path = tmp_path / "recordings" / f"{digit}_{speaker}_{number}.wav"
                soundfile.write(path, np.zeros(80, dtype=np.float32), 8000)
    (tmp_path / "recordings" / "._0_theo_1.wav").write_bytes(b"")
    return tmp_path


@needs_real
def test_real_target() -> None:
    splits = prepare_fsdd(REAL)
    assert (len(splits.train), len(splits.validation), len(splits.test), len(splits.source_test)) == (50, 20, 100, 300)
    assert_disjoint(splits)
    assert {take(utterance) for utterance in splits.train} == {10, 11, 12, 13, 14}
    assert {take(utterance) for utterance in splits.validation} == {15, 16}
    assert {take(utterance) for utterance in (*splits.test, *splits.source_test)} == set(range(10))
    assert {utterance.speaker for utterance in (*splits.train, *splits.validation, *splits.test)} == {"nicolas"}
    assert {utterance.speaker for utterance in splits.source_test} == {"jackson", "theo", "yweweler"}
    assert {utterance.accent for utterance in splits.test} == {"BEL/French"}
    for utterance in (*splits.train, *splits.validation, *splits.test, *splits.source_test):
        assert utterance.text == WORDS[int(utterance.audio_filepath.stem[0])]
        assert utterance.lang == "en"
        info = soundfile.info(utterance.audio_filepath)
        assert info.samplerate == 8000
        assert utterance.duration == pytest.approx(info.duration, abs=1e-4)


@needs_real
def test_real_base() -> None:
    splits = prepare_fsdd(REAL, target=None)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [1140, 60, 300]
    assert splits.source_test == ()
    assert_disjoint(splits)
    assert "nicolas" not in {utterance.speaker for utterance in (*splits.train, *splits.validation, *splits.test)}
    assert splits.test == prepare_fsdd(REAL).source_test


def test_original_layout(tree: Path) -> None:
    splits = prepare_fsdd(tree, source=["jackson", "theo"], utterances=7, validation=4)
    keys = [utterance.audio_filepath.stem for utterance in splits.train]
    assert keys == [f"{digit}_nicolas_{number}" for number in (10, 11) for digit in range(3)] + ["0_nicolas_12"]
    assert [utterance.audio_filepath.stem for utterance in splits.validation] == [
        "1_nicolas_12",
        "2_nicolas_12",
        "0_nicolas_13",
        "1_nicolas_13",
    ]
    assert (len(splits.test), len(splits.source_test)) == (30, 60)
    assert_disjoint(splits)
    first = splits.source_test[0]
    assert (first.text, first.speaker, first.accent, first.lang) == ("zero", "jackson", "USA/neutral", "en")


def test_original_layout_without_target(tree: Path) -> None:
    splits = prepare_fsdd(tree, source=["jackson", "theo"], target=None, validation=3)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [30, 6, 60]
    assert {take(utterance) for utterance in splits.validation} == {15}
    assert_disjoint(splits)


def test_both_layouts_agree(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    def stems(splits: Splits) -> list[list[str]]:
        parts = (splits.train, splits.validation, splits.test, splits.source_test, splits.source_train)
        return [[utterance.audio_filepath.stem for utterance in part] for part in parts]

    folder = tmp_path_factory.mktemp("manifests")
    for speaker in ("jackson", "theo", "nicolas"):
        paths = sorted((tree / "recordings").glob(f"?_{speaker}_*.wav"))
        rows = [Utterance(path, WORDS[int(path.stem[0])]) for path in paths]
        write_manifest(folder / f"{speaker}_test.jsonl", [row for row in rows if take(row) < 10])
        write_manifest(folder / f"{speaker}_train.jsonl", [row for row in rows if take(row) >= 10])
    ours, theirs = (prepare_fsdd(where, ["jackson", "theo"], utterances=6, validation=3) for where in (folder, tree))
    assert stems(ours) == stems(theirs)
    assert ours.train[0].accent == "BEL/French"  # from the corpus's metadata, because the manifest has none


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "george"}, r"no recordings of 'george'. Its speakers: jackson, nicolas, theo\."),
        ({"source": ["lucas"]}, "no recordings of 'lucas'"),
        ({"target": "theo"}, "'theo' is also a source speaker"),
        ({"source": [], "target": None}, "there must be source speakers"),
        ({"utterances": 0}, "utterances must be a whole number of at least 1"),
        ({"utterances": 17, "validation": 2}, "'nicolas' has 18 recordings outside the test takes .* but 19"),
        ({"target": None, "validation": 18}, "'jackson' has 18 .* but 19"),
    ],
)
def test_refused(tree: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare_fsdd(tree, **{"source": ["jackson", "theo"], "utterances": 6, "validation": 3, **arguments})


def test_wrong_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the Free Spoken Digit Dataset. Expected recordings/"):
        prepare_fsdd(tmp_path)


def test_manifest_with_another_name_or_a_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "theo_train.jsonl"
    path.write_text('{"audio_filepath": "clip.flac", "text": "zero"}\n')
    with pytest.raises(InputError, match=r"theo_train.jsonl:1: expected a recording named DIGIT_SPEAKER_TAKE"):
        prepare_fsdd(tmp_path, source=["theo"], target=None)
    path.write_text('{"audio_filepath": "0_theo_11.flac", "text": "zero"}\nnot json\n')
    with pytest.raises(InputError, match="1 lines .*theo_train.jsonl:2: not JSON"):
        prepare_fsdd(tmp_path, source=["theo"], target=None)


def test_config(tree: Path) -> None:
    config = OmegaConf.load(REPO / "conf" / "data" / "fsdd.yaml")
    config.merge_with({"folder": str(tree), "source": ["theo"], "utterances": 6, "validation": 3})
    assert instantiate(config) == prepare_fsdd(tree, ["theo"], utterances=6, validation=3)


def test_source_train_is_of_the_source_speakers_in_turn(tree: Path) -> None:
    options = {"source": ["jackson", "theo"], "utterances": 7, "validation": 4}
    splits, without = prepare_fsdd(tree, source_train=5, **options), prepare_fsdd(tree, **options)
    assert [utterance.audio_filepath.stem for utterance in splits.source_train] == [
        "0_jackson_10", "0_theo_10", "1_jackson_10", "1_theo_10", "2_jackson_10",
    ]  # fmt: skip
    assert_disjoint(splits)
    for part in ("train", "validation", "test", "source_test"):
        assert getattr(splits, part) == getattr(without, part)
    assert (
        without.source_train == () == prepare_fsdd(tree, ["jackson"], None, validation=2, source_train=5).source_train
    )
    with pytest.raises(InputError, match="'jackson' has 18 recordings .* 20 are needed.*source_train"):
        prepare_fsdd(tree, source_train=40, **options)
    with pytest.raises(InputError, match="source_train must be a whole number of at least 0"):
        prepare_fsdd(tree, source_train=-1, **options)
    with pytest.raises(InputError, match="there are none"):
        prepare_fsdd(tree, source=[], source_train=1, utterances=7, validation=4)
