import json
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import studio_page
from studio_page import client, served, workspace

from adapt.errors import InputError
from adapt.studio.recordings import BANDS, wav
from adapt.studio.serve import Address

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def studio(base, speech, tmp_path_factory):
    with served(workspace(base, speech, tmp_path_factory.mktemp("studio"))) as (studio, url):
        yield studio, url


@pytest.fixture(scope="module")
def page(studio):
    with client(studio[1]) as made:
        yield made


def act(page, path, **body):
    job = studio_page.act(page, path, **body)
    assert job["state"] == "done", job["problem"]
    return job


def test_pages_list_the_rooms_and_load_only_their_own_files(page):
    for room in ("listen", "correct", "attack"):
        text = page.get(f"/{room}/e1").text
        assert f'src="/static/{room}.js"' in text and "http" not in text and "<script>" not in text
    assert page.get("/").headers["location"] == "/listen"
    assert page.get("/nowhere").status_code == page.get("/login").status_code == 404


def test_sound_and_spectrogram_are_bytes(page):
    sound = page.get("/api/items/e1/audio.wav")
    assert sound.headers["content-type"] == "audio/wav" and sound.content[:4] == b"RIFF"
    picture = page.get("/api/items/e1/spectrogram")
    bands, frames = map(int, picture.headers["x-shape"].split())
    assert bands == BANDS and len(picture.content) == bands * frames
    assert picture.headers["cache-control"] == "no-store"


def test_a_correction_from_the_page_to_the_list_and_back(page):
    item = page.get("/api/items/e1").json()
    before = act(page, "/api/items/e1/answer", which="model")["result"]["text"]
    assert page.get("/api/items/e1").json()["answers"]["model"]["text"] == before
    outcome = act(page, "/api/items/e1/correct", text=item["reference"], force=False)["result"]
    assert outcome["fixed"]
    (record,) = page.get("/api/corrections").json()
    assert record["text"] == item["reference"]
    act(page, f"/api/corrections/{record['number']}/undo")
    assert page.get("/api/corrections").json() == []


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/api/items/e99/answer", {"which": "model"}, "no such recording"),
        ("/api/items/e1/answer", {"which": "against"}, "no model 'against'"),
        ("/api/items/e1/answer", {}, "Expected 'which'"),
        ("/api/items/e1/answer", [1], "JSON object"),
        ("/api/items/e1/why", {"which": "model", "word": "0"}, "Expected 'word'"),
        ("/api/items/e1/why", {"which": "model", "word": True}, "Expected 'word'"),
        ("/api/items/e1/correct", {"text": "a", "force": 1}, "Expected 'force'"),
        ("/api/items/e1/correct", {"text": "a" * 20_001, "force": False}, "20,001 characters"),
        ("/api/jobs/9999/cancel", {}, "no job 9999"),
        ("/api/items", {"source": "x"}, "not a recording"),
    ],
)
def test_wrong_requests_are_answered_with_a_sentence(page, path, body, said):
    answer = page.post(path, content=json.dumps(body))
    assert answer.status_code == 400 and said in answer.json()["problem"]


def test_broken_json_and_unknown_addresses(page):
    assert page.post("/api/items/e1/answer", content=b"{").json()["problem"] == "Expected JSON."
    assert page.post("/api/items/e1/answer", content=b"[" * 50_000).status_code == 400
    assert page.get("/static/../app.py").status_code == page.get("/static/%2e%2e/app.py").status_code == 404
    assert page.get("/api/items/%2e%2e%2fe1").status_code in (400, 404)


def test_added_recordings_are_told_to_all_pages_and_can_be_removed(page):
    with page.stream("GET", "/events") as events:
        lines = events.iter_lines()
        assert next(lines).startswith("retry")
        added = page.post("/api/items", content=wav(np.sin(np.arange(16_000) / 3, dtype=np.float32), 16_000)).json()
        while next(lines) != "event: items":
            pass
        assert json.loads(next(lines).removeprefix("data: ")) == {"added": added["id"]}
    assert any(one["id"] == added["id"] for one in page.get("/api/state").json()["items"])
    assert page.post(f"/api/items/{added['id']}/remove").status_code == 200
    assert page.post("/api/items/e1/remove").status_code == 400


def test_many_pages_and_acts_lose_nothing(studio, page, monkeypatch):
    monkeypatch.setattr(studio[0].workspace, "answer", lambda item, which, job: {"text": item.name})
    address = f"{str(page.base_url).rstrip('/')}/events"
    cookie = "; ".join(f"{name}={value}" for name, value in page.cookies.items())
    ready, finished = threading.Barrier(21, timeout=30), []
    wanted: set[int] = set()

    def listen():
        seen = set()
        with urllib.request.urlopen(urllib.request.Request(address, headers={"cookie": cookie}), timeout=30) as events:
            events.readline()
            ready.wait()
            for line in events:
                if b'"state": "done"' in line:
                    seen.add(json.loads(line[6:])["number"])
                    if wanted and max(wanted) in seen:
                        break
        finished.append(wanted - seen)

    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(listen) for _ in range(20)]
        ready.wait()
        first = page.post("/api/items/e1/answer", json={"which": "model"}).json()["number"]
        wanted |= set(range(first, first + 200))
        for number in range(199):
            assert page.post(f"/api/items/e{1 + number % 4}/answer", json={"which": "model"}).status_code == 202
        for one in waiting:
            one.result(60)
    assert finished == [set()] * 20


@pytest.mark.parametrize(
    "options", [{"port": 70_000}, {"port": True}, {"port": "x"}, {"host": "0.0.0.0"}, {"host": "10.0.0.1"}]
)
def test_addresses_that_are_refused(options):
    with pytest.raises(InputError, match="port must be|Give a password"):
        Address(**options)


def test_a_password_opens_the_page(base, speech, tmp_path):
    with served(workspace(base, speech, tmp_path), password="sesame") as (_, url):
        origin = url.partition("/?")[0]
        with httpx.Client(base_url=origin, headers={"origin": origin}) as client:
            assert client.get("/listen").headers["location"] == "/login"
            wrong = client.post("/login", data={"password": "guess"})
            assert wrong.status_code == 401 and "not the password" in wrong.text
            assert client.post("/login", data={"password": "sesame"}).status_code == 303
            assert client.get("/api/state").status_code == 200


def test_an_attack_is_refused_stopped_and_heard(page):
    assert "number of dB" in page.post("/api/items/e1/attack", json={"text": "", "steps": 5, "snr": "loud"}).text
    assert "20,000 steps" in page.post("/api/items/e1/attack", json={"text": "", "steps": 0, "snr": 0}).text
    assert "does not run" in page.post("/api/attacks/9999/stop").text
    assert "There is no attack" in page.get("/api/attacks/9999/clean.wav").text
    found = act(page, "/api/items/e1/attack", text="", steps=3, snr=0, mask=None)["result"]
    assert len(found["losses"]) == found["steps"] == 3 and found["picture"]["frames"] > 0
    for which in ("clean", "attacked", "noise", "change"):
        assert page.get(f"/api/attacks/{found['attack']}/{which}.wav").content[:4] == b"RIFF"
    assert "Expected one of" in page.get(f"/api/attacks/{found['attack']}/other.wav").text
