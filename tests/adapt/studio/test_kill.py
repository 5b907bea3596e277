import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from studio_page import act, finished, workspace

from adapt.corrections.manage import list_corrections
from adapt.models.checkpoint import load_model

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def started(folder, base, audio):
    """A studio in a process of its own, and a client that has its cookie."""
    options = [
        f"model.pretrained={base}", f"audio={audio}", f"corrections={folder / 'corrections.db'}",
        f"recordings={folder / 'recordings'}", "open_page=false",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "adapt.cli", "studio", *options], stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stderr is not None
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
        origin = url.partition("/?")[0]
        with httpx.Client(base_url=origin, headers={"origin": origin}, timeout=60) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    assert client.get(url).status_code == 303
                    break
                except httpx.ConnectError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            yield process, client
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def correct(client, item, text):
    return client.post(f"/api/items/{item}/correct", json={"text": text, "force": True}).json()["number"]


def test_a_killed_studio_keeps_what_it_said_is_kept(base, speech, tmp_path):
    shown = workspace(base, speech, tmp_path)
    texts = [item.example.text for item in shown.items if item.example.text][:3]
    with started(tmp_path, base, speech["high_test"]) as (process, client):
        first = correct(client, "e1", texts[0])
        job = finished(client, first)
        assert job["state"] == "done" and job["result"]["number"] is not None
        running = correct(client, "e2", texts[1])  # and a second one, in the midst of which it is killed
        while client.get(f"/api/jobs/{running}").json()["state"] == "waiting":
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    records = list_corrections(load_model(str(base)), tmp_path / "corrections.db")
    assert records[0].facts["text"] == texts[0]
    with started(tmp_path, base, speech["high_test"]) as (_, client):  # and the next one goes on with them
        found = client.get("/api/corrections").json()
        assert [one["text"] for one in found][-1] == texts[0] and len(found) == len(records)
        assert act(client, "/api/items/e1/answer", which="model")["result"]["text"] == texts[0]
