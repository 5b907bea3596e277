"""The room Attack: find the quietest change of a recording that makes the model write another text, and look inside."""

import base64
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapt.adversarial.attack import Step, attack
from adapt.adversarial.parting import part
from adapt.adversarial.result import Attacked
from adapt.checks import is_number
from adapt.data.manifest import Utterance
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.studio.jobs import Job
from adapt.studio.recordings import BANDS, Item, spectrogram, wav
from adapt.studio.room import Room, body_of

MAX_STEPS = 20_000
KEPT = 20  # attacks whose sound is kept
_POINTS = 200  # of the curve of the loss


@dataclass
class _Attacks:
    """The attacks of a studio by number, and how to stop those that run."""

    found: dict[int, Attacked] = field(default_factory=dict)
    stops: dict[int, Event] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def keep(self, number: int, attacked: Attacked) -> None:
        with self.lock:
            self.found[number] = attacked
            for old in sorted(self.found)[:-KEPT]:
                del self.found[old]

    def get(self, number: int) -> Attacked:
        with self.lock:
            if number not in self.found:
                raise InputError(f"There is no attack {number}. The last {KEPT} are kept.")
            return self.found[number]


class AttackRoom(Room):
    """Attacks as jobs, with their sounds."""

    def __init__(self, *shared: Any) -> None:
        super().__init__(*shared)
        self.attacks = _Attacks()

    def routes(self) -> list[Route]:
        one = "/api/attacks/{number:int}"
        return [
            Route("/api/items/{id}/attack", self.start, methods=["POST"]),
            Route(f"{one}/stop", self.stop, methods=["POST"]),
            Route(f"{one}/{{which}}.wav", self.sound),
        ]

    async def start(self, request: Request) -> Response:
        """Attack a recording: the body has text, snr, mask (a number or null), and steps."""
        item, body = self.item(request), await body_of(request, text="text", number="steps", most=1000)
        example = item.example
        if not isinstance(example, (Utterance, Recording)):
            raise InputError("Only recordings can be attacked, not sentences.")
        for name in ("snr", "mask"):
            if body.get(name) is not None and not is_number(body[name]):
                raise InputError(f"Expected '{name}', a number of dB or null.")
        if not 1 <= body["steps"] <= MAX_STEPS:
            raise InputError(f"Expected 1 to {MAX_STEPS:,} steps, got {body['steps']}.")
        stop = Event()

        def run(job: Job) -> Any:
            self.attacks.stops[job.number] = stop
            try:
                return self._run(item, example, body, job, stop)
            finally:
                self.attacks.stops.pop(job.number, None)

        return self.work(f"attack {item.name}", run)

    def _run(
        self, item: Item, example: Utterance | Recording, body: dict[str, Any], job: Job, stop: Event
    ) -> dict[str, Any]:
        model = self.workspace.loaded.model

        def tell(step: Step) -> bool:
            news = {"loss": step.loss, "text": step.text, "snr": step.snr, "number": step.number}
            job.tell(step.number / step.steps, news)
            return stop.is_set()

        target = " ".join(body["text"].split()) or None
        found = attack(
            model, example, target, snr=body.get("snr"), mask=body.get("mask"), steps=body["steps"], progress=tell
        )
        parting = part(model, found)
        self.attacks.keep(job.number, found)
        every = max(1, len(found.losses) // _POINTS)
        result = found.as_dict() | {"losses": found.losses[::every], "parting": parting.as_dict(), "attack": job.number}
        return result | {"picture": _picture(found), "item": item.id, "summary": found.summary()}

    async def stop(self, request: Request) -> Response:
        """End an attack now, and keep what it found."""
        stop = self.attacks.stops.get(request.path_params["number"])
        if stop is None:
            raise InputError("This attack does not run.")
        stop.set()
        return JSONResponse({})

    async def sound(self, request: Request) -> Response:
        """Return the clean, the attacked, the noisy recording, or ten times the change, as WAV."""
        found, which = self.attacks.get(request.path_params["number"]), request.path_params["which"]
        sounds = {
            "clean": found.clean / 32768, "attacked": found.samples / 32768, "noise": found.noisy / 32768,
            "change": 10 * found.perturbation,
        }  # fmt: skip
        if which not in sounds:
            raise InputError(f"Expected one of {', '.join(sounds)}, got {which!r}.")
        headers = (
            {"content-disposition": f'attachment; filename="{which}.wav"'} if "save" in request.query_params else {}
        )
        return Response(wav(sounds[which], found.rate), media_type="audio/wav", headers=headers)


def _picture(found: Attacked) -> dict[str, Any]:
    """Return the spectrogram of the change as bytes for a picture, dB below its own loudest value."""
    values = spectrogram(found.perturbation, found.rate) if found.perturbation.any() else None
    if values is None:
        return {"bands": 0, "frames": 0, "values": ""}
    return {"bands": BANDS, "frames": values.shape[1], "values": base64.b64encode(values.numpy().tobytes()).decode()}
