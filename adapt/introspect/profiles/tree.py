"""Dendrograms: agglomerative clustering by average linkage (UPGMA, Sokal and Michener 1958)."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Tree:
    """A dendrogram.

    Args:
        order: The leaves in the order in which a dendrogram draws them.
        merges: The left cluster, the right cluster and their distance at each merge, in the order of the merges.
            Numbers below the number of leaves are leaves; `leaves + n` is the cluster of merge `n`.
    """

    order: tuple[int, ...]
    merges: tuple[tuple[int, int, float], ...]


def average_linkage(distances: Tensor) -> Tree:
    """Merge the two closest clusters until one is left; cluster distances are means over their leaves.

    `distances` is `(leaves, leaves)` and symmetric. At each merge, the two sides are flipped so that the leaves that
    meet in the middle are as close as possible.
    """
    count = len(distances)
    if count < 2:
        return Tree(tuple(range(count)), ())
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    merges = []
    clusters: dict[int, list[int]] = {leaf: [leaf] for leaf in range(count)}
    between = distances.double().tolist()
    condensed = squareform(distances.double().numpy(), checks=False)
    for number, (a, b, distance, _) in enumerate(linkage(condensed, "average").tolist()):
        left, right = clusters.pop(int(a)), clusters.pop(int(b))
        sides = [(x, y) for x in (left, left[::-1]) for y in (right, right[::-1])]
        left, right = min(sides, key=lambda side: between[side[0][-1]][side[1][0]])
        clusters[count + number] = left + right
        merges.append((int(a), int(b), distance))
    return Tree(tuple(clusters[2 * count - 2]), tuple(merges))
