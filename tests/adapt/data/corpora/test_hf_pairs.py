"""Hugging Face datasets, from small local files: columns or languages, splits, and what is not there."""

import json
import sys

import pytest

from adapt.data.corpora.hf_pairs import read_dataset
from adapt.errors import InputError

ROWS = [{"id": n, "en": f"line {n}", "de": f"Zeile {n}", "kind": "news" if n % 2 else None} for n in range(6)]


@pytest.fixture(autouse=True)
def datasets(tmp_path, monkeypatch):
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    return library


def write(folder, name, rows):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(pairs):
    return [(pair.source, pair.target) for pair in pairs]


def test_a_file_and_parts_of_its_split(tmp_path):
    path = write(tmp_path, "d.jsonl", ROWS)
    splits = read_dataset(str(path), "en", "de", train="train[:4]", test="train[4:]", domain="kind")
    assert texts(splits.train) == [(row["en"], row["de"]) for row in ROWS[:4]]
    assert texts(splits.test) == [(row["en"], row["de"]) for row in ROWS[4:]]
    assert [(pair.id, pair.domain) for pair in splits.test] == [("4", None), ("5", "news")]
    assert splits.test[1].where == f"{path} train[4:][1]"
    assert splits.problems == () and splits.validation == splits.source_test == ()


def test_a_folder_of_parquet_with_splits(tmp_path, datasets):
    (tmp_path / "data").mkdir()
    for name, rows in (("train", ROWS[:4]), ("test", ROWS[4:])):
        datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / "data" / f"{name}.parquet"))
    splits = read_dataset(str(tmp_path / "data"), "de", "en")
    assert texts(splits.train) == [(row["de"], row["en"]) for row in ROWS[:4]] and len(splits.test) == 2
    assert splits.train[1].extra == {"kind": "news"} and splits.train[0].extra == {}


@pytest.fixture
def saved(tmp_path, datasets):
    """As `save_to_disk` writes it, with languages inside one column."""
    rows = [{"id": str(row["id"]), "translation": {"en": row["en"], "de": row["de"]}} for row in ROWS]
    parts = {"train": datasets.Dataset.from_list(rows[:4]), "test": datasets.Dataset.from_list(rows[4:])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    return str(tmp_path / "saved")


def test_the_feature_of_published_translations(tmp_path, datasets):
    features = datasets.Features({"translation": datasets.Translation(["de", "en"])})
    rows = [{"translation": {"en": row["en"], "de": row["de"]}} for row in ROWS]
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "data" / "train.parquet"))
    splits = read_dataset(str(tmp_path / "data"), "en", "de", test=None)
    assert texts(splits.train) == [(row["en"], row["de"]) for row in ROWS]
    with pytest.raises(InputError, match="inside 'translation' de, en"):
        read_dataset(str(tmp_path / "data"), "en", "fr", test=None)


def test_a_column_of_texts_may_be_called_translation(tmp_path):
    path = str(write(tmp_path, "d.jsonl", [{"text": "a", "translation": "b"}]))
    assert texts(read_dataset(path, "text", "translation", test=None).train) == [("a", "b")]
    with pytest.raises(InputError, match="has no column 'en'"):
        read_dataset(path, "en", "de", test=None)


def test_languages_inside_a_column(saved):
    splits = read_dataset(saved, "de", "en", source_test="test", test=None)
    assert texts(splits.train) == [(row["de"], row["en"]) for row in ROWS[:4]]
    assert texts(splits.source_test) == [(row["de"], row["en"]) for row in ROWS[4:]] and splits.test == ()
    assert splits.train[0].id == "0"


def test_rows_without_a_text_and_leaks_are_problems(tmp_path):
    rows = [*ROWS, {"en": "x", "de": None}, {"en": " ", "de": "y"}]
    path = str(write(tmp_path, "d.jsonl", rows))
    splits = read_dataset(path, "en", "de", test="train[3:]", train="train[:4]")
    assert texts(splits.test) == [("line 4", "Zeile 4"), ("line 5", "Zeile 5")]
    assert len(splits.problems) == 3
    assert splits.problems[0].startswith(f"{path} train[3:][3]: 'de' must be a non-empty text")
    assert splits.problems[1].startswith(f"{path} train[3:][4]: 'en' must be a non-empty text")
    assert splits.problems[2].startswith("3: 'line 3' is also in the training data (3)")


def test_a_column_that_is_not_there(tmp_path, saved):
    path = str(write(tmp_path, "d.jsonl", ROWS))
    for column in ({"source": "fr"}, {"target": "fr"}, {"domain": "fr"}):
        with pytest.raises(InputError, match="has no column 'fr'. It has id, en, de, kind"):
            read_dataset(path, **{"source": "en", "target": "de", "test": None, **column})
    with pytest.raises(InputError, match="no column 'fr'.*inside 'translation' (en, de|de, en)"):
        read_dataset(saved, "en", "fr")


def test_a_split_that_is_not_there(tmp_path, saved):
    path = str(write(tmp_path, "d.jsonl", ROWS))
    with pytest.raises(InputError, match="cannot be read .*test"):
        read_dataset(path, "en", "de")
    with pytest.raises(InputError, match="Unknown split 'dev'. It has train, test"):
        read_dataset(saved, "en", "de", validation="dev")
    with pytest.raises(InputError, match="corresponds to no data"):
        read_dataset(path, "en", "de", train="train[:0]", test=None)
    with pytest.raises(InputError, match="no usable row in 'train'"):
        read_dataset(str(write(tmp_path, "e.jsonl", [{"en": "x", "de": ""}])), "en", "de", test=None)


def test_a_dataset_that_is_not_there(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").write_text("a")
    wanted = {"nobody/nothing": "OWNER/NAME", "empty": "Expected Parquet", "x.txt": "Expected a file in"}
    for path, says in wanted.items():
        with pytest.raises(InputError, match=says):
            read_dataset(str(tmp_path / path) if "/" not in path else path, "en", "de")


def test_one_split_alone_cannot_say_its_name(tmp_path, datasets):
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "one"))
    with pytest.raises(InputError, match="DatasetDict.save_to_disk"):
        read_dataset(str(tmp_path / "one"), "en", "de")


def test_a_script_in_a_dataset_is_not_run(tmp_path):
    script = tmp_path / "scripted" / "scripted.py"
    script.parent.mkdir()
    script.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(InputError, match="cannot be read"):
        read_dataset(str(script.parent), "en", "de")
    with pytest.raises(InputError, match="Expected a file in"):
        read_dataset(str(script), "en", "de")
    assert not (tmp_path / "ran").exists()


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"innertune\[datasets\]"):
        read_dataset("any/thing", "en", "de")
