"""Compare groups block by block of sites, so that the sums of a large model never take more than a budget.

The sums take `4 * groups * folds * contents` bytes a neuron: 3.7 GB for the 227,000 neurons of a large wav2vec2, two
groups, 32 folds and 60 phonemes. Where they exceed the budget, the corpus is read once for each block, and once more
for each block with diverging neurons. The results are the same.
"""

from collections.abc import Mapping, Sequence

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.introspect.bias.divergence import Divergence, group_divergence
from adapt.introspect.bias.error_link import ErrorLink, link_errors
from adapt.introspect.bias.sums import ContentSums, read_content
from adapt.introspect.profiles.groups import Grouping
from adapt.introspect.profiles.read import group_names
from adapt.models.model import Model
from interventions.sites import Site

BUDGET = 1_500_000_000  # bytes of sums that are kept at once


class StreamedSums:
    """The sums of a corpus, read block by block. The arguments are those of `read_content`."""

    def __init__(
        self,
        model: Model,
        examples: Sequence[Example],
        loader: Loader,
        contents: Sequence[Grouping],
        groups: Sequence[int],
        folds: Sequence[int],
        sites: Sequence[Site],
    ) -> None:
        self._model, self._examples, self._loader, self._contents = model, examples, loader, contents
        self._groups, self._folds = groups, folds
        cells = (max(groups) + 1) * (max(folds) + 1) + 2
        self.blocks = blocks_of(sites, 4 * cells * len(group_names(contents)), BUDGET)
        self._last: tuple[int, ContentSums] | None = None

    def divergences(self, pairs: Sequence[tuple[int, Sequence[int]]]) -> list[dict[Site, Divergence]]:
        """Return the divergence at each site, for each pair of a group and its reference groups."""
        found: list[dict[Site, Divergence]] = [{} for _ in pairs]
        for number, sites in enumerate(self.blocks):
            sums = self._sums(number)
            for (group, others), by_site in zip(pairs, found, strict=True):
                for site in sites:
                    divergence = group_divergence(sums, site, [group], others)
                    if divergence is not None:
                        by_site[site] = divergence
        return found

    def links(
        self, errors: Sequence[float], by_speaker: bool, divergences: Mapping[int, Sequence[Divergence]]
    ) -> dict[int, dict[Site, ErrorLink]]:
        """Link divergences with errors. The arguments and the result are those of `link_errors`."""
        found: dict[int, dict[Site, ErrorLink]] = {group: {} for group in divergences}
        for number in reversed(range(len(self.blocks))):  # the sums of the last block are still there
            sites = set(self.blocks[number])
            here = {group: [one for one in several if one.site in sites] for group, several in divergences.items()}
            here = {group: several for group, several in here.items() if several}
            if not here:
                continue
            read = (self._model, self._examples, errors, self._loader, self._contents, self._groups, self._folds)
            for group, by_site in link_errors(*read, self._sums(number), by_speaker, here).items():
                found[group] |= by_site
        # In the order of the divergences, whatever the blocks.
        return {group: {one.site: found[group][one.site] for one in divergences[group]} for group in found}

    def _sums(self, number: int) -> ContentSums:
        if self._last is None or self._last[0] != number:
            self._last = None  # free before the next is taken
            read = (self._model, self._examples, self._loader, self._contents, self._groups, self._folds)
            self._last = number, read_content(*read, self.blocks[number])
        return self._last[1]


def blocks_of(sites: Sequence[Site], bytes_per_unit: int, budget: int) -> list[list[Site]]:
    """Deal sites, in order, into blocks whose sums take at most `budget` bytes, or that have a single site."""
    blocks: list[list[Site]] = []
    taken = 0
    for site in sites:
        needed = site.units * bytes_per_unit
        if not blocks or taken + needed > budget:
            blocks.append([])
            taken = 0
        blocks[-1].append(site)
        taken += needed
    return blocks
