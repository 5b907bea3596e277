"""The examples of a proof: the run's own test data first, then made ones, or those that the user names."""

import pytest

from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.export.examples import given_examples, own_examples
from adapt.export.run_card import RunCard
from adapt.models.checkpoint import load_model


def run_of(target, **data):
    return RunCard({"data": {"_target_": f"adapt.data.{target}", **data}})


def test_those_of_the_run(wav2vec2, marian, speech, language):
    heard = load_model(str(wav2vec2)).model
    found, why = own_examples(heard, run_of("splits.read_splits", test=str(speech["low_test"])))
    assert why == "" and found == read_manifest(speech["low_test"])[0][:20]
    read = load_model(str(marian)).model
    pairs, _ = own_examples(read, run_of("pairs.read_pairs", test=str(language["test"])))
    assert len(pairs) == 12 and all(pair.source for pair in pairs)


def test_made_ones(marian, wav2vec2, speech, monkeypatch):
    read = load_model(str(marian)).model
    assert len(own_examples(read, RunCard())[0]) == 20
    # The files of the run may be on another machine.
    gone = own_examples(read, run_of("pairs.read_pairs", test="/nowhere/test.jsonl"))
    assert gone[0] == [] and "cannot be read" in gone[1]
    monkeypatch.setattr("adapt.export.examples.find_spec", lambda name: None)
    none, why = own_examples(load_model(str(wav2vec2)).model, RunCard())
    assert none == [] and why == "there are no recordings. Name some: examples=test.jsonl"


def test_given_ones(wav2vec2, marian, speech, tmp_path):
    heard, read = load_model(str(wav2vec2)).model, load_model(str(marian)).model
    assert given_examples(heard, str(speech["low_test"])) == read_manifest(speech["low_test"], needs_text=False)[0][:20]
    (tmp_path / "lines.txt").write_text("a b\n\nb a\n")
    assert [pair.source for pair in given_examples(read, str(tmp_path / "lines.txt"))] == ["a b", "b a"]
    with pytest.raises(InputError, match=r"examples=.*none\.wav"):
        given_examples(heard, str(tmp_path / "none.wav"))
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="can read none of its"):
        given_examples(read, str(tmp_path / "empty.txt"))
