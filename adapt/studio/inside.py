"""The room Inside: the maps of all layers while a model reads, and what a person asks about a neuron."""

import asyncio
from collections import OrderedDict
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapt.data.example import Example, language_of
from adapt.data.kinds import with_text
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.introspect.activity.activity import LayerActivity, layer_sites, read_activity
from adapt.introspect.activity.places import Places, places_of, responses
from adapt.introspect.activity.study import NeuronStudy, study_neurons
from adapt.introspect.attribution.words import single_batch
from adapt.introspect.topography.cells import cells_of_model
from adapt.introspect.weights.row_change import row_change
from adapt.models.inference import eval_mode
from adapt.models.loaded import Loaded
from adapt.models.model import DecoderModel, Model, SpeechDecoderModel
from adapt.studio.inside_data import layer_header, packed, token_times
from adapt.studio.jobs import Job
from adapt.studio.recordings import Item
from adapt.studio.room import Room, body_of

SECONDS = 60.0  # of a recording that are shown: each has 400 kB for 11 layers of 256 units
KEPT = 8  # examples whose activity is kept
FINEST = 0.01  # seconds of a frame: shorter steps are averaged
STUDIED, STUDY_SECONDS = 40, 20.0  # examples of a study, and how long they may be


class Inside(Room):
    """Shows the activity of layers, profiles neurons, and compares their weights in two models."""

    def __init__(self, *shared: Any) -> None:
        super().__init__(*shared)
        # By example and model: the corrections that held, and what `activity` returns.
        self._activity: OrderedDict[tuple[str, str], tuple[list[int], bytes]] = OrderedDict()
        self._places: dict[str, Places] = {}
        self._studies: dict[str, tuple[NeuronStudy, list[Item]]] = {}

    def routes(self) -> list[Route]:
        return [
            Route("/api/items/{id}/activity", self.read, methods=["POST"]),
            Route("/api/items/{id}/activity/{which}", self.activity),
            Route("/api/neurons/study", self.study, methods=["POST"]),
            Route("/api/neurons/profiles/{which}", self.profiles),
            Route("/api/neurons/show", self.show, methods=["POST"]),
        ]

    async def read(self, request: Request) -> Response:
        """Let a model read an example, and keep what its layers do; `activity` returns it."""
        item, which = self.item(request), (await body_of(request, text="which"))["which"]
        loaded = self.workspace.model(which)

        def run(job: Job) -> Any:
            known, corrections = self._activity.get((item.id, which)), self._corrections()
            if known is None or known[0] != corrections:
                self._keep((item.id, which), corrections, self._read(item, which, loaded, job))
            return {"studied": which in self._studies}

        return self.work(f"look inside {item.name}", run)

    async def activity(self, request: Request) -> Response:
        """Return the activity that `read` kept: a header as JSON, and 16-bit floats."""
        item, which = self.item(request), request.path_params["which"]
        found = self._activity.get((item.id, which))
        if found is None:
            raise InputError("What the layers did is not known any more. Load the page again.")
        return Response(found[1], media_type="application/octet-stream")

    async def study(self, request: Request) -> Response:
        """Profile all neurons of a model over the examples at hand."""
        which = (await body_of(request, text="which"))["which"]
        loaded = self.workspace.model(which)

        def run(job: Job) -> Any:
            if which not in self._studies:
                self._studies[which] = self._study(which, loaded, job)
                if which == "model":  # the maps are laid out by the profiles from now on
                    self._places.clear()
                    self._activity.clear()
            study, items = self._studies[which]
            return {"examples": len(items), "keys": list(study.profiles.keys)}

        return self.work(f"profile the neurons of {loaded.reference.rpartition('/')[2]}", run)

    async def profiles(self, request: Request) -> Response:
        """Return the mean activity of all neurons in each group, as `activity` returns values."""
        which = request.path_params["which"]
        self.workspace.model(which)
        if which not in self._studies or not self._places:
            raise InputError("The neurons are not profiled yet.")
        study, places = self._studies[which][0], dict(self._places)

        def pack() -> bytes:
            layers, arrays = [], []
            for name, where in places.items():
                means = study.means(name) if name in study.profiles.sums else {}
                layers.append({"site": name, "groups": list(means)})
                arrays.extend(where.pool(mean.unsqueeze(0)) for mean in means.values())
            return packed({"layers": layers}, arrays)

        return Response(await asyncio.to_thread(pack), media_type="application/octet-stream")

    async def show(self, request: Request) -> Response:
        """Say what a neuron responds to, when it is most active, and how its weights differ."""
        body = await body_of(request, text="which", number="unit")
        if not isinstance(body.get("site"), str):
            raise InputError("Expected 'site', a str.")
        loaded = self.workspace.model(body["which"])
        site = next((one for one in layer_sites(loaded.model).values() if one.name == body["site"]), None)
        if site is None or not 0 <= body["unit"] < site.units:
            raise InputError("There is no such neuron here.")
        other = self.workspace.against

        def run(job: Job) -> Any:
            change = None
            if other is not None:
                found = row_change(other.model, self.workspace.loaded.model, site, body["unit"])
                change = asdict(found) | {"equal": found.equal}
            return {"site": site.name, "unit": body["unit"], "change": change} | self._shown(body, site.name)

        return self.work(f"show neuron {body['unit']} of {site.name}", run)

    def _shown(self, body: dict[str, Any], site: str) -> dict[str, Any]:
        if body["which"] not in self._studies:
            return {"responses": None, "moments": None}
        study, items = self._studies[body["which"]]
        moments = [
            asdict(moment) | {"id": items[moment.example].id, "name": items[moment.example].name}
            for moment in study.moments.of(site, body["unit"])
        ]
        found = [asdict(response) for response in study.responses(site, body["unit"])]
        return {"key": study.key_at(site), "responses": found, "moments": moments}

    def _read(self, item: Item, which: str, loaded: Loaded, job: Job) -> bytes:
        model = loaded.model
        example, words = beginning(model, item.example), []
        if isinstance(model, DecoderModel):
            # Both models read the answer of the first, so that their positions are the same.
            answer = self.workspace.known(item) or self.workspace.answer(item, "model", job)
            example, words = self._with_answer(model, example, item.example, answer)
        job.tell(0.3)
        with self.workspace.with_corrections(which):
            activity = read_activity(model, example, finest=FINEST)
        job.tell(0.7)
        if not self._places:
            self._places = self._laid_out(activity)
        fitting = {name: one for name, one in self._places.items() if name in activity}
        places = {name: one for name, one in fitting.items() if len(one.cells) == activity[name].site.units}
        shown = {name: activity[name] for name in places}
        seconds = None if isinstance(example, Pair) else model.reader.length(example)
        header = {
            "text": example.text,
            "seconds": seconds,
            "shortened": seconds is not None and seconds < model.reader.length(item.example),
            "source": _tokens(activity, "source"),
            "target": _tokens(activity, "target"),
            "layers": layer_header(shown, places, token_times(model, example, words, seconds)),
        }
        return packed(header, [places[name].pool(layer.values) for name, layer in shown.items()])

    def _with_answer(
        self, model: Model, example: Example, whole: Example, answer: dict[str, Any]
    ) -> tuple[Example, list[dict[str, Any]]]:
        if example is whole:
            return answered(model, example, answer["text"]), answer["words"]
        end = model.reader.length(example)
        words = [word for word in answer["words"] if word["end"] <= end]
        return answered(model, example, " ".join(word["text"] for word in words)), words

    def _laid_out(self, activity: dict[str, LayerActivity]) -> dict[str, Places]:
        # By the profiles of a study, or as long as there is none, by what is active together here.
        loaded = self.workspace.loaded
        study = self._studies["model"][0] if "model" in self._studies else None
        units = {site.name: site.units for site in layer_sites(loaded.model).values()}
        profiles = {}
        for name, layer in activity.items():
            key = None if study is None or units.get(name) != layer.site.units else study.key_at(name)
            if study is None or key is None:
                profiles[name] = responses([layer.values])
            else:
                means = study.profiles.mean(name, study.groups_at(name, key))
                profiles[name] = (means - means.mean(0)).T.double().numpy()
        return places_of(profiles, cells_of_model(loaded.header, loaded.reference))

    def _study(self, which: str, loaded: Loaded, job: Job) -> tuple[NeuronStudy, list[Item]]:
        items, examples = [], []
        for item in self.workspace.items:
            if len(items) == STUDIED:
                break
            with suppress(InputError):  # a damaged file, or a text that cannot be read
                job.tell(0.0, {"step": "choosing examples"})
                example = self._to_study(item, which, loaded.model, job)
                items += [] if example is None else [item]
                examples += [] if example is None else [example]
        if not items:
            raise InputError("There is no example here that neurons could be profiled on. Add some.")
        step = {"step": f"over {len(items)} examples"}
        return study_neurons(loaded.model, examples, told=lambda share: job.tell(share, step)), items

    def _to_study(self, item: Item, which: str, model: Model, job: Job) -> Example | None:
        example, decodes = item.example, isinstance(model, DecoderModel)
        if model.reads_audio and model.reader.length(example) > STUDY_SECONDS:
            return None
        if decodes:
            text = example.text
            if not text:
                text = (self.workspace.known(item, which) or self.workspace.answer(item, which, job))["text"]
            example = answered(model, example, text)
        return example if model.rejection_reason(example, len(model.reader.read(example)), decodes) is None else None

    def _corrections(self) -> list[int]:
        return [record["number"] for record in self.workspace.records()]

    def _keep(self, key: tuple[str, str], corrections: list[int], data: bytes) -> None:
        self._activity[key] = corrections, data
        while len(self._activity) > KEPT:
            self._activity.popitem(last=False)


def beginning(model: Model, example: Example) -> Example:
    """Return as much of the beginning of a recording as the room shows and the model reads at once; sentences whole."""
    if isinstance(example, Pair):
        return example
    seconds = min(SECONDS, model.reader.window or SECONDS)
    if model.reader.length(example) <= seconds:
        return example
    if isinstance(example, Utterance):
        return replace(example, duration=seconds)
    assert isinstance(example, Recording)
    return replace(example, samples=example.samples[: int(seconds * example.sample_rate)])


def answered(model: Model, example: Example, text: str) -> Example:
    """Return an example with a text, in the language that a multilingual recogniser hears in it if none is given."""
    example = with_text(example, text)
    if not isinstance(model, SpeechDecoderModel) or not model.multilingual:
        return example
    if model.language_for(language_of(example)) is not None:
        return example
    batch = single_batch(model, example)
    with eval_mode(model):
        language = model.detect_languages(batch.inputs, batch.lengths)[0]
    if isinstance(example, Utterance):
        return replace(example, lang=language)
    assert isinstance(example, Recording)
    return replace(example, extra={**example.extra, "lang": language})


def _tokens(activity: dict[str, LayerActivity], kind: str) -> list[str]:
    return next((list(layer.tokens) for layer in activity.values() if layer.kind == kind), [])
