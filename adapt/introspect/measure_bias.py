"""`measure=bias`: for which groups the model errs more, where inside it they part from others, and by which neurons."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.files import write_json
from adapt.inference import answers
from adapt.introspect.content_sums import read_content
from adapt.introspect.error_link import Link, link_errors
from adapt.introspect.groups import groupings
from adapt.introspect.jackknife import student_quantile
from adapt.introspect.move import Moved, move_together
from adapt.introspect.parting import Parting, compare, distance_interval
from adapt.introspect.reading import examples_of, sites_named, whole_numbers
from adapt.metrics import Metric, Quality, bootstrap_intervals, unpaired_intervals
from adapt.models.checkpoint import Loaded
from adapt.models.model import Model
from interventions.neurons import Neurons, Scores
from interventions.sites import Site

KEYS = ("accent", "gender", "domain", "speaker")  # that groups are looked for by, in this order
FOLDS = 32  # with these, p can be as small as 1e-8
FEWEST_SPEAKERS = 16  # in each group, for figures that hold for other speakers too
OTHERS = "all others"
_TOP_CONTENTS = 3  # of a neuron, that are named


def bias(
    loaded: Loaded,
    splits: Splits,
    loader: Loader,
    by: str | None = None,
    reference: str | None = None,
    content: str | Sequence[str] | None = None,
    false_discoveries: float = 0.01,
    sites: str | Sequence[str] = "*",
    part: str | None = None,
    examples: str | Sequence[str] = ("test", "source_test"),
    least: int = 20,
    most: int = 12,
    resample: str | None = None,
    confirm: bool = False,
    seed: int = 0,
) -> "MeasuredBias":
    """Compare the groups of examples that have the same value of `by` (None: the first of accent, gender, domain and
    speaker that tells groups apart), each with the `reference` group, or (None) with all others; of two groups, the one
    that is read worse with the other. Groups of fewer than `least` examples are left out, as are all but the `most`
    largest.

    Neurons are compared within `content` (None: the letter that should be written, or the token; phonemes in a speech
    encoder whose data have them; "none": all steps together). What is resampled, dealt into folds and counted are
    speakers or examples (`resample`; None: speakers, where each group has enough of them). `confirm` moves the neurons
    that part towards the reference, and measures what it does.

    Raises:
        InputError: there are no two such groups, or an option is none.
    """
    model = loaded.model
    places = sites_named(model, sites, part)
    # Units of the output layer are what is written, and part wherever other things are.
    places = [site for site in places if site.name != model.sites[-1].name] or places
    whole_numbers(2, most=most)
    whole_numbers(8, least=least)
    whole_numbers(0, seed=seed)
    _check(false_discoveries, resample, confirm, content)
    chosen, _ = examples_of(model, splits, examples)
    by = by or _key(chosen, least)
    groups, left_out = _groups(chosen, str(by), least, most)
    if reference is not None and str(reference) not in groups:
        raise InputError(
            f"measure.reference={reference}: no {by} is called that and has {least} examples; there are "
            f"{', '.join(groups)}."
        )
    numbers = {name: number for number, name in enumerate(groups)}
    chosen = [example for example in chosen if example.group(str(by)) in numbers]
    of = [numbers[example.group(str(by))] for example in chosen]
    unit, units = _units(chosen, of, str(by), resample)
    folds = _folds(of, units)
    made = groupings(model, chosen, _contents(model, chosen, content), most=60)

    texts = answers(model, model.task, chosen, loader)
    quality = model.task.judge([example.text for example in chosen], texts)
    errors = _Errors(quality, of, units)
    sums = read_content(model, chosen, loader, made, of, folds, places)
    pairs = _pairs(groups, reference, errors)
    compared = []
    for group, others in pairs:
        found = [own for site in places if (own := compare(sums, site, [group], others)) is not None]
        against = groups[others[0]] if len(others) == 1 else OTHERS
        compared.append(Compared(groups[group], against, group, tuple(others), {own.site: own for own in found}))
    if not any(own.partings for own in compared):
        raise InputError("measure.content: no two groups have the same content at any site. Try measure.content=none.")
    _discover([p for own in compared for p in own.partings.values()], compared, false_discoveries)
    parted = {own.number: [own.partings[site] for site in own.neurons.used] for own in compared if len(own.neurons)}
    wrong = errors.each.tolist()
    links = link_errors(model, chosen, wrong, loader, made, of, folds, sums, unit == "speaker", parted)
    _discover_links(compared, links, false_discoveries)
    if confirm:
        for own in compared:
            if len(own.neurons) and errors.difference(own.number, own.others)[1][0] > 0:
                theirs = np.flatnonzero(np.array(of) == own.number)
                own.moved = move_together(
                    model, [chosen[n] for n in theirs], quality[theirs], loader, own.neurons, own.partings, seed
                )
    return MeasuredBias(
        model, str(by), tuple(groups), left_out, unit, max(folds) + 1, false_discoveries, errors, tuple(compared)
    )


@dataclass
class Compared:
    """One group held against others: how its neurons part at each site, with the q-value of each, and which of those
    that part go with its errors. What `confirm` did lies in `moved`.
    """

    group: str
    against: str
    number: int
    others: tuple[int, ...]
    partings: dict[Site, Parting]
    q: dict[Site, Tensor] = field(default_factory=dict)
    links: dict[Site, Link] = field(default_factory=dict)
    link_q: dict[Site, Tensor] = field(default_factory=dict)
    neurons: Neurons = field(default_factory=lambda: Neurons({}))
    with_errors: Neurons = field(default_factory=lambda: Neurons({}))
    moved: list[Moved] = field(default_factory=list)

    @property
    def scores(self) -> Scores:
        """How far apart each neuron's profiles are, in standard deviations."""
        return Scores({site: own.apart for site, own in self.partings.items()})

    @property
    def site(self) -> Site:
        """Where the groups' profiles are farthest apart."""
        return max(self.partings, key=lambda site: self.partings[site].mean[0])

    def ranked(self) -> list[tuple[Site, int]]:
        """The neurons that part: those with errors, then the others, the farthest first."""
        found = [(site, unit) for site in self.neurons.used for unit in self.neurons[site]]
        return sorted(
            found,
            key=lambda at: (
                (at[0].name, at[1]) not in self.with_errors, -float(self.partings[at[0]].squared[at[1]])
            ),
        )  # fmt: skip

    def layers(self) -> list[dict[str, Any]]:
        """By site: how many neurons part, how many go with errors, how far apart profiles are (root mean square)."""
        rows = []
        for site, own in self.partings.items():
            low, high = distance_interval(*own.mean, own.freedom)
            rows.append(
                {
                    "site": site.name, "units": site.units, "parted": len(self.neurons[site]),
                    "with_errors": len(self.with_errors[site]) if site in self.with_errors.sites else 0,
                    "apart": max(0.0, own.mean[0]) ** 0.5, "interval": [low, high],
                    "contents": len(own.contents), "content": own.contents[0].partition(":")[0],
                    "covered": own.covered,
                }
            )  # fmt: skip
        return rows

    def neuron(self, site: Site, unit: int) -> dict[str, Any]:
        """All that is told of a neuron that parts; distances in standard deviations of a step."""
        own = self.partings[site]
        most = (own.weights.sqrt() * own.difference[:, unit].abs()).topk(min(_TOP_CONTENTS, len(own.contents))).indices
        told: dict[str, Any] = {
            "site": site.name, "unit": unit, "apart": float(own.apart[unit]), "interval": list(own.interval(unit)),
            "q": float(self.q[site][unit]), "shift": float(own.shift[unit]),
            "shift_interval": list(own.shift_interval(unit)),
            "most_in": [
                {"content": own.contents[c].partition(":")[2] or own.contents[c],
                 "difference": float(own.difference[c, unit])} for c in most.tolist()
            ],
        }  # fmt: skip
        if site in self.links:
            link = self.links[site]
            told |= {
                "error_correlation": float(link.correlation[unit]), "error_interval": list(link.interval(unit)),
                "error_q": float(self.link_q[site][unit]), "with_errors": (site.name, unit) in self.with_errors,
            }  # fmt: skip
            further, error = float(link.further[unit]), float(link.further_error[unit])
            if isfinite(further) and isfinite(error):
                far = student_quantile(0.975, own.freedom) * error
                told |= {"further_where_wrong": further, "further_interval": [further - far, further + far]}
        return told


class _Errors:
    """Error rates of groups, with intervals over what is resampled."""

    def __init__(self, quality: Quality, of: Sequence[int], units: Sequence[int]) -> None:
        self.quality = quality
        self.place = next((n for n, metric in enumerate(quality.metrics) if not metric.higher), 0)
        self.metric: Metric = quality.metrics[self.place]
        self._of, self._units = np.array(of), np.array(units)
        each = quality.figures[self.place](quality.statistics[self.place])
        self.each = np.nan_to_num(each) * (-1 if self.metric.higher else 1)

    def group(self, numbers: Sequence[int]) -> Quality:
        """The quality of some groups, a row each speaker or example."""
        inside = np.isin(self._of, numbers)
        return self.quality.together([np.flatnonzero(inside & (self._units == u)) for u in self.units(numbers)])

    def units(self, numbers: Sequence[int]) -> list[int]:
        return sorted(set(self._units[np.isin(self._of, numbers)].tolist()))

    def count(self, number: int) -> int:
        return int((self._of == number).sum())

    def rate(self, numbers: Sequence[int]) -> tuple[float, tuple[float, float]]:
        own = self.group(numbers)
        return own.values()[self.metric.key], bootstrap_intervals(own)[self.metric.key]

    def difference(self, number: int, others: Sequence[int]) -> tuple[float, tuple[float, float]]:
        """How much more a group errs than others (for a metric of which more is better, how much less it has)."""
        one, other = self.group([number]), self.group(others)
        key, sign = self.metric.key, -1 if self.metric.higher else 1
        value = sign * (one.values()[key] - other.values()[key])
        low, high = sorted(sign * end for end in unpaired_intervals(one, other)[key])
        return value, (low, high)


@dataclass(frozen=True, eq=False)
class MeasuredBias:
    """What was found of groups `by` a key; `left_out` has the sizes of groups that were too small or too many."""

    model: Model
    by: str
    groups: tuple[str, ...]
    left_out: dict[str, int]
    unit: str
    folds: int
    level: float
    errors: _Errors
    compared: tuple[Compared, ...]

    @cached_property
    def names(self) -> dict[str, str]:
        """Short names of the sites, by name."""
        from adapt.report.heat_map import short_names

        names = list(dict.fromkeys(site.name for own in self.compared for site in own.partings))
        return dict(zip(names, short_names(names), strict=True))

    @cached_property
    def rates(self) -> list[dict[str, Any]]:
        """The error rate of each group, the highest first, with its interval and the difference from the others."""
        rows = []
        key = self.errors.metric.key
        compared = {own.group: own for own in self.compared}
        for number, name in enumerate(self.groups):
            value, interval = self.errors.rate([number])
            row: dict[str, Any] = {
                "group": name, "examples": self.errors.count(number), self.unit + "s": len(self.errors.units([number])),
                key: value, f"{key}_interval": list(interval),
            }  # fmt: skip
            if name in compared:
                difference, ends = self.errors.difference(number, compared[name].others)
                row |= {"against": compared[name].against, "difference": difference, "difference_interval": list(ends)}
            rows.append(row)
        return sorted(rows, key=lambda row: -row[key])

    @property
    def ordered(self) -> list[Compared]:
        """The comparisons, that of the group that is read worst first."""
        places = {row["group"]: place for place, row in enumerate(self.rates)}
        return sorted(self.compared, key=lambda own: places[own.group])

    @property
    def summary(self) -> Mapping[str, Any]:
        return {
            "by": self.by, "false_discoveries": self.level, "resampled": self.unit, "folds": self.folds,
            "left_out": self.left_out, "groups": self.rates,
            "comparisons": [
                {
                    "group": own.group, "against": own.against, "parted": len(own.neurons),
                    "with_errors": len(own.with_errors), "layers": own.layers(),
                    **({"moved": [moved.as_dict() for moved in own.moved]} if own.moved else {}),
                }
                for own in self.ordered
            ],
        }  # fmt: skip

    @property
    def told(self) -> str:
        from adapt.report.wording import counted

        worse = [own for own in self.ordered if self.errors.difference(own.number, own.others)[1][0] > 0]
        shown = worse[:3] or self.ordered[:1]
        said = " ".join(map(self.told_of, shown))
        others = len(self.compared) - len(shown)
        if others:
            clearly = ", none of which is clearly read worse," * (len(worse) <= len(shown))
            said += f" {counted(others, 'more comparison')}{clearly} {'is' if others == 1 else 'are'} on the page."
        return said

    def told_of(self, own: Compared) -> str:
        """A comparison in a sentence."""
        from adapt.report.wording import amount, counted, points_range

        metric = self.errors.metric
        rate, theirs = self.errors.rate([own.number])[0], self.errors.rate(own.others)[0]
        ends = self.errors.difference(own.number, own.others)[1]
        said = (
            f"{own.group}: {metric.label} {amount(rate, metric)} against {amount(theirs, metric)} of {own.against} "
            f"(difference {points_range(ends, metric)}); "
        )
        units = sum(site.units for site in own.partings)
        if not len(own.neurons):
            return said + f"no neuron of {units:,} parts beyond chance."
        where = own.site
        there, linked = own.neurons[where], own.with_errors
        here = len(linked[where]) if where in linked.sites else 0
        go = f"{here or 'none'} of which {'goes' if here == 1 else 'go'} with its errors"
        return (
            said + f"parts most at {self.names[where.name]}: {len(there):,} of {counted(where.units, 'neuron')}, {go} "
            f"(in all {len(own.neurons):,} of {units:,}, and {len(linked):,} with errors)."
        )

    def write(self, folder: Path, title: str, config: str, provenance: Mapping[str, Any]) -> list[Path]:
        from adapt.report.bias import write_bias

        pages = [folder / name for name in ("bias.html", "bias.json")]
        files = []
        for own in self.ordered:
            name = re.sub(r"[^\w]+", "-", own.group).strip("-") or f"group{own.number}"
            kept: list[tuple[str, Scores | Neurons]] = [(f"scores/{name}", own.scores)] if own.partings else []
            kept += [(f"neurons/{name}", own.neurons)] if len(own.neurons) else []
            kept += [(f"neurons/{name}-errors", own.with_errors)] if len(own.with_errors) else []
            for stem, value in kept:
                path = folder / f"{stem}.safetensors"
                if path in files:  # names that differ in their marks alone
                    path = folder / f"{stem}-{own.number}.safetensors"
                value.save(path, group=own.group, against=own.against, by=self.by, **provenance)
                files.append(path)
        details = {
            own.group: [own.neuron(site, unit) for site, unit in own.ranked()] for own in self.ordered
        }  # fmt: skip
        write_json(pages[1], {**self.summary, "neurons": details})
        write_bias(pages[0], self, title, config)
        return [*pages, *files]


def _check(level: Any, resample: Any, confirm: Any, content: Any) -> None:
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level < 1:
        raise InputError(f"measure.false_discoveries is a share between 0 and 1, got {level!r}.")
    if resample not in (None, "speaker", "example"):
        raise InputError(f"measure.resample must be speaker, example, or null for what fits, got {resample!r}.")
    if not isinstance(confirm, bool):
        raise InputError(f"measure.confirm is true or false, got {confirm!r}.")
    if content is not None and not isinstance(content, (str, Sequence)):
        raise InputError(f"measure.content is a key such as phoneme or aligned_letter, or none; got {content!r}.")


def _key(examples: Sequence[Example], least: int) -> str:
    for key in KEYS:
        count = Counter(example.group(key) for example in examples)
        if sum(size >= least for name, size in count.items() if name != "unknown") > 1:
            return key
    raise InputError(
        f"measure.by: the examples have no two groups of at least {least} by {', '.join(KEYS)}. Name another key of "
        "the data, give more examples, or lower measure.least."
    )


def _groups(examples: Sequence[Example], by: str, least: int, most: int) -> tuple[list[str], dict[str, int]]:
    """The names of the groups, and the sizes of those that are left out."""
    count = Counter(example.group(by) for example in examples)
    if list(count) == ["unknown"]:
        raise InputError(f"measure.by={by}: no example has '{by}'. Name a key of the data, such as accent or speaker.")
    large = [name for name, size in count.items() if size >= least and name != "unknown"]
    kept = sorted(sorted(large, key=lambda name: (-count[name], name))[:most])
    if len(kept) < 2:
        sizes = ", ".join(f"{name} {size}" for name, size in count.most_common(8))
        raise InputError(
            f"measure.by={by}: two groups of at least {least} examples are needed, and there are {sizes}. Give more "
            "examples, or lower measure.least."
        )
    return kept, {name: size for name, size in sorted(count.items()) if name not in kept}


def _contents(model: Model, examples: Sequence[Example], content: Any) -> list[str]:
    phonemes = any(getattr(example, "phonemes", ()) for example in examples)
    if content is None:
        if not hasattr(model, "generate"):
            return ["aligned_letter"]
        return ["phoneme", "token"] if phonemes and model.reader.unit != "tokens" else ["token"]
    if content == "none":
        return []
    return [content] if isinstance(content, str) else [str(key) for key in content]


def _units(examples: Sequence[Example], of: Sequence[int], by: str, resample: str | None) -> tuple[str, list[int]]:
    """What is resampled, as a word, and for each example its number."""
    speakers = [example.group("speaker") for example in examples]
    if resample is None:
        known = "unknown" not in speakers and by != "speaker"
        each: dict[int, set[str]] = {}
        for group, speaker in zip(of, speakers, strict=True):
            each.setdefault(group, set()).add(speaker)
        resample = "speaker" if known and min(map(len, each.values())) >= FEWEST_SPEAKERS else "example"
    if resample == "example":
        return "example", list(range(len(examples)))
    # One who is in two groups counts in each: what they have in common is not resampled.
    both = list(zip(of, speakers, strict=True))
    places = {own: place for place, own in enumerate(dict.fromkeys(both))}
    units = [places[own] for own in both]
    fewest = min(len({unit for unit, own in zip(units, of, strict=True) if own == group}) for group in set(of))
    if fewest < 4 or "unknown" in speakers:
        raise InputError(
            "measure.resample=speaker takes at least 4 speakers in each group, all of whom are known; there are "
            f"{fewest}. Use measure.resample=example, and remember that figures are of these speakers then."
        )
    return "speaker", units


def _folds(of: Sequence[int], units: Sequence[int]) -> list[int]:
    """The fold of each example: each group's units are dealt in turn, in an order that says nothing."""
    own: dict[int, list[int]] = {}
    for group, unit in dict.fromkeys(zip(of, units, strict=True)):
        own.setdefault(group, []).append(unit)
    count = min(FOLDS, *map(len, own.values()))
    dealt = {}
    for found in own.values():
        for place, unit in enumerate(sorted(found, key=lambda unit: (crc32(str(unit).encode()), unit))):
            dealt[unit] = place % count
    return [dealt[unit] for unit in units]


def _pairs(groups: Sequence[str], reference: str | None, errors: _Errors) -> list[tuple[int, list[int]]]:
    """Which group is held against which others."""
    numbers = range(len(groups))
    if reference is not None:
        other = groups.index(str(reference))
        return [(number, [other]) for number in numbers if number != other]
    if len(groups) == 2:
        worse = 0 if errors.difference(0, [1])[0] >= 0 else 1
        return [(worse, [1 - worse])]
    return [(number, [other for other in numbers if other != number]) for number in numbers]


def _discover(partings: Sequence[Parting], compared: Sequence[Compared], level: float) -> None:
    """Which neurons part, so that of all that are named at most `level` are expected to be chance's (Benjamini and
    Hochberg 1995), over all sites and groups together.
    """
    q = iter(_q_values([own.p for own in partings]))
    for own in compared:
        own.q = {site: next(q) for site in own.partings}
        own.neurons = Neurons({site: (q <= level).nonzero().flatten().tolist() for site, q in own.q.items()})


def _discover_links(compared: Sequence[Compared], links: Mapping[int, Mapping[Site, Link]], level: float) -> None:
    """Likewise, of the neurons that part, those that go with the group's errors."""
    places = [(own, site) for own in compared for site in links.get(own.number, {})]
    chosen = [list(own.neurons[site]) for own, site in places]
    found = _q_values([links[own.number][site].p[units] for (own, site), units in zip(places, chosen, strict=True)])
    for (own, site), units, q in zip(places, chosen, found, strict=True):
        own.links[site] = links[own.number][site]
        own.link_q[site] = torch.ones(site.units, dtype=torch.float64).index_copy(0, torch.tensor(units), q)
    for own in compared:
        own.with_errors = Neurons(
            {site: [unit for unit in own.neurons[site] if own.link_q[site][unit] <= level] for site in own.links}
        )


def _q_values(p: Sequence[Tensor]) -> list[Tensor]:
    from scipy.stats import false_discovery_control

    if not p:
        return []
    flat = torch.from_numpy(false_discovery_control(torch.cat(list(p)).clamp(0, 1).numpy()))
    return list(flat.split([len(own) for own in p]))
