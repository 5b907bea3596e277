"""A studio in a thread of this process, and a browser that drives it."""

import asyncio
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from adapt.corrections.model_memory import ModelMemory
from adapt.corrections.support import SupportLimits
from adapt.data.manifest import read_manifest
from adapt.models.checkpoint import load_model
from adapt.studio.app import Studio
from adapt.studio.guard import Access, hosts_of
from adapt.studio.recordings import Items
from adapt.studio.workspace import Workspace

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# The browser asks the network for nothing of its own.
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def workspace(base: Path, speech: dict[str, Path], folder: Path, against: Path | None = None) -> Workspace:
    """A workspace on the tones of the tests: the target's test set, on which the base errs, and the source's."""
    sets = {"data": read_manifest(speech["high_test"])[0][:4], "source": read_manifest(speech["low_test"])[0][:2]}
    protected = list(read_manifest(speech["low_train"])[0])
    other = None if against is None else load_model(str(against))
    items, loaded, store = Items(sets, folder / "recordings"), load_model(str(base)), folder / "corrections.db"
    # Tones are far from each other, so that limits measured on them would refuse the corrections of the tests.
    ModelMemory.create(loaded, protected, store, limits=SupportLimits(cost=100.0, size=100.0))
    return Workspace(loaded, other, items, str(store), protected)


@contextmanager
def served(shown: Workspace, **access: Any) -> Iterator[tuple[Studio, str]]:
    """Serve a workspace on a free port; yields the studio and its address with the token."""
    import uvicorn

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    port = listening.getsockname()[1]
    studio = Studio(shown, Access(hosts_of("127.0.0.1", port), **access), "a tester")
    server = uvicorn.Server(
        uvicorn.Config(studio.application(), log_level="warning", ws="none", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    try:
        yield studio, f"http://127.0.0.1:{port}/?token={studio.access.token}"
    finally:
        server.should_exit = True
        thread.join(15)
        listening.close()


@contextmanager
def client(url: str) -> Iterator[httpx.Client]:
    """A client that has the cookie of a studio."""
    origin = url.partition("/?")[0]
    with httpx.Client(base_url=origin, headers={"origin": origin}, timeout=60) as made:
        assert made.get(url).status_code == 303
        yield made


def finished(page: httpx.Client, number: int) -> dict[str, Any]:
    """Wait for a job, and return it."""
    while (job := page.get(f"/api/jobs/{number}").json())["state"] in ("waiting", "running"):
        time.sleep(0.01)
    return job


def act(page: httpx.Client, path: str, **body: Any) -> dict[str, Any]:
    """Do what a page does, and return the finished job."""
    started = page.post(path, json=body)
    assert started.status_code == 202, started.text
    return finished(page, started.json()["number"])


class Watched:
    """A page of the browser with what went wrong on it: errors of the console, and requests that left this machine."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.foreign: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self._check(request.url))

    def _check(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "blob:", "data:")):
            self.foreign.append(url)


@contextmanager
def browser(arguments: Sequence[str] = (), width: int = 1280, height: int = 900) -> Iterator[Watched]:
    """Debian's chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *arguments])
        context = chromium.new_context(viewport={"width": width, "height": height})
        yield Watched(context.new_page())
        chromium.close()
