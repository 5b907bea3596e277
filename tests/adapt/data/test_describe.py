"""A data set's facts are counted from its files, and its parts share neither speakers nor audio."""

import numpy as np
import pytest
import soundfile

import adapt
from adapt.data.describe import manifest
from adapt.data.manifest import read_manifest, write_manifest
from adapt.data.parts import sizes, split_data
from adapt.errors import InputError


def make(folder, speakers, rate=8000, extra=()):
    """Write a CSV with `speakers`: the numbers of utterances of each, of 0.1, 0.2, ... seconds."""
    rows = ["audio;text;speaker"]
    draw = np.random.default_rng(0)
    for name, count in speakers.items():
        for number in range(count):
            soundfile.write(folder / f"{name}{number}.wav", draw.normal(0, 0.1, rate // 10 * (number + 1)), rate)
            rows.append(f"{name}{number}.wav;ab {number};{name}")
    (folder / "data.csv").write_text("\n".join([*rows, *extra]) + "\n", encoding="utf-8")
    return folder / "data.csv"


def test_facts(tmp_path):
    path = make(
        tmp_path, {"s1": 2, "s2": 3}, extra=["gone.wav;x;s1", "again.wav;AB  0;s1", "s10.wav;ab 0;", "s20.wav;y;s2"]
    )
    soundfile.write(tmp_path / "again.wav", soundfile.read(tmp_path / "s10.wav")[0], 8000)
    soundfile.write(tmp_path / "s21.wav", np.zeros(3200), 16_000)
    data = manifest(path)
    assert data.problems == (f"{path}:7: there is no audio file '{tmp_path / 'gone.wav'}'.",)
    facts = data.facts
    assert (facts.utterances, facts.unknown, facts.rates) == (8, 1, {8000: 5, 16_000: 1})
    assert facts.seconds == pytest.approx(0.1 + 0.2 + 0.1 + 0.2 + 0.3 + 0.1 + 0.1 + 0.1)
    assert facts.speakers == pytest.approx({"s1": 0.4, "s2": 0.7}) and facts.longest == pytest.approx(0.3)
    assert facts.characters["a"] == 6 and facts.characters[" "] == 8
    places = [tuple(int(place.rpartition(":")[2]) for place in group) for group in facts.same_audio]
    assert places == [(2, 8, 9), (4, 10)]
    assert [tuple(place.rpartition(":")[2] for place in group) for group in facts.same_text] == [("2", "8")]
    text = "\n".join(facts.lines())
    for word in (
        "8 utterances",
        "2 speakers",
        "without a speaker: 1 utterance",
        "16000 Hz (1 file)",
        "the same audio: 5",
    ):
        assert word in text
    assert [one.duration for one in data.utterances][:2] == pytest.approx([0.1, 0.2])


def test_written_and_read_again(tmp_path):
    data = adapt.manifest(make(tmp_path, {"s1": 2}), normalise=True)
    write_manifest(tmp_path / "out.jsonl", data.utterances)
    found, problems = read_manifest(tmp_path / "out.jsonl")
    assert [(one.audio_filepath, one.text, one.speaker, one.duration) for one in found] == [
        (one.audio_filepath, one.text, one.speaker, one.duration) for one in data.utterances
    ]
    assert problems == []


def test_parts_have_speakers_of_their_own_and_the_wanted_durations(tmp_path):
    counts = {f"s{number}": 2 + number % 4 for number in range(14)}
    data = manifest(make(tmp_path, counts))
    parts = split_data(data, (0.6, 0.2, 0.2), seed=3)
    names = [{one.speaker for one in part} for part in parts.values()]
    assert list(parts) == ["train", "validation", "test"] and sum(map(len, names)) == 14
    assert set.union(*names) == counts.keys()
    seconds = [sum(one.duration for one in part) for part in parts.values()]
    assert [one / sum(seconds) for one in seconds] == pytest.approx([0.6, 0.2, 0.2], abs=0.03)
    assert split_data(data, (0.6, 0.2, 0.2), seed=3) == parts
    assert sum(len(part) for part in parts.values()) == len(data.utterances)
    assert "validation:" in sizes(parts)
    others = [split_data(data, (0.6, 0.2, 0.2), seed=seed)["test"] for seed in range(6)]
    assert len({tuple(one.where for one in part) for part in others}) > 1


def test_the_best_division_of_few_speakers_is_found(tmp_path):
    data = manifest(make(tmp_path, {"s1": 4, "s2": 3, "s3": 1}))  # 1.0, 0.6 and 0.1 s
    assert {one.speaker for one in split_data(data, (0.9, 0.1))["test"]} == {"s3"}
    assert {one.speaker for one in split_data(data, (0.6, 0.4))["train"]} == {"s1"}


def test_the_same_audio_is_in_one_part(tmp_path):
    rows = ["s10.wav;again;s3"]
    data = manifest(make(tmp_path, {"s1": 3, "s2": 3, "s4": 3}, extra=rows))
    for seed in range(4):
        parts = split_data(data, (0.5, 0.5), seed=seed)
        (own,) = [name for name, part in parts.items() if any(one.speaker == "s1" for one in part)]
        assert any(one.speaker == "s3" for one in parts[own])


def test_too_few_speakers_and_none(tmp_path):
    data = manifest(make(tmp_path, {"s1": 4, "s2": 4}))
    with pytest.raises(InputError, match="split needs at least 3 speakers with different audio; there are 2"):
        split_data(data)
    assert [len(part) for part in split_data(data, (0.5, 0.25, 0.25), split_by="utterance").values()] != []
    unknown = tmp_path / "none"
    unknown.mkdir()
    data = manifest(make(unknown, {"a": 5}, extra=["a0.wav;x;"]))
    with pytest.raises(InputError, match="split_by=speaker needs the speaker of each utterance, and 1 of 6 have none"):
        split_data(data)


@pytest.mark.parametrize(
    "split", [(1.0,), (0.5, 0.4), (0.5, 0.5, 0.0), 0.8, "0.8", (0.4, 0.3, 0.2, 0.1), ("a", "b"), None]
)
def test_wrong_shares_are_refused(tmp_path, split):
    data = manifest(make(tmp_path, {"s1": 1, "s2": 1}))
    with pytest.raises(InputError, match="split must be the shares"):
        split_data(data, split)


def test_a_broken_audio_file_and_a_wrong_offset_are_problems(tmp_path):
    path = make(tmp_path, {"s1": 1})
    (tmp_path / "broken.wav").write_bytes(b"RIFFbroken")
    path.write_text("audio,text,offset\ns10.wav,a,0.05\nbroken.wav,b,0\ns10.wav,c,0.5\n")
    data = manifest(path)
    assert [one.duration for one in data.utterances] == pytest.approx([0.05])
    assert [problem.partition(": ")[0] for problem in data.problems] == [f"{path}:3", f"{path}:4"]
