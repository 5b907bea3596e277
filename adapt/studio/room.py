"""What the rooms of the studio share: reading requests, and putting work into the queue."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapt.errors import InputError
from adapt.studio.events import Events
from adapt.studio.jobs import Job, Jobs
from adapt.studio.recordings import Item
from adapt.studio.workspace import Workspace


class Room(ABC):
    """The acts of one room, with the workspace, the queue and the events that all rooms share."""

    def __init__(self, workspace: Workspace, jobs: Jobs, events: Events) -> None:
        self.workspace, self.jobs, self.events = workspace, jobs, events

    @abstractmethod
    def routes(self) -> list[Route]:
        """Return the addresses of the room."""

    def item(self, request: Request) -> Item:
        """Return the example whose id stands in the address. Raises InputError if there is none."""
        return self.workspace.items.get(request.path_params["id"])

    def work(self, what: str, run: Callable[[Job], Any]) -> Response:
        """Put work into the queue, and return the job; the page hears of its end by the events."""
        return JSONResponse(self.jobs.add(what, run).as_dict(), 202)


async def body_of(request: Request, text: str = "", number: str = "", flag: str = "", most: int = 20_000) -> dict:
    """Return the JSON object or the form of a request.

    Args:
        request: The request.
        text: The name of a string that it must have; empty for none.
        number: The name of an integer that it must have.
        flag: The name of a boolean that it must have.
        most: The most characters of the string.

    Raises:
        InputError: One of them is missing or of another kind, or the request is no object or too long.
    """
    raw = await request.body()
    if len(raw) > 4 * most:
        raise InputError(f"Expected at most {most:,} characters.")
    form = request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    try:
        given = dict(parse_qsl(raw.decode())) if form else json.loads(raw or b"{}")
    except (ValueError, RecursionError):
        raise InputError("Expected JSON.") from None
    if not isinstance(given, dict):
        raise InputError("Expected a JSON object.")
    kinds = {text: str, number: int, flag: bool}
    for name, kind in kinds.items():
        if name and (not isinstance(given.get(name), kind) or (kind is int and isinstance(given[name], bool))):
            raise InputError(f"Expected '{name}', a {kind.__name__}.")
        if name and kind is str and len(given[name]) > most:
            raise InputError(f"'{name}' has {len(given[name]):,} characters; at most {most:,} are read.")
    return given
