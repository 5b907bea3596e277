"""Which layer to keep corrections at, by trying: some of them are made at each, and what else changes is measured.

layers = layers_to_try(model)                           # adapt/corrections/layers.py
found = sweep(model, examples, protected, layers)       # found.chosen.site is a name for ModelMemory.create
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import no_grad

from adapt.corrections.collect import protect
from adapt.corrections.layers import layer_of
from adapt.corrections.model_memory import STRENGTH, WATCHED, answer, answered, put, unwritable
from adapt.corrections.support import unsupported
from adapt.data.example import Example
from adapt.data.loader import Batch, Loader, collate
from adapt.errors import InputError
from adapt.metrics import Metric
from adapt.models.inference import decode_examples, eval_mode
from adapt.models.model import Model
from adapt.progress import track
from interventions.corrections.layer import AffineLayer
from interventions.corrections.memory import Memory
from interventions.intervene import intervene

FEWEST = 4  # examples, of which half are corrected
MOST = 10  # corrections that are made at each layer
UNCHANGED = 0.97  # the share of protected answers that should stay


@dataclass(frozen=True)
class Tried:
    """What corrections at a layer did, `usual` being the family's: of those made `fixed` are right after all of them,
    the metric of other examples is `after`, and of protected ones that the memory did not see `unchanged`, a share, are
    answered as before.
    """

    site: str
    usual: bool
    fixed: int
    after: float
    unchanged: float


@dataclass(frozen=True)
class Sweep:
    """Each layer that was tried, in the model's order, and the `chosen` one. `corrections` were made at each; `metric`
    was `before` on `others` other examples; `protected` examples were answered again.
    """

    tried: tuple[Tried, ...]
    chosen: Tried
    metric: Metric
    before: float
    corrections: int
    others: int
    protected: int


def sweep(
    model: Model,
    examples: Sequence[Example],
    protected: Sequence[Example],
    layers: Sequence[AffineLayer],
    strength: float | None = None,
    loader: Loader | None = None,
) -> Sweep:
    """Try layers: at each, correct what the model gets wrong of the first half of `examples`, at most ten, in a memory
    made of every other one of `protected`, and decode the second half and the rest of the protected freely.

    Nothing is kept, and the model is as before afterwards.

    Raises:
        InputError: there are too few examples, or none to correct among the first half, or too little is protected.
    """
    strength, loader = STRENGTH if strength is None else strength, loader or Loader()
    task, metric = model.task, model.task.metrics[0]
    fit = _writable(model, examples)
    if len(fit) < FEWEST:
        raise InputError(
            f"Layers are tried with half of the corrections and judged by the other half. Give {FEWEST} or more that "
            f"the model can write (20 for the choice to mean much): there are {len(fit)}. Or leave site=sweep out: the "
            f"usual layer is {layer_of(model).site.name}."
        )
    if len(protected) < 2:
        raise InputError(f"Half of the protected are watched, and there are {len(protected)}. Give more: protected=...")
    half = len(fit) // 2
    others, held = fit[half:], protected[1::2]
    known = answered(model, protected[::2], loader)
    wrong = _wrong(model, fit[:half], known[:WATCHED])
    if not wrong:
        raise InputError(
            f"Of the first {half} examples, none is a correction that can be tried: the model answers them so already, "
            "or their inputs do not support their texts. Put others first, or leave site=sweep out."
        )
    bare = decode_examples(model, task, held, loader, "protected")

    def judged(texts: Sequence[str]) -> float:
        return task.evaluate([example.text for example in others], texts).values()[metric.key]

    before = judged(decode_examples(model, task, others, loader, "the other half"))
    usual, tried = layer_of(model).site, []
    for count, layer in enumerate(layers, start=1):
        what = f"layer {count} of {len(layers)}"
        memory = Memory.new(protect(model, layer, known), strength)
        fill(model, memory, wrong, what)
        with intervene(model, memory):
            kept = decode_examples(model, task, [example for example, _ in wrong], loader, what)
            after = judged(decode_examples(model, task, others, loader, what))
            now = decode_examples(model, task, held, loader, what)
        fixed = sum(
            task.normalise(text) == task.normalise(one.text) for text, (one, _) in zip(kept, wrong, strict=True)
        )
        same = sum(one == other for one, other in zip(now, bare, strict=True))
        tried.append(Tried(layer.site.name, layer.site == usual, fixed, after, same / len(held)))
    chosen = choose(tried, metric.higher)
    return Sweep(tuple(tried), chosen, metric, before, len(wrong), len(others), len(held))


def choose(tried: Sequence[Tried], higher: bool = False) -> Tried:
    """The layer of the best metric among those that fix as many as the best or one less and leave 97 % of the protected
    unchanged; where none leaves as much, the one that leaves the most. `higher` says that more of the metric is better.

    Of equals it is the usual one, else the first.
    """
    enough = max(one.fixed for one in tried) - 1
    able = [one for one in tried if one.fixed >= enough]
    sparing = [one for one in able if one.unchanged >= UNCHANGED]
    error = lambda one: -one.after if higher else one.after  # noqa: E731
    if sparing:
        return min(sparing, key=lambda one: (error(one), not one.usual))
    return min(able, key=lambda one: (-one.unchanged, error(one), not one.usual))


def fill(model: Model, memory: Memory, wrong: Sequence[tuple[Example, Batch]], what: str) -> None:
    """Put corrections into a memory one by one, but for those that are right by then."""
    with eval_mode(model):
        for number, (example, batch) in enumerate(track(wrong, what), start=1):
            text = model.task.normalise(example.text)
            with intervene(model, memory):
                right = answer(model, batch) == text
            if not right:
                put(model, memory, number, batch, text)


def told_sweep(found: Sweep, example_name: str) -> str:
    """A sweep in lines: a table, and what was chosen."""
    metric, width = found.metric, max(len(one.site) for one in found.tried)
    label, unit = metric.label, metric.unit
    lines = [
        f"{found.corrections} corrections at each of {len(found.tried)} layers; {label} of {found.others} others, "
        f"{metric.scale * found.before:.1f}{unit} before; {found.protected} protected {example_name}s.",
        f"{'layer':<{width}}  fixed  {label:>7}  unchanged",
    ]
    for one in found.tried:
        marks = ["usual"] * one.usual + ["chosen"] * (one is found.chosen)
        lines.append(
            f"{one.site:<{width}}  {one.fixed:>5}  {f'{metric.scale * one.after:.1f}{unit}':>7}  "
            f"{100 * one.unchanged:>7.1f} %  {', '.join(marks)}".rstrip()
        )
    return "\n".join(lines)


def _writable(model: Model, examples: Sequence[Example]) -> list[Example]:
    fit = []
    for example in examples:
        try:
            if not unwritable(model, example, len(model.reader.read(example))):
                fit.append(example)
        except InputError:  # what cannot be read is told of when it is to be corrected
            continue
    return fit


def _wrong(model: Model, examples: Sequence[Example], known: Sequence[Example]) -> list[tuple[Example, Batch]]:
    """The first that the model answers otherwise, and whose inputs support their texts, each with its batch."""
    found: list[tuple[Example, Batch]] = []
    device = next(model.parameters()).device
    with eval_mode(model), no_grad():
        for example in examples:
            batch = collate([(example, model.reader.read(example))]).to(device)
            now = answer(model, batch)
            if now != model.task.normalise(example.text) and not unsupported(model, batch, now, known):
                found.append((example, batch))
            if len(found) == MOST:
                break
    return found
