"""Layouts: map the profiles of units, `(units, groups)`, to places in the unit square, `(units, 2)`.

    sorted_grid      the default: linear assignment sorting; 0.01 s for 250 units, 1.1 s for 2,000
    tsne, umap       neighbour embeddings, then a grid cell for each unit (UMAP needs the extra `umap`)
    pca, som, graph, random      as in the papers on topographic maps
    swarm            the particle swarm of the papers, from scratch or from any other layout (swarm.py)

The same profiles, seed and machine give the same map, bit for bit. Units with the same profile, or without a response,
are placed together in an arbitrary order. With `grid`, each unit is finally moved to its own grid cell.
t-SNE and UMAP place fewer than ten units by their principal components, because so few have no neighbourhoods.
"""

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from adapt.introspect.topography.grid import framed, onto_grid
from adapt.introspect.topography.som import gather, sort
from adapt.introspect.topography.swarm import swarm
from adapt.introspect.topography.vectors import Array, Distance, checked, cosine_distances, vectors

FEW_UNITS = 10


def sorted_grid(profiles: ArrayLike, seed: int = 0, distance: Distance = "half") -> Array:
    """Give each unit a grid cell by linear assignment sorting, starting from the principal components (som.py)."""
    space = vectors(profiles, distance)
    return sort(space, _components(space, seed))


def tsne(profiles: ArrayLike, seed: int = 0, distance: Distance = "half", grid: bool = True) -> Array:
    """Lay out by t-SNE (van der Maaten & Hinton 2008; scikit-learn's Barnes-Hut), from the principal components.

    It runs in one thread, because the sums of several threads depend on their timing. It takes about 0.9 s for 250
    units and 13 s for 2,000.
    """
    space = vectors(profiles, distance)
    start = _components(space, seed)
    if len(space) < FEW_UNITS:
        return _ended(start, grid)
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    init: Any = 1e-4 * start
    made = TSNE(init=init, perplexity=min(30.0, (len(space) - 1) / 3), random_state=seed, n_jobs=1)
    with threadpool_limits(1):
        return _ended(made.fit_transform(space), grid)


def umap(profiles: ArrayLike, seed: int = 0, distance: Distance = "half", grid: bool = True) -> Array:
    """Lay out by UMAP (McInnes et al. 2018) with umap-learn, which takes 10 s to import and compile at first.

    Raises:
        ValueError: umap-learn, the extra `umap`, is not installed.
    """
    space = vectors(profiles, distance)
    start = _components(space, seed)
    if len(space) < FEW_UNITS:
        return _ended(start, grid)
    try:
        from umap import UMAP
    except ImportError:
        raise ValueError("The layout 'umap' needs umap-learn: pip install 'innertune[umap]'.") from None
    from threadpoolctl import threadpool_limits

    neighbours = min(15, len(space) - 1)
    # Its compiler changes the number of threads of torch; the limits restore it.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # advice about settings, and about the disconnected graphs of profiles
        init: Any = 10 * framed(start).astype(np.float32)
        made = UMAP(n_neighbors=neighbours, init=init, random_state=seed, n_jobs=1)
        return _ended(made.fit_transform(space), grid)


def pca(profiles: ArrayLike, seed: int = 0, distance: Distance = "half", grid: bool = False) -> Array:
    """Place units by their first two principal components."""
    return _ended(_components(vectors(profiles, distance), seed), grid)


def som(profiles: ArrayLike, seed: int = 0, distance: Distance = "half", grid: bool = False) -> Array:
    """Lay out by a self-organising map (Kohonen). Units that share a node are on a small circle around it."""
    space = vectors(profiles, distance)
    return _ended(gather(space, _components(space, seed)), grid)


def graph(profiles: ArrayLike, seed: int = 0, grid: bool = False, share: float = 0.075) -> Array:
    """Lay out the co-activation graph by springs (Fruchterman & Reingold 1991; networkx).

    Edges join the `share` of pairs with the smallest cosine distances, and the shortest links between components.
    Memory and time grow with the square of the number of units: 9 s for 2,000.
    """
    import networkx
    from scipy.sparse.csgraph import minimum_spanning_tree

    distances = cosine_distances(profiles)
    units = len(distances)
    if units == 1:
        return np.full((1, 2), 0.5)
    near = distances <= np.quantile(distances[np.triu_indices(units, 1)], share)
    np.fill_diagonal(near, False)
    # The minimum spanning tree connects the components; its other links do no harm. A distance of 0 would be no link.
    tree = minimum_spanning_tree(distances + 1e-12).toarray() > 0
    made = networkx.from_numpy_array(near | tree | tree.T)
    placed = networkx.spring_layout(made, seed=seed, method="force")
    return _ended(np.array([placed[unit] for unit in range(units)]), grid)


def random(profiles: ArrayLike, seed: int = 0, grid: bool = True) -> Array:
    """Place units at random: the baseline of a map without order."""
    return _ended(np.random.default_rng(seed).uniform(size=(len(checked(profiles)), 2)), grid)


LAYOUTS = {layout.__name__: layout for layout in (sorted_grid, tsne, umap, pca, som, graph, random, swarm)}


def _ended(points: Array, grid: bool) -> Array:
    return onto_grid(points) if grid else framed(points)


def _components(space: Array, seed: int) -> Array:
    """Return the first two principal components, `(units, 2)`; the first has standard deviation 1.

    A little noise from `seed` separates units with the same profile.
    """
    centred = space - space.mean(0)
    left, sizes, right = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(space), 2))
    found = min(2, len(sizes))
    # The sign of a component is arbitrary: make its largest weight positive.
    signs = np.sign(right[np.arange(found), np.abs(right[:found]).argmax(1)])
    points[:, :found] = left[:, :found] * sizes[:found] * signs
    spread = points[:, 0].std()
    noise = np.random.default_rng(seed).normal(size=points.shape)
    return points / spread + 1e-3 * noise if spread > 1e-12 else noise
