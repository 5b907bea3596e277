import json
from dataclasses import replace

import pytest
from studio_page import workspace

from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.introspect.attribution.attribution import attribute
from adapt.introspect.attribution.words import output_words
from adapt.models.checkpoint import load_model
from adapt.studio.code import commands_of
from adapt.studio.jobs import Job
from adapt.studio.recordings import Items
from adapt.studio.workspace import Workspace
from adapt.transcription.texts import transcribe_texts

pytestmark = pytest.mark.slow


@pytest.fixture
def job():
    return Job(1, "a test", lambda job: None)


@pytest.fixture
def shown(base, speech, tmp_path):
    return workspace(base, speech, tmp_path, base)


def test_an_answer_is_that_of_the_command_with_times_and_errors(shown, job):
    item = shown.items.get("e1")
    answer = shown.answer(item, "model", job)
    (text,) = transcribe_texts(shown.loaded.model, [item.example], Loader(), vad=False)
    assert answer["text"] == text.text and answer["reference_words"] == len(item.example.text.split())
    assert [word["text"] for word in answer["words"]] == text.text.split()
    assert all(0 <= word["start"] <= word["end"] <= answer["seconds"] for word in answer["words"])
    wrong = sum(pair["reference"] != pair["hypothesis"] for pair in answer["aligned"])
    assert answer["errors"] == wrong and shown.known(item) == answer
    assert shown.as_dict()["items"][0]["answers"]["model"]["errors"] == wrong
    json.dumps(shown.as_dict())


def test_why_explains_the_word_that_was_asked_for(shown, job):
    item = shown.items.get("e5")  # of the source, which the base reads
    words = output_words(shown.loaded.model, item.example)
    found = shown.why(item, "model", len(words) - 1, job)
    assert found["word"] == words[-1].text and len(found["values"]) == found["shape"][0] * found["shape"][1]
    assert max(map(abs, found["values"])) == 1.0
    assert "".join(step["unit"] for step in found["runners_up"]) == words[-1].text
    assert all(step["probability"] >= other[1] for step in found["runners_up"] for other in step["others"])
    lens = found["lens"]  # both models at the same steps, each layer with what it was fitted to read
    for one in (lens["own"], lens["other"]):
        assert "".join(one["units"]) == words[-1].text and all(
            len(row["cells"]) == len(words[-1].text) for row in one["layers"]
        )
        assert [row["fitted"] for row in one["layers"]] == [True] * 10 + [False]
        assert {row["layer"] for row in one["layers"]} > set(one["agreement"]) and one["chance"] > 0
    assert all(layer is not None for layer in lens["own"]["decided"])
    with pytest.raises(InputError, match="no word 100"):
        shown.why(item, "model", 99, job)


def test_a_correction_holds_for_the_model_alone_and_undo_takes_it_back(shown, job):
    item = shown.items.get("e1")
    before, other = shown.answer(item, "model", job)["text"], shown.answer(item, "against", job)["text"]
    outcome = shown.correct(item, item.example.text, False, "ann", job)
    assert outcome["fixed"], outcome
    assert outcome["before"] == before and shown.known(item) is None
    assert shown.answer(item, "model", job)["text"] == item.example.text
    assert shown.answer(item, "against", job)["text"] == other
    (record,) = shown.records()
    assert record["text"] == item.example.text and record["author"] == "ann" and record["number"] == outcome["number"]
    assert shown.undo(record["number"])["text"] == item.example.text
    assert shown.answer(item, "model", job)["text"] == before and shown.records() == []


def test_acts_that_cannot_be_done_say_why(base, speech, tmp_path, job):
    alone = workspace(base, speech, tmp_path)
    item = alone.items.get("e1")
    with pytest.raises(InputError, match="no model 'against'"):
        alone.model("against")
    with pytest.raises(InputError, match="Give the right text"):
        alone.correct(item, "  ", False, "", job)
    off = Workspace(alone.loaded, None, alone.items, "off")
    with pytest.raises(InputError, match="Corrections are off"):
        off.correct(item, "abc", False, "", job)
    assert off.records() == [] and off.as_dict()["corrections"] is None


def test_translations_have_the_same_acts(marian, tmp_path, job):
    shown = Workspace(load_model(str(marian)), None, Items({}, tmp_path), "off")
    item = shown.items.add_text("a b c")
    answer = shown.answer(item, "model", job)
    assert answer["aligned"] is None and answer["text"].split() == [word["text"] for word in answer["words"]]
    found = shown.why(item, "model", 0, job)
    assert [word for word, _ in found["by_source_word"]] and len(found["values"]) == found["shape"][0]
    parts = [row["part"] for row in found["lens"]["own"]["layers"]]
    assert sorted({*parts}) == ["decoder", "encoder"] and found["lens"]["other"] is None
    assert commands_of(shown, item)["listen"]["command"].startswith("innertune translate")


def test_the_code_of_a_page_quotes_what_a_shell_would_read(shown):
    item = shown.items.get("e1")
    code = commands_of(shown, item)
    assert code["correct"]["command"].startswith("innertune correct model.pretrained=")
    assert "model.transcripts(" in code["listen"]["python"]
    compile(code["listen"]["python"], "page", "exec")
    compile(code["correct"]["python"], "page", "exec")
    assert code["inside"]["command"].startswith("innertune introspect measure=topography")
    exec(compile(code["inside"]["python"], "page", "exec"), {})


def test_the_picture_of_a_window_is_cut_to_the_audio_and_style_is_no_error(whisper, speech, tmp_path, job):
    loaded = load_model(str(whisper))
    example = read_manifest(speech["low_test"])[0][0]
    shown = Workspace(loaded, None, Items({"data": [example]}, tmp_path), "off")
    item = shown.items.get("e1")
    answer = shown.answer(item, "model", job)
    assert answer["text"]
    found = shown.why(item, "model", 0, job)
    seconds, window = loaded.model.reader.length(example), loaded.model.reader.window
    assert found["seconds"] == seconds < window
    whole = attribute(loaded.model, example, output_words(loaded.model, example)[0], steps=1)
    assert whole.seconds == window
    assert found["shape"][1] == pytest.approx(whole.values.shape[1] * seconds / window, abs=1)
    said = replace(example, text=f"{answer['text'].upper()}!")
    assert (
        Workspace(loaded, None, Items({"data": [said]}, tmp_path), "off").answer(
            Items({"data": [said]}, tmp_path).get("e1"), "model", job
        )["errors"]
        == 0
    )
