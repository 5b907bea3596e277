"""The Common Voice recipe, on a tree of the documented layout."""

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hydra.utils import instantiate
from omegaconf import OmegaConf

from adapt.data.corpora.common_voice import download_common_voice, prepare_common_voice
from adapt.data.manifest import Splits
from adapt.errors import InputError

REPO = Path(__file__).parents[4]
COLUMNS = [
    "client_id",
    "path",
    "sentence_id",
    "sentence",
    "up_votes",
    "down_votes",
    "age",
    "gender",
    "accents",
    "locale",
]
SPEAKERS = {  # speaker -> (accent, how many sentences)
    **{f"scot{number}": ("Scottish English", 4 + number) for number in range(10)},
    "both": ("England English,Scottish English", 6),
    **{f"us{number}": ("United States English", 5) for number in range(6)},
    "ambiguous": ("United States English,Scottish English", 3),
    "nobody": ("", 7),
    "indian": ("India and South Asia (India, Pakistan, Sri Lanka)", 2),
}


def rows_of(speakers: dict[str, tuple[str, int]]) -> list[dict[str, str]]:
    rows = []
    for index, (speaker, (accent, count)) in enumerate(speakers.items()):
        for number in range(count):
            # The first sentence is everyone's, the second every fifth speaker's, over all accents, the others are the
            # speaker's own; a lone quotation mark must not swallow the lines after it.
            shared = {0: "Shared by ALL.", 1: f"Read by a fifth, {index % 5}."}
            sentence = shared.get(number, f'"Sentence {number} isn\u2019t {speaker}\u2019s')
            rows.append(
                {"client_id": speaker, "path": f"{speaker}_{number}.mp3", "sentence": sentence, "accents": accent}
            )
    return rows


def write(root: Path, rows: list[dict[str, str]], columns: list[str] = COLUMNS) -> Path:
    (root / "clips").mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(columns), *("\t".join(row.get(column, "") for column in columns) for row in rows)]
    (root / "validated.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for row in rows:
        soundfile.write(root / "clips" / row["path"], np.zeros(480, dtype=np.float32), 16000, format="MP3")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    write(tmp_path / "cv-corpus-21.0-2025-03-14" / "en", rows_of(SPEAKERS))
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


@pytest.mark.parametrize("seed", range(8))
def test_apart(tree: Path, seed: int) -> None:
    splits = prepare_common_voice(tree, seed=seed)
    assert_apart(splits)
    assert all("Scottish" in u.accent for u in (*splits.train, *splits.validation, *splits.test))
    assert {u.accent for u in splits.source_test} == {"United States English"}
    rows = sum(count for accent, count in SPEAKERS.values() if "Scottish" in accent)
    assert 0.1 * rows < len(splits.test) < 0.35 * rows
    assert len(splits.train) > 0.4 * rows


def test_deterministic_and_seeded(tree: Path) -> None:
    assert prepare_common_voice(tree, seed=3) == prepare_common_voice(tree, seed=3)
    tests = {frozenset(u.speaker for u in prepare_common_voice(tree, seed=seed).test) for seed in range(8)}
    assert len(tests) > 1


def test_rows(tree: Path) -> None:
    splits = prepare_common_voice(tree)
    utterance = splits.test[0]
    root = tree / "cv-corpus-21.0-2025-03-14" / "en"
    assert utterance.audio_filepath.parent == root / "clips"
    assert utterance.lang == "en"
    line = int(utterance.where.rsplit(":", 1)[1])
    fields = (root / "validated.tsv").read_text().splitlines()[line - 1].split("\t")
    assert fields[:2] == [utterance.speaker, utterance.audio_filepath.name]
    assert any(u.text == f"sentence 2 isn't {u.speaker}'s" for u in splits.train)


def test_caps_take_the_speakers_in_turn(tree: Path) -> None:
    everyone = prepare_common_voice(tree)
    speakers = {u.speaker for u in everyone.train}
    splits = prepare_common_voice(tree, utterances=len(speakers), source_utterances=6)
    assert Counter(u.speaker for u in splits.train) == Counter(speakers)
    assert len({u.speaker for u in splits.source_test}) == 6
    assert splits.test == everyone.test
    assert_apart(splits)


def test_case_source_and_validation_are_optional(tree: Path) -> None:
    splits = prepare_common_voice(tree, target="scottish", source=None, validation=0)
    assert splits.source_test == splits.validation == ()
    assert not {u.speaker for u in splits.train} & {u.speaker for u in splits.test}


def test_older_releases_name_the_column_accent(tmp_path: Path) -> None:
    rows = [{**row, "accent": row["accents"]} for row in rows_of(SPEAKERS)]
    root = write(tmp_path / "en", rows, ["client_id", "path", "sentence", "up_votes", "down_votes", "accent", "locale"])
    assert_apart(prepare_common_voice(root))


def test_missing_clips_are_left_out(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree / "cv-corpus-21.0-2025-03-14" / "en"
    (root / "clips" / "scot9_2.mp3").unlink()
    text = (root / "validated.tsv").read_text()
    (root / "validated.tsv").write_text(text + "short\trow.mp3\n")
    with caplog.at_level(logging.WARNING):
        splits = prepare_common_voice(tree)
    everything = (*splits.train, *splits.validation, *splits.test)
    assert all(u.audio_filepath.is_file() for u in everything)
    assert "2 rows of" in caplog.text
    assert f"validated.tsv:{len(text.splitlines()) + 1}: expected 10 tab-separated columns" in caplog.text


def test_no_clips_at_all(tree: Path) -> None:
    for clip in tree.rglob("*.mp3"):
        clip.unlink()
    with pytest.raises(
        InputError, match=r"has 94 rows for 'Scottish', but none is usable: .*validated.tsv:2: there is no clip"
    ):
        prepare_common_voice(tree)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": "Welsh"}, r"no accent that contains 'Welsh'. .*: Scottish English \(85\), United States English"),
        ({"source": "Welsh"}, "no accent that contains 'Welsh'"),
        ({"target": "India"}, "'India' has 1 speakers with clips, but train and test and validation need one each"),
        ({"validation": 0.5, "test": 0.5}, "validation . test must be below 1"),
        ({"test": 0}, "test must be a share above 0 and below 1"),
        ({"utterances": 0}, "utterances must be a whole number of at least 1"),
        ({"lang": "cy"}, "no Common Voice for 'cy'"),
    ],
)
def test_refused(tree: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare_common_voice(tree, **arguments)


def test_source_without_anyone_else(tree: Path) -> None:
    with pytest.raises(InputError, match="has 1 rows for 'Welsh', but none is usable: all are by the target"):
        path = tree / "cv-corpus-21.0-2025-03-14" / "en" / "validated.tsv"
        fields = ["scot1", "scot1_0.mp3", "", "Another label once.", "", "", "", "", "Welsh English", ""]
        path.write_text(path.read_text() + "\t".join(fields) + "\n")
        prepare_common_voice(tree, source="Welsh")


def test_nothing_left_to_train(tmp_path: Path) -> None:
    rows = [
        {"client_id": f"s{number}", "path": f"{number}.mp3", "sentence": "The same.", "accents": "Scottish English"}
        for number in range(3)
    ]
    write(tmp_path / "en", rows)
    with pytest.raises(InputError, match="is also in test"):
        prepare_common_voice(tmp_path, source=None)


def test_wrong_files(tree: Path) -> None:
    path = tree / "cv-corpus-21.0-2025-03-14" / "en" / "validated.tsv"
    path.write_text("client_id,path,sentence\n")
    with pytest.raises(InputError, match=r"validated.tsv:1: needs the tab-separated column 'client_id'. Its columns"):
        prepare_common_voice(tree)
    path.write_bytes(("\t".join(COLUMNS) + "\n").encode() + b"\xff\xfe\n")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        prepare_common_voice(tree)


def test_two_releases_must_be_told_apart(tree: Path) -> None:
    write(tree / "cv-corpus-20.0-2024-12-06" / "en", [])
    with pytest.raises(InputError, match="has 2 releases. Choose one: .*20.0.*21.0"):
        prepare_common_voice(tree)


def test_download_explains(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(InputError, match=r"mozilladatacollective.com.*cv-corpus-RELEASE/gd/"):
        download_common_voice(empty, "gd")
    assert download_common_voice(tree) == tree / "cv-corpus-21.0-2025-03-14" / "en"


def test_config(tree: Path) -> None:
    config = OmegaConf.load(REPO / "conf" / "data" / "common_voice.yaml")
    config.folder = str(tree)
    assert instantiate(config) == prepare_common_voice(tree)


@pytest.mark.parametrize("seed", range(4))
def test_source_train_is_of_other_speakers_and_sentences(tree: Path, seed: int) -> None:
    splits = prepare_common_voice(tree, seed=seed, source_utterances=8, source_train=4)
    without = prepare_common_voice(tree, seed=seed, source_utterances=8)
    assert_apart(splits)
    for part in ("train", "validation", "test"):
        assert getattr(splits, part) == getattr(without, part)
    assert without.source_train == () and len(splits.source_train) == 4
    measured = (*splits.validation, *splits.test, *splits.source_test)
    assert not {u.text for u in splits.source_train} & {u.text for u in measured}
    assert not {u.speaker for u in splits.source_train} & {u.speaker for u in (*splits.train, *measured)}
    assert len({u.speaker for u in splits.source_train}) == 2  # a third of the six


def test_source_train_needs_a_source_of_two_speakers(tree: Path) -> None:
    with pytest.raises(InputError, match="source_train=5 needs a source accent"):
        prepare_common_voice(tree, source=None, source_train=5)
    with pytest.raises(InputError, match="'India' has 1 speaker with clips"):
        prepare_common_voice(tree, source="India", source_train=5)
    with pytest.raises(InputError, match="no accent that contains 'Mars'"):
        prepare_common_voice(tree, source="Mars", source_train=5)
