import json
import struct
import time

import numpy as np
import pytest
import torch
from studio_page import act, client, finished, served, workspace

from adapt.data.manifest import read_manifest
from adapt.data.recording import Recording
from adapt.introspect.activity.activity import read_activity
from adapt.models.checkpoint import load_model
from adapt.studio.recordings import Items
from adapt.studio.workspace import Workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shown(base, speech, tmp_path_factory):
    made = workspace(base, speech, tmp_path_factory.mktemp("studio"), against=base)
    with torch.no_grad():  # one neuron of the other model has other weights
        made.against.model.get_parameter("net.acoustic_model.conv3.weight")[5] += 0.25
    return made


@pytest.fixture(scope="module")
def page(shown):
    with served(shown) as (_, url), client(url) as opened:
        yield opened


def done(page, path, **body):
    job = act(page, path, **body)
    assert job["state"] == "done", job["problem"]
    return job["result"]


def unpacked(data):
    (length,) = struct.unpack_from("<I", data)
    header = json.loads(data[4 : 4 + length])
    return header, np.frombuffer(data, np.float16, offset=4 + length).astype(np.float32)


def layers_of(page, item="e1", which="model"):
    done(page, f"/api/items/{item}/activity", which=which)
    header, values = unpacked(page.get(f"/api/items/{item}/activity/{which}").content)
    found, at = {}, 0
    for layer in header["layers"]:
        size = layer["steps"] * layer["rows"] * layer["columns"]
        found[layer["site"]] = values[at : at + size].reshape(layer["steps"], -1)
        at += size
    assert at == len(values)
    return header, found


def test_the_activity_of_all_layers_is_that_of_the_network(page, shown):
    header, found = layers_of(page)
    model, item = shown.loaded.model, shown.items.get("e1")
    activity = read_activity(model, item.example)
    assert list(found) == [layer.name for layer in model.layers]
    assert header["seconds"] == pytest.approx(model.reader.length(item.example))
    for layer in header["layers"]:
        own = activity[layer["site"]]
        assert layer["kind"] == "seconds" and layer["steps"] == len(own.values)
        assert sorted({*layer["cells"]}) == sorted(layer["cells"])  # each neuron has a cell of its own
        drawn = found[layer["site"]][:, layer["cells"]]
        np.testing.assert_allclose(drawn, own.values.numpy(), atol=2e-3 * float(own.values.abs().max()))


def test_two_models_are_drawn_in_the_same_places(page):
    (header, found), (other, changed) = layers_of(page), layers_of(page, which="against")
    assert [one["cells"] for one in header["layers"]] == [one["cells"] for one in other["layers"]]
    same = {name: bool(np.array_equal(values, changed[name])) for name, values in found.items()}
    names = list(same)
    assert all(same[name] for name in names[:3]) and not any(same[name] for name in names[3:])


def test_a_neuron_has_a_profile_moments_and_the_change_of_its_weights(page, shown):
    site = "net.acoustic_model.conv3"
    before = done(page, "/api/neurons/show", which="model", site=site, unit=5)
    assert before["responses"] is None and before["change"]["changed"] > 0 and not before["change"]["equal"]
    assert page.get("/api/neurons/profiles/model").status_code == 400
    assert done(page, "/api/neurons/study", which="model") == {"examples": 6, "keys": ["letter"]}
    header, found = layers_of(page)  # laid out anew
    after = done(page, "/api/neurons/show", which="model", site=site, unit=6)
    assert after["change"]["equal"] and after["change"]["distance"] == 0.0
    assert len(after["moments"]) == 10 and after["key"] == "letter"
    values = [moment["value"] for moment in after["moments"]]
    assert values == sorted(values, reverse=True) and after["moments"][0]["end"] > after["moments"][0]["start"]
    contrasts = [one["contrast"] for one in after["responses"]]
    assert contrasts == sorted(contrasts, reverse=True)
    # The strongest moment is where the recording says so.
    best = next((one for one in after["moments"] if one["id"] == "e1"), None)
    if best is not None:
        (layer,) = [one for one in header["layers"] if one["site"] == site]
        assert found[site][best["step"], layer["cells"][6]] == pytest.approx(best["value"], rel=2e-3)
    means, values = unpacked(page.get("/api/neurons/profiles/model").content)
    sizes = [
        len(one["groups"]) * own["rows"] * own["columns"]
        for one, own in zip(means["layers"], header["layers"], strict=True)
    ]
    assert sum(sizes) == len(values) and any(sizes)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/api/items/e99/activity", {"which": "model"}, "no such recording"),
        ("/api/items/e1/activity", {"which": "none"}, "no model 'none'"),
        ("/api/neurons/study", {"which": "none"}, "no model 'none'"),
        ("/api/neurons/show", {"which": "model", "site": 3, "unit": 1}, "Expected 'site'"),
        ("/api/neurons/show", {"which": "model", "site": "net", "unit": 1}, "no such neuron"),
        ("/api/neurons/show", {"which": "model", "site": "net.acoustic_model.conv3", "unit": -1}, "no such neuron"),
        ("/api/neurons/show", {"which": "model", "site": "net.acoustic_model.conv3", "unit": True}, "Expected 'unit'"),
    ],
)
def test_wrong_requests_are_answered_with_a_sentence(page, path, body, said):
    answer = page.post(path, json=body)
    assert answer.status_code == 400 and said in answer.json()["problem"]


def test_activity_that_was_not_read_is_refused(page):
    answer = page.get("/api/items/e2/activity/model")
    assert answer.status_code == 400 and "Load the page again" in answer.json()["problem"]


def test_a_correction_is_seen_in_the_model_that_was_corrected(page, shown):
    site = shown.loaded.model.sites[-1].name
    before = {which: layers_of(page, which=which)[1][site] for which in ("model", "against")}
    outcome = done(page, "/api/items/e1/correct", text=shown.items.get("e1").example.text, force=False)
    after = {which: layers_of(page, which=which)[1][site] for which in ("model", "against")}
    done(page, f"/api/corrections/{outcome['number']}/undo")
    assert not np.array_equal(before["model"], after["model"])
    np.testing.assert_array_equal(before["against"], after["against"])
    np.testing.assert_array_equal(before["model"], layers_of(page)[1][site])


def test_a_study_can_be_cancelled(page, shown):
    slow = shown.against.model.register_forward_pre_hook(lambda *_: time.sleep(0.2))  # so that it is not done before
    try:
        started = page.post("/api/neurons/study", json={"which": "against"}).json()
        page.post(f"/api/jobs/{started['number']}/cancel")
        assert finished(page, started["number"])["state"] == "cancelled"
    finally:
        slow.remove()
    assert (
        done(page, "/api/neurons/show", which="against", site="net.acoustic_model.conv3", unit=5)["responses"] is None
    )


def test_translations_have_positions_instead_of_time(marian, tmp_path):
    shown = Workspace(load_model(str(marian)), None, Items({}, tmp_path), "off")
    for text in ("a b c", "b c d"):
        shown.items.add_text(text)
    with served(shown) as (_, url), client(url) as page:
        header, _ = layers_of(page)
        assert header["seconds"] is None and header["source"][:1] != []
        kinds = {layer["kind"]: layer["steps"] for layer in header["layers"]}
        assert kinds == {"source": len(header["source"]), "target": len(header["target"])}
        done(page, "/api/neurons/study", which="model")
        layers_of(page)
        site = header["layers"][-1]["site"]
        found = done(page, "/api/neurons/show", which="model", site=site, unit=0)
        assert found["moments"] and all(moment["token"] for moment in found["moments"][:1])


def test_a_decoder_of_speech_has_its_tokens_in_time(whisper, speech, tmp_path):
    shown = Workspace(
        load_model(str(whisper)), None, Items({"data": read_manifest(speech["low_test"])[0][:2]}, tmp_path), "off"
    )
    with served(shown) as (_, url), client(url) as page:
        header, found = layers_of(page)
        target = [layer for layer in header["layers"] if layer["kind"] == "target"]
        assert target and len({len(layer["times"]) for layer in target}) == 1
        times = target[0]["times"]
        assert not header["shortened"] and times == sorted(times) and len(times) == len(header["target"])
        heard = [layer for layer in header["layers"] if layer["kind"] == "seconds"]
        for layer in heard:  # the window's padding is not shown
            assert layer["start"] + layer["steps"] * layer["length"] == pytest.approx(header["seconds"], abs=0.03)


def test_of_long_recordings_the_beginning_is_shown(base, tmp_path):
    noise = np.random.default_rng(0).normal(size=65 * 16_000).astype(np.float32) * 0.1
    shown = Workspace(load_model(str(base)), None, Items({"data": [Recording(noise, 16_000)]}, tmp_path), "off")
    with served(shown) as (_, url), client(url) as page:
        header, _ = layers_of(page)
        assert header["shortened"] and header["seconds"] == 60.0
        assert header["layers"][0]["steps"] == pytest.approx(60 / header["layers"][0]["length"], abs=2)
