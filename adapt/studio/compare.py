"""The room Compare: two models side by side, on one example and on all."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapt.blending.interpolate import Interpolation
from adapt.blending.related import stored_factors
from adapt.blending.search import search
from adapt.comparison.causes import find_causes
from adapt.comparison.words import align, word_changes
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.introspect.reading import learnable
from adapt.metrics import paired_intervals
from adapt.models.loaded import Loaded
from adapt.models.writing import normalising
from adapt.studio.changed import watched
from adapt.studio.jobs import Job
from adapt.studio.recordings import Item
from adapt.studio.room import Room, body_of

WORDS = 40  # of each list of words that changed
EXAMPLES = 50  # of each set, for causes and the front


class CompareRoom(Room):
    """What differs between the answers of two models, and which layers cause it. The other model is the one before."""

    def routes(self) -> list[Route]:
        """Return the addresses of the room."""
        return [
            Route("/api/items/{id}/compare", self.one, methods=["POST"]),
            Route("/api/compare/all", self.all, methods=["POST"]),
            Route("/api/compare/front", self.front, methods=["POST"]),
            Route("/api/compare/causes", self.causes, methods=["POST"]),
        ]

    async def one(self, request: Request) -> Response:
        """Compare the answers of both models to an example."""
        item = self.item(request)
        self.workspace.model("against")

        def run(job: Job) -> Any:
            before, after = self._answers(item, job)
            pairs = align(before["text"], after["text"]) if before["text"] or after["text"] else []
            return {"before": before, "after": after, "aligned": [asdict(pair) for pair in pairs]}

        return self.work(f"compare {item.name}", run)

    async def all(self, request: Request) -> Response:
        """Compare the answers of both models to all examples that have a reference."""
        self.workspace.model("against")

        def run(job: Job) -> Any:
            items = [item for item in self.workspace.items if item.example.text]
            if not items:
                raise InputError("No example has a reference, so there is nothing to count errors against.")
            texts: list[tuple[str, str]] = []
            for number, item in enumerate(items):
                job.tell(number / len(items))
                before, after = self._answers(item, job)
                texts.append((before["text"], after["text"]))
            return compared(self.workspace.loaded, items, texts)

        return self.work("compare all examples", run)

    async def front(self, request: Request) -> Response:
        """Measure the models between the two on two groups, and choose one."""

        def run(job: Job, before: Loaded, sets: dict[str, list[Example]]) -> Any:
            line = Interpolation(
                before.model, self.workspace.loaded.model, stored_factors(self.workspace.loaded, before)
            )
            with watched(self.workspace.loaded.model, job):
                found = search(line, sets, Loader(), layers=False, examples=EXAMPLES)
            metric = found.metric
            points = [
                {"factor": point.factor, "target": point.values["target"][metric.key],
                 "source": point.values["source"][metric.key]}
                for point in found.points
            ]  # fmt: skip
            return {"metric": metric.label, "percent": metric.percent, "points": points, "chosen": found.chosen,
                    "reason": found.reason, "summary": found.summary, "examples": found.examples}  # fmt: skip

        return await self._over(request, "blend between the models", run)

    async def causes(self, request: Request) -> Response:
        """Measure which layers cause the change, by putting each one's old weights back."""

        def run(job: Job, before: Loaded, sets: dict[str, list[Example]]) -> Any:
            after = self.workspace.loaded.model
            try:
                with watched(after, job), watched(before.model, job):
                    found = find_causes(before.model, after, sets, Loader(), EXAMPLES)
            except ValueError as error:
                raise InputError(str(error)) from None
            metric = after.task.metrics[0]
            parts = [
                {"part": one.part, "kind": one.kind, "weights": one.weights,
                 "reverted": {name: [effect.values[metric.key], *effect.difference[metric.key]]
                              for name, effect in one.reverted.items()}}
                for one in found.parts
            ]  # fmt: skip
            ends = {name: [found.before[name][metric.key], found.after[name][metric.key]] for name in sets}
            return {"metric": metric.label, "percent": metric.percent, "parts": parts, "ends": ends,
                    "examples": found.examples}  # fmt: skip

        return await self._over(request, "find what caused the change", run)

    async def _over(
        self, request: Request, what: str, run: Callable[[Job, Loaded, dict[str, list[Example]]], Any]
    ) -> Response:
        """Put work on two groups into the queue, `target` and `source`."""
        target = (await body_of(request, text="target", most=300))["target"]
        source = (await body_of(request, text="source", most=300))["source"]
        before = self.workspace.model("against")

        def work(job: Job) -> Any:
            job.tell(None, {"step": f"on at most {EXAMPLES} examples of each group"})
            sets = {"target": self._group(target), "source": self._group(source)}
            return run(job, before, sets)

        return self.work(what, work)

    def _group(self, name: str) -> list[Example]:
        """Return the examples of a group ("set: data", "accent: scottish") with a reference the model can learn."""
        key, _, value = name.partition(": ")
        found = []
        for item in self.workspace.items:
            facts: Any = item.as_dict()
            if item.example.text and (item.set if key == "set" else facts["groups"].get(key)) == value:
                found.append(item.example)
        found = learnable(self.workspace.loaded.model, found)
        if not found:
            raise InputError(f"No example of '{name}' has a reference that the model can write.")
        return list(found)

    def _answers(self, item: Item, job: Job) -> tuple[dict[str, Any], dict[str, Any]]:
        each = [
            self.workspace.known(item, which) or self.workspace.answer(item, which, job)
            for which in ("against", "model")
        ]
        return each[0], each[1]


def compared(loaded: Loaded, items: Sequence[Item], texts: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return how the answers to examples with references differ between two models, as JSON data.

    Args:
        loaded: The model after.
        items: The examples.
        texts: The answers before and after, one pair for each example.

    Returns:
        The totals of the main metric with the paired 95 % interval of the change; a point for each example; and the
        words that were fixed and broken most often.
    """
    examples, task = [item.example for item in items], loaded.model.task
    before, after = ([pair[number] for pair in texts] for number in (0, 1))
    with normalising([loaded.model], examples):
        scores = [task.score(examples, own) for own in (before, after)]
        words = word_changes([example.text for example in examples], before, after, task)
    metric = task.metrics[0]
    points = [
        {"id": item.id, "name": item.name, "before": scores[0][chosen].values()[metric.key],
         "after": scores[1][chosen].values()[metric.key]}
        for item, chosen in zip(items, (np.array([number]) for number in range(len(items))), strict=True)
    ]  # fmt: skip
    changed = [
        {"word": one.word, "count": one.count, "before": one.correct_before, "after": one.correct_after,
         "significant": one.significant}
        for one in words.words
        if one.correct_before != one.correct_after
    ]  # fmt: skip
    fixed = [one for one in changed if one["after"] > one["before"]][:WORDS]
    broken = [one for one in reversed(changed) if one["after"] < one["before"]][:WORDS]
    return {
        "metric": metric.label, "percent": metric.percent, "higher": metric.higher, "examples": len(items),
        "before": scores[0].values()[metric.key], "after": scores[1].values()[metric.key],
        "interval": list(paired_intervals(scores[0], scores[1])[metric.key]), "points": points,
        "fixed": fixed, "broken": broken,
    }  # fmt: skip
