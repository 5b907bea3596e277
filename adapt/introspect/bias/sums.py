"""Sums of activations by group of examples, fold and content: what neurons do for each group when it says the same.

Groups of people say different things, and a neuron that answers to "s" is more active for whoever says it more. So
steps are summed apart by their content (the letter, token or phoneme that a step belongs to), and groups compared
within each. Only sums are kept, whatever the size of the corpus, and padding has no content.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.introspect.activations import valid_lengths
from adapt.introspect.profiles.groups import Clock, Grouping, clock_of
from adapt.introspect.profiles.read import batches_of, forward, group_names, membership
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from interventions.capture import capture
from interventions.sites import Site


class ContentSums:
    """Sums over the steps of each group, fold and content at each site.

    `contents` are `all`, and after it the contents by key (`aligned_letter:a`). The sums at a site are
        steps       (groups, folds, contents)           how many
        activation  (groups, folds, contents, units)    of a, in 32 bits: these are what takes memory
        square      (contents, units)                   of a * a
    """

    def __init__(self, sites: Sequence[Site], groups: int, folds: int, contents: Sequence[str]) -> None:
        self.sites, self.groups, self.folds, self.contents = tuple(sites), groups, folds, tuple(contents)
        cells = (groups, folds, len(self.contents))
        self.sums = {
            site.name: {
                "steps": torch.zeros(cells, dtype=torch.float64),
                "activation": torch.zeros(*cells, site.units),
                "square": torch.zeros(len(self.contents), site.units, dtype=torch.float64),
            }
            for site in self.sites
        }

    def to(self, device: torch.device | str) -> "ContentSums":
        """Move the sums, and return itself."""
        for own in self.sums.values():
            own.update({name: total.to(device) for name, total in own.items()})
        return self

    @torch.no_grad()
    def update(self, site: Site, cells: Tensor, members: Tensor, contents: Tensor, x: Tensor) -> None:
        """Take in a batch's activations `(batch, time, units)`.

        `cells` `(batch,)` is each example's group times the number of folds, plus its fold. `members` `(batch, own
        contents, time)` is 1 where a step has a content, and `contents` `(batch, own contents)` says which these are.
        """
        own, members = self.sums[site.name], members.to(x)
        rows = (cells.unsqueeze(1) * len(self.contents) + contents).flatten()
        own["steps"].view(-1).index_add_(0, rows, members.sum(2).flatten().double())
        own["activation"].view(-1, site.units).index_add_(0, rows, torch.bmm(members, x).flatten(0, 1).float())
        squares = torch.bmm(members, x.square()).flatten(0, 1).double()
        own["square"].index_add_(0, contents.flatten(), squares)

    def all_reduce(self) -> "ContentSums":
        """What all processes of `torch.distributed` have seen, in each of them; itself where there is one."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for own in self.sums.values():
                for total in own.values():
                    torch.distributed.all_reduce(total)
        return self

    def of(self, site: Site) -> list[int]:
        """Which contents to compare within at a site: those of the first key that its steps have; else `all`."""
        steps = self.sums[site.name]["steps"].sum((0, 1))
        keys = [content.partition(":")[0] for content in self.contents]
        for key in dict.fromkeys(keys[1:]):
            own = [place for place, known in enumerate(keys) if known == key and steps[place] > 0]
            if own:
                return own
        return [0]


def read_content(
    model: Model,
    examples: Sequence[Example],
    loader: Loader,
    contents: Sequence[Grouping],
    groups: Sequence[int],
    folds: Sequence[int],
    sites: Sequence[Site],
) -> ContentSums:
    """One forward pass a batch. `groups` and `folds` have a number for each example; `contents` begin with all steps.

    Raises:
        ValueError: an activation is not finite.
    """
    count = max(folds) + 1
    device = next(model.parameters()).device
    sums = ContentSums(sites, max(groups) + 1, count, group_names(contents)).to(device)
    with eval_mode(model), torch.no_grad():
        for numbers, batch in batches_of(model, examples, loader, "groups"):
            with capture(model, sites) as acts:
                seen, _ = forward(model, batch, numbers)
            steps = valid_lengths(model, batch)
            cells = torch.tensor([groups[number] * count + folds[number] for number in numbers], device=device)
            shared: dict[tuple[Clock, int], tuple[Tensor, Tensor]] = {}  # by sites of one clock
            for site in sites:
                x = acts[site]
                key = (clock_of(model, site), x.shape[1])
                if key not in shared:
                    found = membership(contents, seen, key[0], steps(site).tolist(), x.shape[1])
                    members, own = occurring(found)
                    shared[key] = members.to(device), own.to(device)
                members, own = shared[key]
                sums.update(site, cells, members, own, x)
    sums.all_reduce()  # before anything is raised: other processes would wait for this one's
    for name, own in sums.sums.items():
        if not own["activation"].isfinite().all():
            raise ValueError(f"'{name}': an activation is not finite. Is it a 16-bit model? Measure it in 32 bits.")
    return sums.to("cpu")


def occurring(members: Tensor) -> tuple[Tensor, Tensor]:
    """Of `members` `(batch, contents, time)` the rows of the contents that each example has, `(batch, own contents,
    time)`, and which contents these are, `(batch, own contents)`; an example with fewer than another has empty rows
    besides.
    """
    has = members.any(2)
    own = has.to(torch.int8).sort(dim=1, descending=True, stable=True).indices[:, : max(1, int(has.sum(1).max()))]
    return members.gather(1, own.unsqueeze(-1).expand(-1, -1, members.shape[2])), own
