"""The room Change: change the inside of the model, and see the answer change."""

import json
import shlex
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.files import is_file, is_folder
from adapt.studio.changed import DRAFT, Changed
from adapt.studio.changes import Change
from adapt.studio.jobs import Job
from adapt.studio.recordings import Item
from adapt.studio.room import Room

_MOST = 2_000_000  # bytes of a change: thousands of neurons


class ChangeRoom(Room):
    """Sliders over the inside of a model, controls, effects on other examples, saving and folding."""

    def routes(self) -> list[Route]:
        """Return the addresses of the room."""
        item = "/api/items/{id}/change"
        self._changed: Changed | None = None
        return [
            Route("/api/change/open", self.open, methods=["POST"]),
            Route(item, self.answer, methods=["POST"]),
            Route(f"{item}/effect", self.effect, methods=["POST"]),
            Route(f"{item}/save", self.save, methods=["POST"]),
            Route(f"{item}/code", self.code, methods=["POST"]),
        ]

    @property
    def changed(self) -> Changed:
        """What runs changes; only the thread of the jobs uses it."""
        if self._changed is None:
            self._changed = Changed(self.workspace, self.workspace.items.folder.parent / "changes")
        return self._changed

    async def open(self, request: Request) -> Response:
        """Say what can be changed: sites, groups, layers between two models, and what was saved."""

        def run(job: Job) -> Any:
            changed = self.changed
            layers, why = changed.blendable()
            sites = [{"name": site.name, "units": site.units} for site in changed.builder.sites.values()]
            groups = {name: len(own) for name, own in changed.groups().items()}
            return {
                "sites": sites, "groups": groups, "layers": layers, "no_blend": why, "saved": changed.saved(),
                "patchable": changed.builder.patchable, "folder": str(changed.folder),
            }  # fmt: skip

        return self._first("look inside the model", run)

    async def answer(self, request: Request) -> Response:
        """Answer an example with a change, without it, and with a control."""
        item, change, _ = await self._asked(request)
        return self._first(f"change the answer to {item.name}", lambda job: self.changed.answer(item, change, job))

    async def effect(self, request: Request) -> Response:
        """Measure a change on protected examples."""
        item, change, _ = await self._asked(request)
        return self.work("measure the change", lambda job: self.changed.effect(change, item, job))

    async def save(self, request: Request) -> Response:
        """Save a change, or fold it into a copy of the weights."""
        item, change, body = await self._asked(request)
        name, into = body.get("name"), body.get("fold")
        if not isinstance(name, str) or len(name) > 200 or not isinstance(into, bool):
            raise InputError("Expected 'name', a short text, and 'fold', true or false.")

        def run(job: Job) -> Any:
            stem = self.changed.save(name, change, into)
            return {"name": stem, "saved": self.changed.saved(), "code": self._code(item, stem)}

        return self.work(f"save {name[:60]}", run)

    async def code(self, request: Request) -> Response:
        """Write the change to the file 'draft', and return the command and the Python that apply it."""
        item, change, _ = await self._asked(request)

        def run(job: Job) -> Any:
            changes = change.blends or bool(self.changed.interventions(change))
            return self._code(item, self.changed.save(DRAFT, change, False, replace=True) if changes else None)

        return self._first("write the commands", run)

    def _first(self, what: str, run: Any) -> Response:
        return JSONResponse(self.jobs.add(what, run, first=True).as_dict(), 202)

    async def _asked(self, request: Request) -> tuple[Item, Change, dict[str, Any]]:
        item, raw = self.item(request), await request.body()
        if len(raw) > _MOST:
            raise InputError(f"A change has at most {_MOST:,} bytes.")
        try:
            body = json.loads(raw or b"{}")
        except (ValueError, RecursionError):
            raise InputError("Expected JSON.") from None
        if not isinstance(body, dict):
            raise InputError("Expected a JSON object.")
        return item, Change.read(body.get("change")), body

    def _code(self, item: Item, name: str | None) -> dict[str, str]:
        model, path = self.workspace.loaded.reference, None
        if name is not None:
            folder = self.changed.folder
            model = str(folder / name) if is_folder(folder / name) else model
            file = folder / f"{name}.safetensors"
            path = str(file) if is_file(file) else None
        return code(model, path, item)


def code(model: str, path: str | None, item: Item) -> dict[str, str]:
    """Return the command and the Python that answer an example with a file of interventions (None for none)."""
    example = item.example
    audio = str(example.audio_filepath) if isinstance(example, Utterance) else item.name
    given = f"text={example.source!r}" if isinstance(example, Pair) else f"audio={audio}"
    options = [f"model.pretrained={model}", given, "corrections=off", *([f"interventions={path}"] if path else [])]
    verb = "translate" if isinstance(example, Pair) else "transcribe"
    call = f"{verb}({(example.source if isinstance(example, Pair) else audio)!r}, corrections='off')"
    lines = ["from adapt import load_model", *(["from interventions import intervene, load"] if path else []), ""]
    lines.append(f"model = load_model({model!r})")
    if path:
        lines += [f"edits = load({path!r}, model.fingerprint)", "with intervene(model.model, *edits.values()):"]
    lines.append(f"{'    ' if path else ''}print(model.{call})")
    return {
        "command": f"innertune {verb} {' '.join(map(shlex.quote, options))}",
        "python": "\n".join(lines),
    }
