"""Compare the neurons of two models: activation profiles, representational similarity, probes and maps."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.subset import evenly
from adapt.errors import InputError
from adapt.introspect.probes.probe import Probe, probe
from adapt.introspect.profiles.groupings import fitting_keys, groupings
from adapt.introspect.profiles.groups import ByUnit, Grouping
from adapt.introspect.profiles.jackknife import profile_change, profile_change_size
from adapt.introspect.profiles.profiles import Profiles
from adapt.introspect.profiles.read import read_profiles
from adapt.introspect.profiles.trace import ForwardTrace, TimeBase
from adapt.introspect.reading import learnable
from adapt.introspect.similarity.similarity import Similarity, similarity
from adapt.introspect.topography.draw_maps import draw_maps
from adapt.introspect.topography.maps import TopographicMap
from adapt.models.model import DecoderModel, Model
from interventions.neurons import Scores
from interventions.sites import Site, site_at

log = logging.getLogger(__name__)
FAMILY_WISE_ERROR = 0.01  # probability of at least one false positive among all neurons
MAX_SITES = 16
MAX_MAPS = 3
MIN_PROBED = 20  # minimum number of examples of each of two accents or domains
_LISTED = 5  # neurons listed per site


@dataclass(frozen=True)
class NeuronChange:
    """How much the profile of one neuron changed, in standard deviations of its activation in the original model.

    `change` is the root mean square over the groups; `interval` is its 95 % interval (jackknife over the examples).
    """

    unit: int
    change: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class SiteComparison:
    """How the activations of one site changed.

    `cka` is the CKA between the site's activations before and after (1: identical up to rotation and scale), None if
    unknown. `changed` counts the neurons whose profile changed significantly; `most_changed` lists those that changed
    most.
    """

    site: str
    units: int
    cka: float | None
    changed: int
    most_changed: list[NeuronChange]


@dataclass(frozen=True)
class NeuronComparison:
    """The neurons of two models on the same examples.

    Attributes:
        group_by: What the steps are grouped by to make profiles: phoneme, letter, token, ...
        examples: The number of examples.
        sites: The compared sites from input to output.
        similarity: The CKA between each site of the original model and each site of the adapted one.
        maps: Topographic maps of the sites that changed most.
        probes: Linear probes for the accent or domain, before and after. None if the data have neither two accents nor
            two domains.
    """

    group_by: str
    examples: int
    sites: list[SiteComparison]
    similarity: Similarity
    maps: list[TopographicMap]
    probes: tuple[Probe, Probe] | None


def compare_neurons(
    before: Model,
    after: Model,
    sets: Mapping[str, Sequence[Example]],
    loader: Loader,
    max_examples: int = 100,
    cells: Mapping[str, Sequence[int]] | None = None,
) -> NeuronComparison:
    """Profile two models on the same examples and compare them neuron by neuron and layer by layer.

    Each layer is represented by one site, a convolution or the output of a block, and at most `MAX_SITES` layers are
    compared, evenly spaced. A site whose steps cannot be assigned to groups (those of a speech encoder have no tokens)
    has a CKA but no profile. An output layer that was rebuilt for another alphabet is left out, because its units have
    no counterpart. Examples too short to have a step at every site are left out.

    Args:
        before: The original model.
        after: The adapted model, of the same architecture.
        sets: The examples of each set.
        loader: Makes batches of the examples.
        max_examples: The maximum number of examples to use from each set, spread evenly over it.
        cells: The grid cell of each unit, by name of each site with a grid. The site's map is drawn on that grid.

    Returns:
        The comparison, with plain data only.

    Raises:
        InputError: No example can be read, the examples cannot be divided into two groups, or they are too few to
            estimate errors.
    """
    chosen, set_names, sites = _readable(before, after, sets, max_examples)
    group_by, made = common_groupings(before, chosen, set_names)
    profiles_before, profiles_after = (read_profiles(model, chosen, loader, made, sites) for model in (before, after))
    try:
        change = profile_change(profiles_before, profiles_after, group_by)
        size = profile_change_size(profiles_before, profiles_after, group_by)
    except ValueError as error:
        raise InputError(f"The neurons cannot be compared: {error}") from None
    flagged, sizes, intervals = change.significant(FAMILY_WISE_ERROR), change.scores(), size.interval()
    cka = similarity(before, chosen, loader, after, sites)
    profiled = [site for site in sites if site in sizes.sites]
    rows = [
        SiteComparison(
            site.name,
            site.units,
            _site_cka(cka, site),
            len(flagged[site]),
            _most_changed(sizes[site], *intervals[site]),
        )
        for site in profiled
    ]
    maps = _maps(profiles_before, profiles_after, group_by, cells, _most_changed_sites(profiled, sizes))
    return NeuronComparison(group_by, len(chosen), rows, cka, maps, _probes(before, after, chosen, loader, sites))


def common_groupings(first: Model, examples: Sequence[Example], sets: Sequence[str]) -> tuple[str, list[Grouping]]:
    """Choose what steps are grouped by, and return its name with groupings that are the same for both models.

    Steps are grouped by the reference text, not by a model's output, so that a step is in the same group for both
    models. The activations of `first` must be read before those of the other model.
    """
    group_by = fitting_keys(first, examples, sets)[0]
    if group_by != "letter":
        return group_by, groupings(first, examples, [group_by], sets)
    made = groupings(first, examples, ["aligned_letter"], sets)
    letters = made[-1]
    assert isinstance(letters, ByUnit)
    made[-1] = _SharedAlignment(letters)
    return "aligned_letter", made


class _SharedAlignment(Grouping):
    """The forced alignment of the model that is read first, reused for the other model."""

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


def _readable(
    before: Model, after: Model, sets: Mapping[str, Sequence[Example]], max_examples: int
) -> tuple[list[Example], list[str], list[Site]]:
    """Return the examples that both models can read, the set of each example, and the sites to compare."""
    read: dict[str, Sequence[Example]] = {name: evenly(examples, max_examples) for name, examples in sets.items()}
    if isinstance(after, DecoderModel):  # a decoder also reads the reference texts
        read = {name: learnable(after, examples) for name, examples in read.items()}
    units_before = {site.name: site.units for site in before.sites}
    sites = [site for site in _layer_sites(after) if units_before.get(site.name, site.units) == site.units]
    read = {name: _long_enough(after, sites, examples) for name, examples in read.items()}
    chosen = [example for examples in read.values() for example in examples]
    if not chosen:
        raise InputError("The neurons cannot be compared: the models can read none of the examples.")
    return chosen, [name for name, examples in read.items() for _ in examples], sites


def _long_enough(model: Model, sites: Sequence[Site], examples: Sequence[Example]) -> list[Example]:
    """Return the examples that have a step at every site, and log the others."""
    kept = []
    for example in examples:
        length = torch.tensor([len(model.reader.read(example))])
        tokens = torch.tensor([len(model.target(example))]) if isinstance(model, DecoderModel) else None
        missing = next((site for site in sites if int(model.valid_lengths(site, length, tokens)) < 1), None)
        if missing is None:
            kept.append(example)
        else:
            where = example.where or example.name
            log.warning("Skipping %s in the neuron comparison: it is too short to reach '%s'.", where, missing.name)
    return kept


def _layer_sites(model: Model) -> list[Site]:
    """Return one site per layer, at most `MAX_SITES`, evenly spaced."""
    by_name = {site.name: site for site in model.sites}
    sites = []
    for layer in model.layers:
        if layer.name in by_name:
            sites.append(by_name[layer.name])
            continue
        inner = [by_name[name] for name in layer.modules if name in by_name]
        if inner:  # a block: its output, with the part and step of its last site
            try:
                sites.append(site_at(model, layer.name, part=inner[-1].part, step=inner[-1].step))
            except ValueError:
                sites.append(inner[-1])
    if len(sites) <= MAX_SITES:
        return sites
    return [sites[i * (len(sites) - 1) // (MAX_SITES - 1)] for i in range(MAX_SITES)]


def _site_cka(cka: Similarity, site: Site) -> float | None:
    value = cka.between(site.name, site.name)
    return value if value == value else None  # NaN if undefined


def _most_changed(sizes: Tensor, low: Tensor, high: Tensor) -> list[NeuronChange]:
    units = sizes.topk(min(_LISTED, len(sizes))).indices.tolist()
    return [NeuronChange(unit, float(sizes[unit]), (max(0.0, float(low[unit])), float(high[unit]))) for unit in units]


def _most_changed_sites(sites: Sequence[Site], sizes: Scores) -> set[str]:
    """Return the names of the `MAX_MAPS` sites whose profiles changed most."""
    by_change = sorted(sites, key=lambda site: -float(sizes[site].square().mean()))
    return {site.name for site in by_change[:MAX_MAPS]}


def _maps(
    before: Profiles,
    after: Profiles,
    group_by: str,
    cells: Mapping[str, Sequence[int]] | None,
    names: set[str],
) -> list[TopographicMap]:
    try:
        drawn = draw_maps([before.pooled(), after.pooled()], group_by, cells=cells)
    except InputError:  # too few steps for a map
        return []
    return [one for one in drawn if one.name in names]


def _probes(
    before: Model, after: Model, examples: Sequence[Example], loader: Loader, sites: Sequence[Site]
) -> tuple[Probe, Probe] | None:
    for key in ("accent", "domain"):
        values = [example.group(key) for example in examples]
        # A quarter of the examples is held out. With fewer, the accuracy would be too uncertain to report.
        if sum(values.count(value) >= MIN_PROBED for value in set(values) - {"unknown"}) >= 2:
            speakers = {example.group("speaker") for example in examples}
            split = "speaker" if key == "accent" and len(speakers) >= 8 else "example"
            try:
                old = probe(before, examples, loader, key, sites=sites, split_by=split)
                return old, probe(after, examples, loader, key, sites=sites, split_by=split)
            except InputError:  # for example, no split by speaker has both accents on both sides
                return None
    return None
