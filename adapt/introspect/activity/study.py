"""Study all neurons over a corpus: what each one responds to, and when it is most active.

study = study_neurons(model, examples)
study.responses("net.acoustic_model.conv3", 7)      # letters or phonemes, the most exciting first
study.moments.of("net.acoustic_model.conv3", 7)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adapt.checks import check_count
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.errors import InputError
from adapt.introspect.activity.activity import layer_sites, read_activity
from adapt.introspect.activity.strongest import Moments
from adapt.introspect.profiles.groupings import groupings
from adapt.introspect.profiles.profiles import Profiles
from adapt.introspect.profiles.read import read_profiles
from adapt.models.model import CTCModel, Model
from interventions.sites import Site

AT_ONCE = 4  # examples between two calls of `told`
MIN_STEPS = 5
FINEST = 0.01  # seconds: shorter steps are averaged for the moments


@dataclass(frozen=True)
class Response:
    """How a neuron responds to a group of steps.

    Attributes:
        group: The letter, phoneme or token.
        contrast: How much more active it is there than in the other groups, in standard deviations (Cohen's d).
        steps: The number of steps of the group.
    """

    group: str
    contrast: float
    steps: int


@dataclass(frozen=True, eq=False)
class NeuronStudy:
    """What `study_neurons` returns.

    Attributes:
        profiles: The profiles of all sites.
        moments: The strongest moments; their examples are numbered as they were given.
        examples: The number of examples.
    """

    profiles: Profiles
    moments: Moments
    examples: int

    def key_at(self, site: Site | str) -> str | None:
        """Return the first key by which a site has profiles of two groups with enough steps; None if there is none."""
        return next((key for key in self.profiles.keys if len(self.groups_at(site, key)) > 1), None)

    def groups_at(self, site: Site | str, key: str) -> list[str]:
        """Return the groups of a key with at least `MIN_STEPS` steps at a site."""
        return [group for group in self.profiles.groups_at(site, key) if self.profiles.steps(site, group) >= MIN_STEPS]

    def responses(self, site: Site | str, unit: int) -> list[Response]:
        """Return how a neuron responds to each group, the most exciting first; an empty list without profiles."""
        key = self.key_at(site)
        if key is None:
            return []
        groups = self.groups_at(site, key)
        values = self.profiles.contrasts(site, key, groups)[:, unit].tolist()
        found = [
            Response(group.partition(":")[2], value, self.profiles.steps(site, group))
            for group, value in zip(groups, values, strict=True)
        ]
        return sorted(found, key=lambda response: -response.contrast)

    def means(self, site: Site | str) -> dict[str, Tensor]:
        """Return the mean activation of all units in each group, `(units,)` by its name; empty without profiles."""
        key = self.key_at(site)
        if key is None:
            return {}
        groups = self.groups_at(site, key)
        rows = self.profiles.mean(site, groups).float()
        return {group.partition(":")[2]: row for group, row in zip(groups, rows, strict=True)}


def study_neurons(
    model: Model,
    examples: Sequence[Example],
    loader: Loader | None = None,
    told: Callable[[float], None] = lambda share: None,
) -> NeuronStudy:
    """Profile all neurons of the layers over examples, and note their strongest moments.

    The groups are phonemes, if the examples have their times, else the letters that a CTC model writes, or the tokens
    that a decoder reads.

    Args:
        model: The model.
        examples: What it reads, with texts for a decoder.
        loader: Makes the batches; None for the default.
        told: Called with the share that is done, before each few examples; it may raise an error to stop.

    Raises:
        InputError: There are no examples, or one cannot be read.
    """
    check_count("the number of examples", len(examples), 1)
    sites = list(layer_sites(model).values())
    keys = ["phoneme"] if any(example.phonemes for example in examples) else []
    keys.append("letter" if isinstance(model, CTCModel) else "token")
    groups = groupings(model, examples, keys)
    moments, profiles = Moments(), None
    at_once = AT_ONCE if model.reader.window is None else 1  # a window of 30 s takes long
    for first in range(0, len(examples), at_once):
        told(first / len(examples))
        chunk = examples[first : first + at_once]
        for number, example in enumerate(chunk, first):
            moments.add(number, read_activity(model, example, finest=FINEST))
        own = _profiled(model, chunk, loader or Loader(), groups, sites)
        profiles = own if profiles is None else profiles + own
    assert profiles is not None
    return NeuronStudy(profiles, moments, len(examples))


def _profiled(model: Model, examples: Sequence[Example], loader: Loader, groups: list, sites: list[Site]) -> Profiles:
    try:
        with torch.enable_grad():
            return read_profiles(model, examples, loader, groups, sites, folds=1)
    except ValueError as error:
        raise InputError(str(error)) from None
