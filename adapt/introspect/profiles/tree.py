"""Which things are alike, as a tree: agglomerative clustering by average linkage (UPGMA, Sokal and Michener 1958)."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Tree:
    """`order` is the leaves as a dendrogram draws them; `merges` has (left, right, distance) of each joint, in order.

    A number below the count of leaves is a leaf, `count + n` is what joint `n` made.
    """

    order: tuple[int, ...]
    merges: tuple[tuple[int, int, float], ...]


def average_linkage(distances: Tensor) -> Tree:
    """Join the two closest clusters, again and again; how far apart clusters are is the mean over their leaves.

    `distances` is `(leaves, leaves)`, symmetric. At each joint the sides are turned so that the leaves that meet are as
    close as they can be. Of equal distances, the first counts, so that a tree is the same each time.
    """
    leaves: dict[int, list[int]] = {leaf: [leaf] for leaf in range(len(distances))}
    apart = distances.double().tolist()
    between = {(a, b): apart[a][b] for a in leaves for b in leaves if a < b}
    merges = []
    while len(leaves) > 1:
        (a, b), distance = min(between.items(), key=lambda pair: (pair[1], pair[0]))
        new, left, right = len(distances) + len(merges), leaves.pop(a), leaves.pop(b)
        for other in leaves:
            far = [between.pop((min(one, other), max(one, other))) for one in (a, b)]
            between[other, new] = (len(left) * far[0] + len(right) * far[1]) / (len(left) + len(right))
        del between[a, b]
        turned = [(x, y) for x in (left, left[::-1]) for y in (right, right[::-1])]
        left, right = min(turned, key=lambda sides: apart[sides[0][-1]][sides[1][0]])
        leaves[new] = left + right
        merges.append((a, b, distance))
    return Tree(tuple(next(iter(leaves.values()), ())), tuple(merges))
