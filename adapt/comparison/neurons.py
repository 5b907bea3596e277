"""What the neurons of a model do after an adaptation that they did not do before: the inside of a comparison."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.introspect.probes.probe import Probe, probe
from adapt.introspect.profiles.groupings import fitting_keys, groupings
from adapt.introspect.profiles.groups import ByUnit, Grouping
from adapt.introspect.profiles.jackknife import profile_change, profile_change_size
from adapt.introspect.profiles.read import read_profiles
from adapt.introspect.profiles.trace import ForwardTrace, TimeBase
from adapt.introspect.reading import evenly, learnable
from adapt.introspect.similarity.similarity import Similarity, similarity
from adapt.introspect.topography.draw_maps import draw_maps
from adapt.introspect.topography.maps import TopographicMap
from adapt.models.model import DecoderModel, Model
from interventions.sites import Site, site_at

log = logging.getLogger(__name__)
LEVEL = 0.01  # of a wrong flag among all neurons together
MOST_SITES = 16
MOST_MAPS = 3
FEWEST_PROBED = 20  # examples of each of two accents or domains
_TOP = 5  # neurons of a site that are named


@dataclass(frozen=True)
class SiteComparison:
    """How one site changed: `alike` is the CKA of its activations before with those after (1: the same but for a turn).

    `flagged` neurons have a profile that changed beyond the noise of the examples; `top` are those that changed most:
    unit, and by how many of its standard deviations (root of the mean square over the groups); `intervals` are the 95 %
    interval of each (jackknife over the examples).
    """

    site: str
    units: int
    alike: float | None
    flagged: int
    top: list[tuple[int, float]]
    intervals: list[tuple[float, float]]


@dataclass(frozen=True)
class NeuronComparison:
    """What `examples` show of the neurons before and after. Profiles are by `key` (phoneme, letter, token, ...).

    `maps` are of the sites that changed most, `probes` of a key of the data (accent, domain), before and after; none
    where the data have no two values of it.
    """

    key: str
    examples: int
    sites: list[SiteComparison]
    similarity: Similarity
    maps: list[TopographicMap]
    probes: tuple[Probe, Probe] | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `comparison.json`; without maps."""
        matrix = [[None if value != value else value for value in row] for row in self.similarity.matrix.tolist()]
        rows = [[asdict(row) for row in own.rows] for own in self.probes or ()]
        probes = self.probes and {
            "target": self.probes[0].target, "chance": self.probes[0].chance, "before": rows[0], "after": rows[1],
        }  # fmt: skip
        return {
            "key": self.key, "examples": self.examples, "sites": [asdict(site) for site in self.sites],
            "similarity": matrix, "probes": probes,
        }  # fmt: skip


def compare_neurons(
    before: Model,
    after: Model,
    sets: Mapping[str, Sequence[Example]],
    loader: Loader,
    examples: int = 100,
    cells: Mapping[str, Sequence[int]] | None = None,
) -> NeuronComparison:
    """Profile both models on at most `examples` of each set, and compare them neuron by neuron and layer by layer.

    One site stands for each layer, at most 16 of them, evenly spaced: a convolution, or what a block puts out. Where no
    step of a site can be said to be of a group (an encoder of speech, by token), it has a CKA and no profile. An output
    layer that was rebuilt for another alphabet is left out: its units are others. So is an example that is too short
    for one of the sites to have a step of it. Sites in `cells` are drawn on grids.

    Raises:
        InputError: the examples do not have two groups of anything, or are too few for error bars.
    """
    read = {name: evenly(found, examples) for name, found in sets.items()}
    if isinstance(after, DecoderModel):  # a decoder reads the references
        read = {name: learnable(after, found) for name, found in read.items()}
    theirs = {site.name: site.units for site in before.sites}
    sites = [site for site in _sites(after) if theirs.get(site.name, site.units) == site.units]
    read = {name: _with_steps(after, sites, found) for name, found in read.items()}
    chosen = [example for found in read.values() for example in found]
    names = [name for name, found in read.items() for _ in found]
    if not chosen:
        raise InputError("The neurons cannot be compared: there is no example whose text the models can read.")
    key, made = common_groupings(before, chosen, names)
    profiles = [read_profiles(model, chosen, loader, made, sites) for model in (before, after)]
    try:
        change, sizes = profile_change(*profiles, key), profile_change_size(*profiles, key)
    except ValueError as error:
        raise InputError(f"The neurons cannot be compared: {error}") from None
    flagged, size, ends = change.significant(LEVEL), change.scores(), sizes.interval()
    alike = similarity(before, chosen, loader, after, sites)
    found = []
    for site in sites:
        if site not in size.sites:
            continue
        values = size[site]
        best = values.topk(min(_TOP, site.units)).indices.tolist()
        own = alike.between(site.name, site.name)
        found.append(
            SiteComparison(
                site.name, site.units, own if own == own else None, len(flagged[site]),
                [(unit, float(values[unit])) for unit in best],
                [(max(0.0, float(ends[site][0][unit])), float(ends[site][1][unit])) for unit in best],
            )
        )  # fmt: skip
    most = sorted(found, key=lambda own: -float(size[_named(sites, own.site)].square().mean()))[:MOST_MAPS]
    drawn = {own.site for own in most}
    try:
        pooled = [own.pooled() for own in profiles]
        maps = [own for own in draw_maps(pooled, key, cells=cells) if own.name in drawn]
    except InputError:  # too few steps for a picture
        maps = []
    return NeuronComparison(key, len(chosen), found, alike, maps, _probes(before, after, chosen, loader, sites))


def common_groupings(first: Model, examples: Sequence[Example], sets: Sequence[str]) -> tuple[str, list[Grouping]]:
    """What steps are grouped by, and the groupings, for two models of which `first` is read first.

    By what is said, not by what the models write: both are to have the same steps in the same groups.
    """
    key = fitting_keys(first, examples, sets)[0]
    if key != "letter":
        return key, groupings(first, examples, [key], sets)
    made = groupings(first, examples, ["aligned_letter"], sets)
    made[-1] = _AlignedOnce(made[-1])
    return "aligned_letter", made


class _AlignedOnce(Grouping):
    """Forced alignment by the model that is read first, also for the one that is read afterwards."""

    def __init__(self, letters: ByUnit) -> None:
        self.key, self.names, self.table = letters.key, letters.names, letters.table
        self.aligned: dict[int, Tensor | None] = {}

    def label(self, trace: ForwardTrace, time_base: TimeBase, row: int, steps: int) -> Tensor | None:
        number = trace.numbers[row]
        if number not in self.aligned:
            self.aligned[number] = trace.aligned[row]
        units = self.aligned[number]
        if units is None or time_base.kind != trace.output.kind:
            return None
        return trace.on_time_base(time_base, steps, self.table[units])


def _with_steps(model: Model, sites: Sequence[Site], examples: Sequence[Example]) -> list[Example]:
    """The examples that have a step of their own at each site; the others are named in the log."""
    fit = []
    for example in examples:
        length = torch.tensor([len(model.reader.read(example))])
        tokens = torch.tensor([len(model.encode(example.text))]) if isinstance(model, DecoderModel) else None
        short = next((site for site in sites if int(model.valid_lengths(site, length, tokens)) < 1), None)
        if short is None:
            fit.append(example)
        else:
            log.warning(
                "The neurons are compared without %s: it is too short for '%s' to have a step of it.",
                example.where or example.name, short.name,
            )  # fmt: skip
    return fit


def _sites(model: Model) -> list[Site]:
    sites = {site.name: site for site in model.sites}
    own = []
    for layer in model.layers:
        if layer.name in sites:
            own.append(sites[layer.name])
            continue
        last = [sites[name] for name in layer.modules if name in sites]
        if last:  # a block: what its last map puts out, with that map's part and step
            try:
                own.append(site_at(model, layer.name, part=last[-1].part, step=last[-1].step))
            except ValueError:
                own.append(last[-1])
    if len(own) <= MOST_SITES:
        return own
    return [own[i * (len(own) - 1) // (MOST_SITES - 1)] for i in range(MOST_SITES)]


def _named(sites: Sequence[Site], name: str) -> Site:
    return next(site for site in sites if site.name == name)


def _probes(
    before: Model, after: Model, examples: Sequence[Example], loader: Loader, sites: Sequence[Site]
) -> tuple[Probe, Probe] | None:
    for key in ("accent", "domain"):
        values = [example.group(key) for example in examples]
        # From fewer, a quarter of which is tested, nobody should conclude anything.
        if sum(values.count(value) >= FEWEST_PROBED for value in set(values) - {"unknown"}) >= 2:
            speakers = {example.group("speaker") for example in examples}
            split = "speaker" if key == "accent" and len(speakers) >= 8 else "example"
            try:
                old = probe(before, examples, loader, key, sites=sites, split_by=split)
                return old, probe(after, examples, loader, key, sites=sites, split_by=split)
            except InputError:  # speakers, say, that do not fall into two halves with both accents
                return None
    return None
