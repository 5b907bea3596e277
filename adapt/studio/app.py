"""The studio as an ASGI application: pages, acts and results."""

import asyncio
import html
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from adapt.errors import InputError
from adapt.files import is_file
from adapt.studio.attack import AttackRoom
from adapt.studio.change import ChangeRoom
from adapt.studio.code import commands_of
from adapt.studio.compare import CompareRoom
from adapt.studio.events import Events
from adapt.studio.guard import Access, Guard
from adapt.studio.inside import Inside
from adapt.studio.jobs import Job, Jobs
from adapt.studio.recordings import BANDS, HOP, samples_of, spectrogram, wav
from adapt.studio.room import Room, body_of
from adapt.studio.workspace import Workspace

ROOMS = {
    "listen": "Listen", "inside": "Inside", "change": "Change", "correct": "Correct", "attack": "Attack",
    "compare": "Compare",
}  # fmt: skip
# The rooms whose acts stand in files of their own.
WITH_ROUTES: tuple[type[Room], ...] = (Inside, ChangeRoom, AttackRoom, CompareRoom)
_HERE = Path(__file__).parent
_RATE = 40  # recordings or sentences that may be added in `_WITHIN` seconds, before anything is decoded
_WITHIN = 60.0


@dataclass
class Studio:
    """A running studio: its work, its queue, its pages, and who may use it."""

    workspace: Workspace
    access: Access
    author: str = ""

    def __post_init__(self) -> None:
        self.events = Events()
        self.jobs = Jobs(lambda job: self.events.send("job", job.as_dict()))
        self._added: list[float] = []

    def application(self) -> Guard:
        """Return the ASGI application, which only the guard's requests reach."""
        item, correction = "/api/items/{id}", "/api/corrections/{number:int}"
        routes = [
            Route("/", self.start),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/events", self.stream),
            Route("/api/state", self.state),
            Route("/api/items", self.add, methods=["POST"]),
            Route(item, self.item),
            Route(f"{item}/audio.wav", self.audio),
            Route(f"{item}/spectrogram", self.picture),
            Route(f"{item}/remove", self.remove, methods=["POST"]),
            Route(f"{item}/answer", self.answer, methods=["POST"]),
            Route(f"{item}/why", self.why, methods=["POST"]),
            Route(f"{item}/correct", self.correct, methods=["POST"]),
            Route("/api/answer-all", self.answer_all, methods=["POST"]),
            Route("/api/corrections", self.corrections),
            Route(f"{correction}/undo", self.undo, methods=["POST"]),
            Route("/api/jobs/{number:int}", self.job),
            Route("/api/jobs/{number:int}/cancel", self.cancel, methods=["POST"]),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
            *(route for room in WITH_ROUTES for route in room(self.workspace, self.jobs, self.events).routes()),
            Route("/{room}", self.page),
            Route("/{room}/{id}", self.page),
        ]
        errors = {InputError: _refused, HTTPException: _failed}

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            self.events.start()
            yield
            self.events.close()
            await asyncio.to_thread(self.jobs.close)

        self.guard = Guard(Starlette(routes=routes, exception_handlers=errors, lifespan=lifespan), self.access)
        return self.guard

    async def start(self, request: Request) -> Response:
        """Go to the first room."""
        return RedirectResponse("/listen", 303)

    async def page(self, request: Request) -> Response:
        """Return the page of a room; what is on it comes from the other addresses."""
        room = request.path_params["room"]
        if room not in ROOMS:
            raise HTTPException(404, "There is no such page.")
        styles = [name for name in ("studio", room) if is_file(_HERE / "static" / f"{name}.css")]
        return HTMLResponse(_render("page.html.j2", room=room, rooms=ROOMS, title=ROOMS[room], styles=styles))

    async def login(self, request: Request) -> Response:
        """Ask for the password, and exchange it for the cookie."""
        if self.access.password is None:
            raise HTTPException(404, "There is no such page.")
        wrong = False
        if request.method == "POST":
            await asyncio.sleep(0.5)  # which makes guessing slow
            if self.access.opens((await body_of(request, text="password", most=1000))["password"], "password"):
                response = RedirectResponse("/listen", 303)
                response.raw_headers.append(self.guard.set_cookie())
                return response
            wrong = True
        return HTMLResponse(_render("login.html.j2", wrong=wrong), 401 if wrong else 200)

    async def stream(self, request: Request) -> Response:
        """Send events while the page is open, the jobs that run or wait first."""

        async def events() -> AsyncIterator[str]:
            for job in self.jobs.unfinished():
                yield f"event: job\ndata: {json.dumps(job.as_dict())}\n\n"
            async for event in self.events.stream():
                yield event

        return StreamingResponse(events(), media_type="text/event-stream")

    async def state(self, request: Request) -> Response:
        """Return the models, the examples with their answers, and the jobs."""
        found = self.workspace.as_dict()
        return JSONResponse(found | {"jobs": [job.as_dict() for job in self.jobs.unfinished()], "rooms": ROOMS})

    async def item(self, request: Request) -> Response:
        """Return an example, its answers as far as they are known, and the commands that do the same."""
        item = self._item(request)
        answers = {which: self.workspace.known(item, which) for which in ("model", "against")}
        return JSONResponse(item.as_dict() | {"answers": answers, "code": commands_of(self.workspace, item)})

    async def audio(self, request: Request) -> Response:
        """Return the sound of a recording as WAV."""
        samples, rate = await asyncio.to_thread(samples_of, self._item(request).example)
        return Response(await asyncio.to_thread(wav, samples, rate), media_type="audio/wav")

    async def picture(self, request: Request) -> Response:
        """Return the spectrogram of a recording, one byte for each band and frame, band after band."""

        def draw() -> tuple[bytes, int, float]:
            samples, rate = samples_of(self._item(request).example)
            values = spectrogram(samples, rate)
            return values.numpy().tobytes(), values.shape[1], len(samples) / rate

        data, frames, seconds = await asyncio.to_thread(draw)
        headers = {"x-shape": f"{BANDS} {frames}", "x-seconds": f"{seconds:.6f}", "x-hop": f"{HOP}"}
        return Response(data, media_type="application/octet-stream", headers=headers)

    async def add(self, request: Request) -> Response:
        """Add a recording (the body is a file) or a sentence (the body is JSON)."""
        now = asyncio.get_running_loop().time()
        self._added = [moment for moment in self._added if now - moment < _WITHIN]
        if len(self._added) >= _RATE:
            raise InputError(f"At most {_RATE} recordings can be added in a minute. Wait a little.")
        self._added.append(now)
        workspace = self.workspace
        if not workspace.loaded.model.reads_audio:
            item = workspace.items.add_text((await body_of(request, text="source"))["source"])
        else:
            item = await asyncio.to_thread(workspace.items.add_audio, await request.body())
        self.events.send("items", {"added": item.id})
        return JSONResponse(item.as_dict())

    async def remove(self, request: Request) -> Response:
        """Remove an example that a person added."""
        await asyncio.to_thread(self.workspace.items.remove, request.path_params["id"])
        self.events.send("items", {"removed": request.path_params["id"]})
        return JSONResponse({})

    async def answer(self, request: Request) -> Response:
        """Let a model answer an example."""
        item, which = self._item(request), (await body_of(request, text="which"))["which"]
        self.workspace.model(which)
        return self._job(f"answer {item.name}", lambda job: self.workspace.answer(item, which, job))

    async def answer_all(self, request: Request) -> Response:
        """Let a model answer all examples that it has not answered yet."""
        which = (await body_of(request, text="which"))["which"]
        self.workspace.model(which)
        left = [item for item in self.workspace.items if self.workspace.known(item, which) is None]

        def run(job: Job) -> Any:
            for number, item in enumerate(left):
                job.tell(number / len(left), {"item": item.id})
                self.workspace.answer(item, which, Job(0, "", lambda job: None))
            return {"answered": len(left)}

        return self._job(f"answer {len(left)} examples", run)

    async def why(self, request: Request) -> Response:
        """Say what made a word of an answer."""
        item, body = self._item(request), await body_of(request, text="which", number="word")

        def run(job: Job) -> Any:
            return self.workspace.why(item, body["which"], body["word"], job)

        return self._job(f"explain word {body['word'] + 1} of {item.name}", run)

    async def correct(self, request: Request) -> Response:
        """Correct the answer to an example."""
        item, body = self._item(request), await body_of(request, text="text", flag="force")

        def run(job: Job) -> Any:
            outcome = self.workspace.correct(item, body["text"], body["force"], self.author, job)
            self.events.send("corrections", {"number": outcome["number"]})
            return outcome

        return self._job(f"correct {item.name}", run)

    async def corrections(self, request: Request) -> Response:
        """Return the corrections, the newest first."""
        return JSONResponse(await asyncio.to_thread(self.workspace.records))

    async def undo(self, request: Request) -> Response:
        """Remove a correction."""
        number = request.path_params["number"]

        def run(job: Job) -> Any:
            undone = self.workspace.undo(number)
            self.events.send("corrections", {"undone": number})
            return undone

        return self._job(f"undo correction {number}", run)

    async def job(self, request: Request) -> Response:
        """Return a job."""
        return JSONResponse(self.jobs.get(request.path_params["number"]).as_dict())

    async def cancel(self, request: Request) -> Response:
        """Cancel a job."""
        return JSONResponse(self.jobs.cancel(request.path_params["number"]).as_dict())

    def _item(self, request: Request) -> Any:
        return self.workspace.items.get(request.path_params["id"])

    def _job(self, what: str, run: Callable[[Job], Any]) -> Response:
        return JSONResponse(self.jobs.add(what, run).as_dict(), 202)


def _render(template: str, **values: Any) -> str:
    import jinja2

    loader = jinja2.FileSystemLoader(_HERE / "templates")
    found = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return found.get_template(template).render(**values)


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"problem": str(error)}, 400)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.url.path.startswith("/api/"):
        return JSONResponse({"problem": error.detail}, error.status_code)
    return PlainTextResponse(html.escape(error.detail), error.status_code)
