"""Server-sent events: what happened, to all pages that are open."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

_PENDING = 1000  # events that a page may be behind; a slower one is dropped and connects again
_ALIVE = 15.0  # seconds between comments that keep the connection open


class Events:
    """Sends events from any thread to all open pages."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pages: set[asyncio.Queue[str | None]] = set()

    def start(self) -> None:
        """Use the running event loop."""
        self._loop = asyncio.get_running_loop()

    @property
    def pages(self) -> int:
        """The number of open pages."""
        return len(self._pages)

    def send(self, kind: str, data: Any) -> None:
        """Send an event to all pages; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._send, f"event: {kind}\ndata: {json.dumps(data)}\n\n")

    def close(self) -> None:
        """End the streams of all pages."""
        for page in self._pages:
            page.put_nowait(None)

    def _send(self, text: str) -> None:
        for page in list(self._pages):
            if page.qsize() < _PENDING:
                page.put_nowait(text)
            else:
                self._pages.discard(page)
                page.put_nowait(None)

    async def stream(self) -> AsyncIterator[str]:
        """Yield the events for one page, from now on."""
        page: asyncio.Queue[str | None] = asyncio.Queue()
        self._pages.add(page)
        try:
            yield "retry: 1000\n\n"
            while True:
                try:
                    text = await asyncio.wait_for(page.get(), _ALIVE)
                except TimeoutError:
                    text = ":\n\n"
                texts = [text]
                while texts[-1] is not None and not page.empty():  # what came meanwhile is sent at once
                    texts.append(page.get_nowait())
                yield "".join(text for text in texts if text is not None)
                if texts[-1] is None:
                    return
        finally:
            self._pages.discard(page)
