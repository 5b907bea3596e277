"""Files are written atomically, with ordinary permissions."""

import json
import os
import stat

import pytest

from adapt.files import atomic, write_json, write_text


def test_the_new_file_takes_the_old_ones_place(tmp_path):
    path = tmp_path / "deep" / "er" / "a.txt"
    write_text(path, "old")
    write_text(str(path), "new \u00e9\n")
    assert path.read_bytes() == "new \u00e9\n".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"]


def test_the_old_file_stays_until_the_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic(path) as part:
        part.write_text("new")
        assert path.read_text() == "old" and part.parent == path.parent
        assert part.name.startswith(".a.txt.") and part.suffix == ".part"
    assert path.read_text() == "new"


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_no_litter(tmp_path, old, error):
    path = tmp_path / "a.txt"
    if old is not None:
        path.write_text(old)
    with pytest.raises(error), atomic(path) as part:
        part.write_text("half of it")
        raise error
    assert [p.read_text() for p in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_writer_that_loses_its_file_fails_and_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic(path) as part:
        part.unlink()
    assert path.read_text() == "old"


def test_a_folder_in_its_place_is_an_error_without_litter(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        write_text(tmp_path / "a", "text")
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_a_writer_may_replace_the_part(tmp_path):
    """Some libraries write to another name and rename."""
    path = tmp_path / "a.txt"
    with atomic(path) as part:
        (tmp_path / "other").write_text("new")
        os.replace(tmp_path / "other", part)
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "ours", "x")
        (tmp_path / "plain").write_text("x")
        assert os.umask(mask) == mask  # reading it has not changed it
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain")]
    assert modes[0] == modes[1] == 0o666 & ~mask


def test_json_comes_back(tmp_path):
    value = {"name": "\u00e9\u3042", "list": [1, 2.5, None, True], "deep": {"x": "\n"}}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value and "\u3042" in text and text.endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), object()])
def test_what_is_not_json_leaves_the_old_file(tmp_path, value):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", {"x": [value]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
