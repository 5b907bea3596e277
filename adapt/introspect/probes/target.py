"""The target of a probe: a class for each row of activations, and where in the examples the rows are read."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Batch, Loader
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from adapt.introspect.activations import map_batches
from adapt.introspect.sampling import read_rows, reads_text
from adapt.memory import check_memory
from adapt.models.inference import eval_mode
from adapt.models.model import DecoderModel, Model
from interventions.sites import Site

UNKNOWN = "unknown"  # returned by `Example.group` if an example does not have the key
DEFAULTS = ("accent", "gender", "domain", "speaker", "phoneme", "token")  # in the order in which they are tried
_MIN_EXAMPLES = 4  # examples per class, so that it can be split


@dataclass(frozen=True, eq=False)
class Target:
    """Rows of activations with their classes.

    Attributes:
        name: The name of the target.
        classes: The names of the classes.
        labels: The class of each row, `(rows,)`.
        examples: The index of the example of each row, `(rows,)`.
        types: The type of each row. A control task assigns a random class to each type (Hewitt & Liang 2019).
        at: The place of each row in its example, `(rows,)` in `unit`; None: a row is the mean over the example's steps.
        unit: "s" for seconds, or "token".
    """

    name: str
    classes: tuple[str, ...]
    labels: Tensor
    examples: Tensor
    types: tuple[str, ...]
    at: Tensor | None = None
    unit: str | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Tensor) -> "Target":
        """Return the rows where a bool mask `(rows,)` is True, without the classes that none of them has."""
        labels = self.labels[chosen]
        used = labels.unique()
        return replace(
            self,
            classes=tuple(self.classes[label] for label in used.tolist()),
            labels=torch.searchsorted(used, labels),
            examples=self.examples[chosen],
            types=tuple(kind for kind, own in zip(self.types, chosen.tolist(), strict=True) if own),
            at=None if self.at is None else self.at[chosen],
        )

    def control(self, seed: object) -> Tensor:
        """Return labels of a control task, `(rows,)`: each type gets a random class.

        Classes are about as frequent as the real ones. A probe that learns these labels as well as the real ones only
        memorises types.
        """
        rows = Counter(self.types)
        kinds = sorted(rows)
        random.Random(f"{seed} {self.name}").shuffle(kinds)
        missing = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        drawn = {}
        for kind in kinds:
            # Take the class with the most rows left to assign, so each class is used even if there are few types.
            drawn[kind] = max(range(len(missing)), key=lambda label: missing[label])
            missing[drawn[kind]] -= rows[kind]
        return torch.tensor([drawn[kind] for kind in self.types])


def make_target(
    model: Model, examples: Sequence[Example], name: str, max_per_class: int = 200, seed: int = 0
) -> Target:
    """Make a target for a probe.

    Args:
        model: The model that is probed.
        examples: The examples to read.
        name: "phoneme" (`phonemes`), "token" (`tokens`), or a key of the examples (`groups`).
        max_per_class: Number of rows per class, drawn at random.
        seed: Seed of that draw.

    Raises:
        InputError: The examples do not have the target, or only one class of it.
    """
    if name == "token":
        target = tokens(model, examples)
    else:
        target = phonemes(examples) if name == "phoneme" else groups(examples, name)
    target = _frequent(target, max_per_class, seed)
    if len(target.classes) < 2:
        names = ", ".join(target.classes) or "none"
        raise InputError(
            f"A probe needs at least two classes of '{name}' with at least {_MIN_EXAMPLES} examples each. Classes "
            f"with enough: {names}. A target is phoneme (if the utterances have the key 'phonemes'), token (if the "
            "model has a decoder), or any key of the data."
        )
    return target


def default_target(model: Model, examples: Sequence[Example]) -> str:
    """Return the first of `DEFAULTS` of which the examples have at least two classes; the first one if none has."""
    for name in DEFAULTS:
        try:
            make_target(model, examples, name)
        except InputError:
            continue
        return name
    return DEFAULTS[0]


def groups(examples: Sequence[Example], key: str) -> Target:
    """Return a target with a row per example, the mean over its steps; the value of a key ("accent", ...) is its class.

    The control task assigns a class to each speaker if there are at least 4 times as many speakers as classes.
    Otherwise it assigns one to each example, and nothing can be learned from it.
    """
    values = [example.group(key) for example in examples]
    known = [number for number, value in enumerate(values) if value != UNKNOWN]
    classes = sorted({values[number] for number in known})
    speakers = [examples[number].group("speaker") for number in known]
    by_speaker = UNKNOWN not in speakers and len(set(speakers)) >= 4 * len(classes)
    return Target(
        key,
        tuple(classes),
        torch.tensor([classes.index(values[number]) for number in known], dtype=torch.long),
        torch.tensor(known, dtype=torch.long),
        tuple(speakers if by_speaker else map(str, known)),
    )


def phonemes(examples: Sequence[Example]) -> Target:
    """Return a target with a row per phoneme, read at the step in its middle; only for utterances with phoneme times.

    Steps near the ends of a phoneme overlap its neighbours, and other steps near the middle are redundant. The control
    task assigns a class to each phoneme in the context of its two neighbours.
    """
    rows = []
    for number, example in enumerate(examples):
        spoken = example.phonemes if isinstance(example, Utterance) else ()
        symbols = ["", *(phoneme.symbol for phoneme in spoken), ""]
        for place, phoneme in enumerate(spoken, start=1):
            middle = (phoneme.start + phoneme.end) / 2
            rows.append((phoneme.symbol, number, middle, " ".join(symbols[place - 1 : place + 2])))
    return _of_steps("phoneme", rows, "s")


def tokens(model: Model, examples: Sequence[Example]) -> Target:
    """Return a target with a row per token of the references, read at the decoder step that predicts it.

    Special tokens (the end token, language tokens) are left out. The control task assigns a class to each
    token that the decoder reads at that step: the previous one.

    Raises:
        InputError: The model has no decoder.
    """
    if not isinstance(model, DecoderModel):
        raise InputError(
            "target 'token' needs a model with a decoder, and this one has none. Use phoneme, or a key of the data."
        )
    rows, vocabulary, special = [], model.vocabulary, model.special_units
    for number, example in enumerate(examples):
        before = ""
        for place, token in enumerate(model.target(example)):
            if token not in special:
                rows.append((vocabulary[token], number, float(place), before))
            before = vocabulary[token]
    return _of_steps("token", rows, "token")


def _of_steps(name: str, rows: Sequence[tuple[str, int, float, str]], unit: str) -> Target:
    classes = sorted({row[0] for row in rows})
    place = {symbol: number for number, symbol in enumerate(classes)}
    return Target(
        name,
        tuple(classes),
        torch.tensor([place[row[0]] for row in rows], dtype=torch.long),
        torch.tensor([row[1] for row in rows], dtype=torch.long),
        tuple(row[3] for row in rows),
        torch.tensor([row[2] for row in rows], dtype=torch.float64),
        unit,
    )


def _frequent(target: Target, most: int, seed: int) -> Target:
    """Keep the classes with enough examples, and at most `most` random rows of each."""
    chosen = torch.zeros(len(target), dtype=torch.bool)
    draw = torch.Generator().manual_seed(seed)
    for label in range(len(target.classes)):
        rows = (target.labels == label).nonzero()[:, 0]
        if len(target.examples[rows].unique()) >= _MIN_EXAMPLES:
            chosen[rows[torch.randperm(len(rows), generator=draw)[:most]]] = True
    return target[chosen]


def sites_of(model: Model, target: Target, sites: Sequence[Site] | None = None) -> list[Site]:
    """Return those of `sites` (None: the default sites) at which the rows of a target can be read.

    Raises:
        InputError: There is no such site.
    """
    sites = model.sites if sites is None else sites
    if target.at is None:
        return list(sites)
    if target.unit == "token":
        usable = [site for site in sites if reads_text(model, site)]
    else:
        usable = [site for site in sites if site.step is not None and site.step.unit == target.unit]
    if not usable:
        kind = "seconds" if target.unit == "s" else "a decoder's tokens"
        raise InputError(f"'{target.name}' is read at steps in {kind}, and none of the sites has such steps.")
    return usable


def read_target(
    model: Model, examples: Sequence[Example], loader: Loader, target: Target, sites: Sequence[Site]
) -> dict[str, Tensor]:
    """Read the activations of the rows of a target in one pass over its examples.

    If `torch.distributed` is initialised, the processes share the examples, and all return all rows.

    Returns:
        The rows by site name, `(rows, units)` in float32 on the CPU.
    """
    numbers = [number for number in range(len(examples)) if bool((target.examples == number).any())]
    rows_of = [(target.examples == number).nonzero()[:, 0] for number in numbers]
    units = sum(site.units for site in sites)
    what = f"{len(target):,} rows of {units:,} neurons at {len(sites)} sites"
    check_memory(4 * len(target) * units, what, "Give fewer sites, or a smaller max_per_class.")
    activations = {site.name: torch.empty(len(target), site.units) for site in sites}
    device = next(model.parameters()).device

    def read(places: list[int], batch: Batch) -> list[Tensor]:
        own = [rows_of[place] for place in places]
        pick = None if target.at is None else _Pick(model, batch, target, own)
        rows = read_rows(model, batch.to(device), sites, pick)
        if pick is None:  # one row per example
            counts = torch.tensor([len(one) for one in own], device=device)
            rows = {name: values.repeat_interleave(counts, dim=0) for name, values in rows.items()}
        return [rows[name] for name in activations]

    with eval_mode(model), torch.no_grad():
        for places, rows in map_batches(model, [examples[number] for number in numbers], loader, read, "probe"):
            which = torch.cat([rows_of[place] for place in places])
            for name, values in zip(activations, rows, strict=True):
                activations[name][which] = values.float().cpu()
    return activations


class _Pick:
    """A `Pick` of the steps of a target. `rows` has the indices of the target's rows for each example in the batch."""

    def __init__(self, model: Model, batch: Batch, target: Target, rows: Sequence[Tensor]) -> None:
        assert target.at is not None
        self.places = torch.cat([torch.full((len(own),), place) for place, own in enumerate(rows)])
        self.at, self.unit = target.at[torch.cat(list(rows))], target.unit
        rate = model.sample_rate if self.unit == "s" else 1
        self.lengths = batch.lengths.cpu().double() / rate

    def __call__(self, site: Site, lengths: Tensor) -> tuple[Tensor, Tensor]:
        steps = lengths.cpu()[self.places]
        times = self.at
        if self.unit == "s":
            assert site.step is not None  # see `sites_of`
            times = step_at(times, self.lengths[self.places], steps, site.step.length)
        times = times.round().long().clamp(min=0).minimum(steps - 1)
        return self.places.to(lengths.device), times.to(lengths.device)


def step_at(seconds: Tensor, duration: Tensor, steps: Tensor, length: float) -> Tensor:
    """Return the fractional index of the step whose centre is at the given time, `(rows,)`.

    The receptive fields of steps are symmetric, so the middle step is at the middle of the example. Padding at its end
    shifts this by less than half a step.

    Args:
        seconds: The time in the example, `(rows,)`.
        duration: The duration of the example in seconds, `(rows,)`.
        steps: The number of steps of the example, `(rows,)`.
        length: The length of a step in seconds.
    """
    return (seconds - duration / 2) / length + (steps - 1) / 2
