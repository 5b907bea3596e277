"""Sums of activations by group of examples, fold and content, to compare groups on the same content.

Groups of people say different things, and a neuron that responds to "s" is more active for whoever says it more. So
steps are summed by their content (their letter, token or phoneme), and groups are compared within each content. Only
sums are kept, so memory does not grow with the corpus. Padding has no content.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.introspect.activations import valid_lengths
from adapt.introspect.profiles.groups import Grouping
from adapt.introspect.profiles.read import batches_of, forward, group_names, membership
from adapt.introspect.profiles.trace import TimeBase, time_base_of
from adapt.memory import check_memory
from adapt.models.inference import eval_mode
from adapt.models.model import Model
from interventions.capture import capture
from interventions.sites import Site


class ContentSums:
    """Sums over the steps of each group, fold and content at each site.

    `contents` are `all`, then the contents with their key (`aligned_letter:a`). The sums at a site are
        steps       (groups, folds, contents)           the count
        activation  (groups, folds, contents, units)    of a, in 32 bits because these sums take the most memory
        square      (contents, units)                   of a * a
    """

    def __init__(self, sites: Sequence[Site], groups: int, folds: int, contents: Sequence[str]) -> None:
        self.sites, self.groups, self.folds, self.contents = tuple(sites), groups, folds, tuple(contents)
        cells = (groups, folds, len(self.contents))
        units = sum(site.units for site in self.sites)
        needed = units * (4 * groups * folds * len(self.contents) + 8 * len(self.contents))
        what = f"The sums of {units:,} neurons for {groups} groups, {folds} folds and {len(self.contents)} contents"
        check_memory(needed, what, "Give fewer sites, groups or contents.")
        self.sums = {
            site.name: {
                "steps": torch.zeros(cells, dtype=torch.float64),
                "activation": torch.zeros(*cells, site.units),
                "square": torch.zeros(len(self.contents), site.units, dtype=torch.float64),
            }
            for site in self.sites
        }

    def to(self, device: torch.device | str) -> "ContentSums":
        """Move the sums to a device, in place. Returns the object."""
        for sums in self.sums.values():
            sums.update({name: total.to(device) for name, total in sums.items()})
        return self

    @torch.no_grad()
    def update(self, site: Site, cells: Tensor, members: Tensor, contents: Tensor, x: Tensor) -> None:
        """Add a batch of activations at a site.

        Args:
            site: The site.
            cells: `group * folds + fold` of each example, `(batch,)`.
            members: 1 for a step with a content, else 0, `(batch, contents of the example, time)`.
            contents: The indices of these contents, `(batch, contents of the example)`.
            x: The activations, `(batch, time, units)`.
        """
        sums, members = self.sums[site.name], members.to(x)
        rows = (cells.unsqueeze(1) * len(self.contents) + contents).flatten()
        sums["steps"].view(-1).index_add_(0, rows, members.sum(2).flatten().double())
        sums["activation"].view(-1, site.units).index_add_(0, rows, torch.bmm(members, x).flatten(0, 1).float())
        squares = torch.bmm(members, x.square()).flatten(0, 1).double()
        sums["square"].index_add_(0, contents.flatten(), squares)

    def all_reduce(self) -> "ContentSums":
        """Add up the sums of all processes of `torch.distributed`, in place. Returns the object."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            for sums in self.sums.values():
                for total in sums.values():
                    torch.distributed.all_reduce(total)
        return self

    def contents_at(self, site: Site) -> list[int]:
        """Return the indices of the contents within which groups are compared at a site.

        They are those of the first key that has steps at the site, or `all` if no key has any.
        """
        steps = self.sums[site.name]["steps"].sum((0, 1))
        keys = [content.partition(":")[0] for content in self.contents]
        for key in dict.fromkeys(keys[1:]):
            places = [place for place, other in enumerate(keys) if other == key and steps[place] > 0]
            if places:
                return places
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
    """Sum the activations of a corpus, with one forward pass per batch.

    Args:
        model: The model.
        examples: The examples.
        loader: Makes the batches.
        contents: The grouping of all steps, then the groupings by content.
        groups: The index of each example's group.
        folds: The fold of each example.
        sites: The sites to sum at.

    Raises:
        ValueError: An activation is not finite.
    """
    count = max(folds) + 1
    device = next(model.parameters()).device
    sums = ContentSums(sites, max(groups) + 1, count, group_names(contents)).to(device)
    with eval_mode(model), torch.no_grad():
        for numbers, batch in batches_of(model, examples, loader, "groups"):
            with capture(model, sites) as acts:
                trace, _ = forward(model, batch, numbers)
            steps = valid_lengths(model, batch)
            cells = torch.tensor([groups[number] * count + folds[number] for number in numbers], device=device)
            shared: dict[tuple[TimeBase, int], tuple[Tensor, Tensor]] = {}  # shared by sites with the same steps
            for site in sites:
                x = acts[site]
                key = (time_base_of(model, site), x.shape[1])
                if key not in shared:
                    members = membership(contents, trace, key[0], steps(site).tolist(), x.shape[1])
                    members, present = occurring(members)
                    shared[key] = members.to(device), present.to(device)
                members, present = shared[key]
                sums.update(site, cells, members, present, x)
    sums.all_reduce()  # before any error: the other processes would wait for this one
    for name, totals in sums.sums.items():
        if not totals["activation"].isfinite().all():
            raise ValueError(f"'{name}': an activation is not finite. If it is a 16-bit model, measure it in 32 bits.")
    return sums.to("cpu")


def occurring(members: Tensor) -> tuple[Tensor, Tensor]:
    """Keep only the contents that each example has.

    Args:
        members: 1 for a step with a content, else 0, `(batch, contents, time)`.

    Returns:
        For each example, the rows of `members` for its contents, `(batch, contents of the example, time)`, and the
        indices of these contents, `(batch, contents of the example)`. Examples with fewer contents than others are
        padded with rows of zeros.
    """
    has = members.any(2)
    most = max(1, int(has.sum(1).max()))
    present = has.to(torch.int8).sort(dim=1, descending=True, stable=True).indices[:, :most]
    return members.gather(1, present.unsqueeze(-1).expand(-1, -1, members.shape[2])), present
