"""`innertune correct` and `innertune corrections`, as a user meets them."""

import json
import logging

import pytest

from adapt.cli import _POSITIONS, _name_words
from adapt.errors import InputError
from interventions.corrections.search import Search

SHORT = ["site='*.conv4'", "strength=30"]


@pytest.fixture
def wrong(base, speech, innertune, capsys):
    """An utterance of the other accent that the model transcribes wrongly: its file, its text, the model's answer."""
    for line in speech["high_train"].read_text().splitlines():
        row = json.loads(line)
        audio = speech["high_train"].parent / row["audio_filepath"]
        capsys.readouterr()
        innertune("transcribe", f"model.pretrained={base}", f"audio={audio}", "corrections=off")
        answer = capsys.readouterr().out.strip()
        doubled = any(left == right for left, right in zip(row["text"], row["text"][1:], strict=False))
        if answer != row["text"] and len(answer) > 3 and not doubled:
            return audio, row["text"], answer
    raise AssertionError("the model reads all of the other accent")


@pytest.fixture
def run(base, innertune, capsys, caplog, tmp_path):
    """Run a command on the base with a store of the test's own; returns what it says."""
    store = f"corrections={tmp_path / 'corrections.db'}"

    def run(command, *options):
        capsys.readouterr()
        caplog.clear()
        with caplog.at_level(logging.INFO):
            innertune(
                command,
                f"model.pretrained={base}",
                *([] if any("corrections=" in o for o in options) else [store]),
                *options,
            )
        # A line break within a message would be shown as an escape.
        assert not any("\n" in record.getMessage() for record in caplog.records)
        return (capsys.readouterr().out + "\n".join(record.getMessage() for record in caplog.records)).strip()

    return run


def test_what_is_corrected_stays_so_until_it_is_taken_back(run, wrong, speech, base, tmp_path):
    audio, text, answer = wrong
    said = run(
        "correct", f"audio={audio}", f"text='{text}'", f"protected={speech['low_validation']}", *SHORT, "author=ann"
    )
    assert "Correction 1: fixed." in said and f"before   {answer}" in said and f"now      {text}" in said
    assert "frames, by" in said and "protected utterances have another answer now" in said and " kB" in said
    assert run("transcribe", f"audio={audio}") == text
    assert run("transcribe", f"audio={audio}", "corrections=off") == answer
    assert (
        run("transcribe", f"audio={audio}", "corrections=auto") == answer
    )  # the base's own store, where there is none
    assert "is already the model's answer" in run("correct", f"audio={audio}", f"text='{text}'")

    listed = run("corrections")
    assert "ann" in listed and answer in listed and text in listed
    shown = json.loads(run("corrections", "action=show", "target=1"))
    assert (shown["number"], shown["by"], shown["text"], shown["before"]) == (1, "ann", text, answer)
    assert shown["example"]["audio"] == str(audio) and shown["bytes"] > 0
    assert "1 of 1 corrections hold, decoded alone" in run("corrections", "action=evaluate")

    exported = tmp_path / "c.safetensors"
    run("corrections", "action=export", f"target={exported}")
    assert "Removed correction 1" in run("corrections", "action=undo", "target=1")
    assert run("transcribe", f"audio={audio}") == answer
    with pytest.raises(InputError, match="no correction 1. There are: none"):
        run("corrections", "action=undo", "target=1")

    assert "no corrections in" in run("corrections")

    other = f"corrections={tmp_path / 'other.db'}"
    assert "Imported corrections: 1" in run("corrections", "action=import", f"target={exported}", other)
    assert run("transcribe", f"audio={audio}", other) == text
    assert "No corrections were imported" in run("corrections", "action=import", f"target={exported}", other)


def test_many_at_once_and_evaluated(run, speech, tmp_path, innertune, base):
    rows = [json.loads(line) for line in speech["high_train"].read_text().splitlines()[:6]]
    for row in rows:
        row["audio_filepath"] = str(speech["high_train"].parent / row["audio_filepath"])
    (tmp_path / "corrections.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    said = run("correct", f"file={tmp_path / 'corrections.jsonl'}", f"protected={speech['low_validation']}", *SHORT)
    assert "6 corrections: " in said
    data = ["data=manifest", f"data.test={tmp_path / 'corrections.jsonl'}"]
    rates = {}
    for name, option in (("on", f"corrections={tmp_path / 'corrections.db'}"), ("off", "corrections=off")):
        out = innertune("evaluate", f"model.pretrained={base}", *data, option, f"output={tmp_path / name}")
        rates[name] = json.loads((out / "metrics.json").read_text())["target"]["wer"]
    fixed = int(said.rpartition("6 corrections: ")[2].split()[0])
    assert fixed >= 2 and rates["on"] < rates["off"]
    if fixed == 6:
        assert rates["on"] == 0


def test_folded_it_is_in_the_weights_and_can_still_be_taken_back(run, wrong, speech, tmp_path, innertune, capsys):
    audio, text, answer = wrong
    run("correct", f"audio={audio}", f"text='{text}'", f"protected={speech['low_validation']}", *SHORT)
    assert "Folded 1 correction into the weights" in run("corrections", "action=fold", f"target={tmp_path / 'folded'}")

    def transcribed(*options):
        capsys.readouterr()
        innertune("transcribe", f"model.pretrained={tmp_path / 'folded'}", f"audio={audio}", *options)
        return capsys.readouterr().out.strip()

    assert transcribed() == text  # its store lies beside the adaptation
    innertune("corrections", f"model.pretrained={tmp_path / 'folded'}", "action=undo", "target=1")
    assert transcribed() == answer
    with pytest.raises(InputError, match="has an adaptation already"):
        run("corrections", "action=fold", f"target={tmp_path / 'folded'}")


def test_what_is_not_said_is_refused_or_kept_as_a_hint(run, wrong, speech):
    audio, text, answer = wrong
    unsaid = "eee aaa" if text != "eee aaa" else "bbb ddd"
    protected = f"protected={speech['low_validation']}"
    with pytest.raises(InputError, match="Nothing was stored. force=true"):
        run("correct", f"audio={audio}", f"text='{unsaid}'", protected, *SHORT)
    assert run("transcribe", f"audio={audio}") == answer
    said = run("correct", f"audio={audio}", f"text='{unsaid}'", "force=true")
    assert "stored as an output override" in said
    assert run("transcribe", f"audio={audio}") == unsaid
    assert "override" in run("corrections")
    assert "1 of 1 corrections hold, decoded alone" in run("corrections", "action=evaluate")
    run("corrections", "action=undo", "target=1")
    assert run("transcribe", f"audio={audio}") == answer
    with pytest.raises(InputError, match="Nothing was stored"):
        run("correct", f"audio={audio}", "text='xyz'")  # letters that it has not


def test_mistakes_are_name_words(run, wrong, speech, tmp_path):
    audio, text, _ = wrong
    corrected = [f"audio={audio}", f"text='{text}'"]
    for options, message in (
        (corrected, "The first correction of .* needs protected=FOLDER: recordings"),
        (["source=a", "target=b"], "reads audio: give audio=FILE and text='what was said'"),
        ([*corrected, "corrections=off"], "no place to store"),
        ([*corrected, "site='*conv*'", f"protected={speech['low_validation']}"], "matches 11 sites"),
        ([f"audio={tmp_path / 'no.wav'}", "text=a"], "There is no audio file"),
        ([*corrected, f"protected={tmp_path / 'nowhere'}"], "protected=.*no such file"),
        ([*corrected, "strength=0"], "strength=0: expected a number above 0"),
        ([*corrected, "strength=much"], "strength=much: expected a number above 0"),
        ([*corrected, f"protected={speech['low_validation']}", f"corrections={tmp_path}", *SHORT], "cannot be used"),
    ):
        with pytest.raises(InputError, match=message):
            run("correct", *options)
    for options, message in (
        ([], "has no corrections"),
        (["action=dance"], "expected one of list, show"),
    ):
        with pytest.raises(InputError, match=message):
            run("corrections", *options)


def test_broken_files_and_places_are_name_words(run, wrong, speech, base, tmp_path):
    audio, text, _ = wrong
    run("correct", f"audio={audio}", f"text='{text}'", f"protected={speech['low_validation']}", *SHORT)
    (tmp_path / "text").write_text("this is no store")
    for options, message in (
        (["action=import", f"target={tmp_path / 'none.safetensors'}"], "There is no file"),
        (["action=import", f"target={tmp_path / 'text'}"], "is not a complete safetensors file"),
        (["action=import", f"target={base / 'model.safetensors'}"], "expected to contain corrections, but contains"),
        (["action=export", f"target={tmp_path}"], "Choose another path"),
        (["action=export", f"target={tmp_path / 'text' / 'c.safetensors'}"], "Choose another path"),
        (["action=fold", f"target={tmp_path / 'text'}"], "Choose another path"),
        (["action=undo"], "the number of a correction"),
        (["action=undo", "target=nine"], "the number of a correction; got nine"),
        (["action=forget", "speaker=''"], "speaker is empty"),
        (["action=show", "target=9"], "no correction 9. There are: 1"),
        ([f"corrections={tmp_path / 'text'}"], "cannot be used as a correction store"),
        ([f"corrections={tmp_path}"], "has no corrections"),
    ):
        with pytest.raises(InputError, match=message):
            run("corrections", *options)
    said = tmp_path / "said.wav"
    said.write_text("this is no sound")
    with pytest.raises(InputError, match="cannot be read as audio"):
        run("correct", f"audio={said}", "text=a")
    # One that cannot be read does not keep the others from being made.
    rows = [{"audio_filepath": str(said), "text": "a"}, {"audio_filepath": str(audio), "text": text}]
    (tmp_path / "two.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    said = run("correct", f"file={tmp_path / 'two.jsonl'}")
    assert "cannot be read as audio" in said and "2 corrections: 0 fixed, 1 refused, 1 already correct" in said


def test_another_models_corrections_are_refused(run, wrong, speech, wav2vec2, innertune, tmp_path):
    audio, text, _ = wrong
    run("correct", f"audio={audio}", f"text='{text}'", f"protected={speech['low_validation']}", *SHORT)
    with pytest.raises(InputError, match="belong to another model"):
        innertune("transcribe", f"model.pretrained={wav2vec2}", f"audio={audio}",
                  f"corrections={tmp_path / 'corrections.db'}")  # fmt: skip


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["undo", "3", "model.pretrained=a"], ["action=undo", "target=3", "model.pretrained=a"]),
        (["model.pretrained=a"], ["model.pretrained=a"]),
        (["list", "--cfg", "job"], ["action=list", "--cfg", "job"]),
        ([], []),
    ],
)
def test_words_before_the_options(words, options):
    assert _name_words(words, _POSITIONS["corrections"]) == options


def test_of_one_input_one_correction_holds_and_the_other_is_refused_by_its_number(
    run, wrong, speech, monkeypatch, tmp_path
):
    audio, text, _ = wrong
    run("correct", f"audio={audio}", f"text='{text}'", f"protected={speech['low_validation']}", *SHORT)
    monkeypatch.setattr("adapt.corrections.model_memory.unsupported", lambda *arguments: "")
    monkeypatch.setattr("adapt.corrections.attempt.SEARCHES", {"s": Search(steps=2, rounds=1)})
    # Of several, each refusal is told on its own.
    rows = [{"audio_filepath": str(audio), "text": of} for of in (text, text[:-1])]
    (tmp_path / "two.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    said = run("correct", f"file={tmp_path / 'two.jsonl'}")
    assert f"correction 1 of the same input gives '{text}'" in said and "corrections undo 1" in said
    assert run("transcribe", f"audio={audio}") == text
