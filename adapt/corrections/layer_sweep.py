"""Choose the layer for corrections by trial: make some corrections at each layer, and measure what else changes.

layers = candidate_layers(model)                                # adapt/corrections/layers.py
sweep = sweep_layers(model, examples, protected, layers)        # sweep.chosen.site is a name for ModelMemory.create
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import no_grad

from adapt.corrections.attempt import STRENGTH, add_correction, answer, answered, unwritable
from adapt.corrections.collect import collect_protected, default_protected
from adapt.corrections.layers import candidate_layers, correction_layer
from adapt.corrections.model_memory import CHECKED, ModelMemory
from adapt.corrections.support import unsupported
from adapt.data.example import Example
from adapt.data.loader import Batch, Loader, collate
from adapt.errors import InputError
from adapt.metrics import Metric
from adapt.models.encoder_cache import cached_encoder
from adapt.models.inference import decode_examples, eval_mode
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from adapt.progress import track
from interventions.corrections.layer import AffineLayer
from interventions.corrections.memory import Memory
from interventions.corrections.store import CorrectionStore
from interventions.intervene import intervene

MIN_EXAMPLES = 4  # half of them are corrected
MAX_CORRECTIONS = 10  # at each layer
MIN_UNCHANGED = 0.97  # share of the protected answers that should stay unchanged


@dataclass(frozen=True)
class LayerTrial:
    """The effect of making corrections at one layer.

    Args:
        site: name of the layer's site.
        default: whether this layer is the default of the model's family.
        fixed: number of corrections that still hold once all have been made.
        after: the metric on the held-out examples, with the corrections applied.
        unchanged: share of unseen protected examples whose answer is unchanged.
    """

    site: str
    default: bool
    fixed: int
    after: float
    unchanged: float


@dataclass(frozen=True)
class LayerSweep:
    """The trials of several layers.

    Args:
        trials: one trial per layer, in the model's order.
        chosen: the trial of the chosen layer.
        metric: the metric computed on the held-out examples (the second half, of which none is corrected).
        before: its value on the held-out examples without corrections.
        corrections: number of corrections made at each layer.
        others: number of held-out examples.
        protected: number of unseen protected examples.
    """

    trials: tuple[LayerTrial, ...]
    chosen: LayerTrial
    metric: Metric
    before: float
    corrections: int
    others: int
    protected: int


def sweep_layers(
    model: Model,
    examples: Sequence[Example],
    protected: Sequence[Example],
    layers: Sequence[AffineLayer],
    strength: float | None = None,
    loader: Loader | None = None,
) -> LayerSweep:
    """Compare layers as places for a model's corrections. Nothing is stored, and the model is left unchanged.

    At each layer, up to ten wrong answers to the first half of `examples` are corrected, in a memory that protects
    every other one of the `protected` examples. Then the second half of `examples` and the remaining protected examples
    are decoded.

    Args:
        model: the model.
        examples: examples with corrected texts.
        protected: examples whose answers should stay unchanged.
        layers: the layers to compare.
        strength: weight of the protected inputs in the ridge regression, in time steps; None: 300.
        loader: how to batch examples; None: the defaults.

    Raises:
        InputError: If there are too few examples or protected examples, or nothing to correct in the first half.
    """
    with cached_encoder(model):
        strength = STRENGTH if strength is None else strength
        return _sweep(model, examples, protected, layers, strength, loader or Loader())


def _sweep(
    model: Model,
    examples: Sequence[Example],
    protected: Sequence[Example],
    layers: Sequence[AffineLayer],
    strength: float,
    loader: Loader,
) -> LayerSweep:
    task, metric = model.task, model.task.metrics[0]
    usable = _writable(model, examples)
    default = correction_layer(model).site
    if len(usable) < MIN_EXAMPLES:
        raise InputError(
            f"Comparing layers needs at least {MIN_EXAMPLES} corrections that the model can write, because half of "
            f"them are made and half are only decoded. There are {len(usable)}; 20 give a meaningful choice. Or use "
            f"the default layer, {default.name}."
        )
    if len(protected) < 2:
        raise InputError(
            "Comparing layers needs at least 2 protected examples, half of which are only decoded; got "
            f"{len(protected)}. Protect more."
        )
    half = len(usable) // 2
    others, held_out = usable[half:], protected[1::2]
    known = answered(model, protected[::2], loader)
    wrong = _wrong(model, usable[:half], known[:CHECKED])
    if not wrong:
        raise InputError(
            f"None of the first {half} examples is a correction that can be tried: the model's answers are right, or "
            "the inputs do not support the texts. Reorder the examples, or choose the layer yourself."
        )
    unmodified = decode_examples(model, task, held_out, loader, "protected")

    def score(texts: Sequence[str]) -> float:
        return task.score(others, texts).values()[metric.key]

    before = score(decode_examples(model, task, others, loader, "the other half"))
    trials: list[LayerTrial] = []
    for count, layer in enumerate(layers, start=1):
        title = f"layer {count} of {len(layers)}"
        memory = Memory.new(collect_protected(model, layer, known), strength)
        _add_corrections(model, memory, wrong, title)
        with intervene(model, memory):
            corrected = decode_examples(model, task, [example for example, _ in wrong], loader, title)
            after = score(decode_examples(model, task, others, loader, title))
            now = decode_examples(model, task, held_out, loader, title)
        fixed = sum(
            task.normalise(text) == task.normalise(example.text)
            for text, (example, _) in zip(corrected, wrong, strict=True)
        )
        same = sum(one == other for one, other in zip(now, unmodified, strict=True))
        trials.append(LayerTrial(layer.site.name, layer.site == default, fixed, after, same / len(held_out)))
    chosen = choose_layer(trials, metric.higher)
    return LayerSweep(tuple(trials), chosen, metric, before, len(wrong), len(others), len(held_out))


def choose_layer(trials: Sequence[LayerTrial], higher: bool = False) -> LayerTrial:
    """Choose the layer with the best metric among those that fix enough answers and leave enough others unchanged.

    A layer fixes enough answers if it fixes at most one fewer than the best layer, and leaves enough unchanged if at
    least 97 % of the protected answers stay the same. If no layer leaves enough unchanged, the layer that leaves the
    most unchanged is chosen. Ties go to the default layer, then to the first.

    Args:
        trials: the trials of the layers.
        higher: whether a higher metric is better.
    """
    enough = max(trial.fixed for trial in trials) - 1
    able = [trial for trial in trials if trial.fixed >= enough]
    sparing = [trial for trial in able if trial.unchanged >= MIN_UNCHANGED]

    def error(trial: LayerTrial) -> float:
        return -trial.after if higher else trial.after

    if sparing:
        return min(sparing, key=lambda trial: (error(trial), not trial.default))
    return min(able, key=lambda trial: (-trial.unchanged, error(trial), not trial.default))


def choose_layer_for(
    loaded: Loaded,
    examples: Sequence[Example],
    protected: Sequence[Example] | None,
    path: Path,
    names: Sequence[str] | None = None,
    strength: float | None = None,
    loader: Loader | None = None,
) -> LayerSweep:
    """Compare layers for a model that has no memory yet.

    Args:
        loaded: the model.
        examples: examples with corrected texts.
        protected: see `sweep_layers`; None: synthetic examples for the embedded models.
        path: path where the model's correction store will be created.
        names: globs that select the layers to compare; None: the defaults of `candidate_layers`.
        strength: see `sweep_layers`.
        loader: see `sweep_layers`.

    Raises:
        InputError: If the model has a memory already, because its layer cannot be changed, or for the reasons of
            `sweep_layers`.
    """
    if CorrectionStore.exists(path):
        memory = ModelMemory.open(loaded, path)
        raise InputError(
            f"The layer of this model's corrections cannot be changed: {path} has corrections already, at "
            f"'{memory.site}'. Leave out the site, or use another store."
        )
    layers = candidate_layers(loaded.model, names)
    protected = protected if protected is not None else default_protected(loaded)
    if protected is None:
        raise InputError(f"Comparing layers for '{loaded.reference}' needs protected examples.")
    return sweep_layers(loaded.model, examples, protected, layers, strength, loader)


def format_sweep(sweep: LayerSweep, example_name: str) -> str:
    """Return a sweep as a text table; `example_name` is the task's word for an example."""
    metric, width = sweep.metric, max(len(trial.site) for trial in sweep.trials)
    unit = " %" if metric.percent else ""
    lines = [
        f"{sweep.corrections} corrections at each of {len(sweep.trials)} layers; {metric.label} of {sweep.others} "
        f"other {example_name}s, {metric.scale * sweep.before:.1f}{unit} before; {sweep.protected} protected "
        f"{example_name}s.",
        f"{'layer':<{width}}  fixed  {metric.label:>7}  unchanged",
    ]
    for trial in sweep.trials:
        marks = [name for name, marked in (("default", trial.default), ("chosen", trial is sweep.chosen)) if marked]
        value = f"{metric.scale * trial.after:.1f}{unit}"
        row = (
            f"{trial.site:<{width}}  {trial.fixed:>5}  {value:>7}  {100 * trial.unchanged:>7.1f} %  {', '.join(marks)}"
        )
        lines.append(row.rstrip())
    return "\n".join(lines)


def _add_corrections(model: Model, memory: Memory, wrong: Sequence[tuple[Example, Batch]], title: str) -> None:
    """Add corrections one by one, skipping examples that earlier corrections have already fixed."""
    with eval_mode(model):
        for number, (example, batch) in enumerate(track(wrong, title), start=1):
            text = model.task.normalise(example.text)
            with intervene(model, memory):
                right = answer(model, batch) == text
            if not right:
                add_correction(model, memory, number, batch, text)


def _writable(model: Model, examples: Sequence[Example]) -> list[Example]:
    usable: list[Example] = []
    for example in examples:
        try:
            if not unwritable(model, example, len(model.reader.read(example))):
                usable.append(example)
        except InputError:  # correcting it reports the error
            continue
    return usable


def _wrong(model: Model, examples: Sequence[Example], known: Sequence[Example]) -> list[tuple[Example, Batch]]:
    """Return the first examples that are answered wrongly and whose inputs support their texts, each with its batch."""
    found: list[tuple[Example, Batch]] = []
    device = next(model.parameters()).device
    with eval_mode(model), no_grad():
        for example in examples:
            batch = collate([(example, model.reader.read(example))]).to(device)
            before = answer(model, batch)
            if before != model.task.normalise(example.text) and not unsupported(model, batch, before, known):
                found.append((example, batch))
            if len(found) == MAX_CORRECTIONS:
                break
    return found
