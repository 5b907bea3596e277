"""Sets are named by what their examples share, and what the other set does not."""

from pathlib import Path

import pytest

from adapt.data.manifest import Utterance
from adapt.data.names import model_name, set_names


def said(where: str = "", **keys: str) -> Utterance:
    return Utterance(Path("a.wav"), "text", where=where, **keys)


@pytest.mark.parametrize(
    ("target", "source", "names"),
    [
        ([said(accent="en-gb-scotland")] * 2, [said(accent="en-us")], ("Scottish English", "US English")),
        ([said(accent="Glasgow")], [], ("Glasgow", None)),
        ([said(lang="de")], [said(lang="en")], ("German", "English")),
        ([said(lang="en", speaker="ann")], [said(lang="en", speaker="bob")], ("ann", "bob")),
        ([said("x/test.jsonl:1"), said("x/test.jsonl:2")], [said("x/us.jsonl:1")], ("test.jsonl", "us.jsonl")),
        ([said(lang="en")], [said(lang="en")], (None, None)),
        ([said(accent="a"), said(accent="b")], [said(accent="a")], (None, "a")),
    ],
)
def test_sets_are_named(target, source, names):
    named = set_names({"target": target, "source": source})
    assert (named.get("target"), named.get("source")) == names


def test_models_are_named(tmp_path):
    (tmp_path / "moira" / "adaptation").mkdir(parents=True)
    assert model_name(str(tmp_path / "moira")) == model_name(str(tmp_path / "moira" / "adaptation")) == "moira"
    assert model_name("us-english") == "us-english" and model_name("openai/whisper-small") == "openai/whisper-small"
