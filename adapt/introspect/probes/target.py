"""What a probe is to find: a class for each of some rows of activations, and where in the examples these rows are."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Batch, Loader
from adapt.errors import InputError
from adapt.introspect.activations import read_in_turn
from adapt.introspect.sampling import read_rows, reads_text
from adapt.models.inference import eval_mode
from adapt.models.model import DecoderModel, Model
from interventions.sites import Site

UNKNOWN = "unknown"  # what `Example.group` says where a manifest's line has no such key
_FEWEST = 4  # examples that a class must be in: fewer cannot be split


@dataclass(frozen=True, eq=False)
class Target:
    """`labels` `(rows,)` says which of `classes` each row is of, and `examples` `(rows,)` in which example it is.

    A row is one step of an example, `at` `(rows,)` in seconds (`unit` "s") or counted in tokens ("token"); without
    `at` it is the mean over all of its steps. `types` is what a control task draws a label for (Hewitt & Liang 2019):
    rows of one type have one label there.
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
        """Some of the rows, picked by a bool mask `(rows,)`; classes that are in none of them are left out."""
        labels = self.labels[chosen]
        there = labels.unique()
        return replace(
            self,
            classes=tuple(self.classes[label] for label in there.tolist()),
            labels=torch.searchsorted(there, labels),
            examples=self.examples[chosen],
            types=tuple(kind for kind, own in zip(self.types, chosen.tolist(), strict=True) if own),
            at=None if self.at is None else self.at[chosen],
        )

    def control(self, seed: object) -> Tensor:
        """Labels `(rows,)` that say nothing: each type gets a random class, in about the shares that classes have.

        A probe that learns them as well as the real ones remembers types, and knows no classes.
        """
        rows = Counter(self.types)
        kinds = sorted(rows)
        random.Random(f"{seed} {self.name}").shuffle(kinds)
        lacking = torch.bincount(self.labels, minlength=len(self.classes)).tolist()
        drawn = {}
        for kind in kinds:
            # To the class that lacks most: so that each class is drawn, however few types there are.
            drawn[kind] = max(range(len(lacking)), key=lambda label: lacking[label])
            lacking[drawn[kind]] -= rows[kind]
        return torch.tensor([drawn[kind] for kind in self.types])


def make_target(model: Model, examples: Sequence[Example], name: str, most: int = 200, seed: int = 0) -> Target:
    """The target of that name: "phoneme" (`phonemes`), "token" (`tokens`), else a key of the examples (`groups`).

    Raises:
        InputError: the examples do not have it, or only one class of it.
    """
    if name == "token":
        target = tokens(model, examples)
    else:
        target = phonemes(examples) if name == "phoneme" else groups(examples, name)
    target = _common(target, most, seed)
    if len(target.classes) < 2:
        found = ", ".join(target.classes) or "none"
        raise InputError(
            f"A probe needs two classes of '{name}' or more, each in {_FEWEST} examples at least; there is {found}. "
            "Targets are phoneme (utterances with 'phonemes'), token (models with a decoder), or any key of the data."
        )
    return target


def groups(examples: Sequence[Example], key: str) -> Target:
    """The value of `key` ("accent", "speaker", "domain", ...), a row an example: the mean over its steps.

    The control task draws a label for each speaker, where there are 4 times as many as classes; else for each example,
    which nothing can be learned from.
    """
    values = [example.group(key) for example in examples]
    known = [number for number, value in enumerate(values) if value != UNKNOWN]
    classes = sorted({values[number] for number in known})
    speakers = [examples[number].group("speaker") for number in known]
    by_speaker = UNKNOWN not in speakers and len(set(speakers)) >= 4 * len(classes)
    return Target(
        key, tuple(classes), torch.tensor([classes.index(values[number]) for number in known], dtype=torch.long),
        torch.tensor(known, dtype=torch.long), tuple(speakers if by_speaker else map(str, known)),
    )  # fmt: skip


def phonemes(examples: Sequence[Example]) -> Target:
    """The phonemes of utterances that have their times, each read at the step in its middle.

    Steps near its ends belong half to its neighbours, and those around the middle say the same again. The control task
    draws a label for each phoneme between the same neighbours.
    """
    rows = []
    for number, example in enumerate(examples):
        said = ["", *(phoneme.symbol for phoneme in example.phonemes), ""]
        for place, phoneme in enumerate(example.phonemes, start=1):
            middle = (phoneme.start + phoneme.end) / 2
            rows.append((phoneme.symbol, number, middle, " ".join(said[place - 1 : place + 2])))
    return _of_steps("phoneme", rows, "s")


def tokens(model: Model, examples: Sequence[Example]) -> Target:
    """The tokens of the references, each read at the decoder's step that is to write it. What is written for every text
    (its end, a language's code) is none.

    The control task draws a label for each token that the decoder reads there, which is the one before.

    Raises:
        InputError: the model has no decoder.
    """
    if not isinstance(model, DecoderModel):
        raise InputError("target=token is for models with a decoder, and this one has none. Try phoneme, or a key.")
    rows, vocabulary, always = [], model.vocabulary, set(model.encode(""))
    for number, example in enumerate(examples):
        before = ""
        for place, token in enumerate(model.encode(example.text)):
            if token not in always:
                rows.append((vocabulary[token], number, float(place), before))
            before = vocabulary[token]
    return _of_steps("token", rows, "token")


def _of_steps(name: str, rows: Sequence[tuple[str, int, float, str]], unit: str) -> Target:
    classes = sorted({row[0] for row in rows})
    place = {symbol: number for number, symbol in enumerate(classes)}
    return Target(
        name, tuple(classes), torch.tensor([place[row[0]] for row in rows], dtype=torch.long),
        torch.tensor([row[1] for row in rows], dtype=torch.long), tuple(row[3] for row in rows),
        torch.tensor([row[2] for row in rows], dtype=torch.float64), unit,
    )  # fmt: skip


def _common(target: Target, most: int, seed: int) -> Target:
    # Classes that are in enough examples, and of each at most so many rows, drawn evenly.
    chosen = torch.zeros(len(target), dtype=torch.bool)
    draw = torch.Generator().manual_seed(seed)
    for label in range(len(target.classes)):
        rows = (target.labels == label).nonzero()[:, 0]
        if len(target.examples[rows].unique()) >= _FEWEST:
            chosen[rows[torch.randperm(len(rows), generator=draw)[:most]]] = True
    return target[chosen]


def sites_of(model: Model, target: Target, sites: Sequence[Site] | None = None) -> list[Site]:
    """The sites at which the target's rows can be read: those whose steps are what it counts, of `sites` or of all.

    Raises:
        InputError: there is none.
    """
    sites = model.sites if sites is None else sites
    if target.at is None:
        return list(sites)
    if target.unit == "token":
        found = [site for site in sites if reads_text(model, site)]
    else:
        found = [site for site in sites if site.step is not None and site.step.unit == target.unit]
    if not found:
        kind = "seconds" if target.unit == "s" else "a decoder's tokens"
        raise InputError(f"'{target.name}' is read at steps of {kind}, and none of the sites has such steps.")
    return found


def read_target(
    model: Model, examples: Sequence[Example], loader: Loader, target: Target, sites: Sequence[Site]
) -> dict[str, Tensor]:
    """The activations of a target's rows, `(rows, units)` float32 by site name, from one pass over its examples.

    Where `torch.distributed` runs, the processes share the examples, and all have the rows of all.
    """
    numbers = [number for number in range(len(examples)) if bool((target.examples == number).any())]
    rows_of = [(target.examples == number).nonzero()[:, 0] for number in numbers]
    found = {site.name: torch.empty(len(target), site.units) for site in sites}
    device = next(model.parameters()).device

    def read(places: list[int], batch: Batch) -> list[Tensor]:
        own = [rows_of[place] for place in places]
        pick = None if target.at is None else _Pick(model, batch, target, own)
        rows = read_rows(model, batch.to(device), sites, pick)
        if pick is None:  # a row an example, and an example a row
            counts = torch.tensor([len(one) for one in own], device=device)
            rows = {name: values.repeat_interleave(counts, dim=0) for name, values in rows.items()}
        return [rows[name] for name in found]

    with eval_mode(model), torch.no_grad():
        for places, rows in read_in_turn(model, [examples[number] for number in numbers], loader, read, "probe"):
            which = torch.cat([rows_of[place] for place in places])
            for name, values in zip(found, rows, strict=True):
                found[name][which] = values.float().cpu()
    return found


class _Pick:
    """The steps of a batch at which a target's rows are, `own` for each of its examples."""

    def __init__(self, model: Model, batch: Batch, target: Target, own: Sequence[Tensor]) -> None:
        self.places = torch.cat([torch.full((len(rows),), place) for place, rows in enumerate(own)])
        self.at, self.unit = target.at[torch.cat(list(own))], target.unit
        rate = model.sample_rate if self.unit == "s" else 1
        self.lengths = batch.lengths.cpu().double() / rate

    def __call__(self, site: Site, own: Tensor) -> tuple[Tensor, Tensor]:
        steps = own.cpu()[self.places]
        times = self.at
        if self.unit == "s":
            times = step_at(times, self.lengths[self.places], steps, site.step.length)
        times = times.round().long().clamp(min=0).minimum(steps - 1)
        return self.places.to(own.device), times.to(own.device)


def step_at(seconds: Tensor, duration: Tensor, steps: Tensor, length: float) -> Tensor:
    """The step, not rounded, in whose middle something is that is `seconds` into an example of that duration, all
    `(rows,)`, where the example has `steps` steps of `length` seconds.

    Windows are as wide to the left as to the right, so that the middle of the steps is the middle of the example; what
    windows at the end leave over moves that by less than half a step.
    """
    return (seconds - duration / 2) / length + (steps - 1) / 2
