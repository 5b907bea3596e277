"""`measure=topography`: topographic maps of the layers of one model, or of two models in the same places."""

from collections.abc import Mapping, Sequence

from adapt.checks import check_counts
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.introspect.profiles.groupings import fitting_keys, groupings
from adapt.introspect.profiles.read import read_profiles
from adapt.introspect.reading import select_examples, select_sites, shared_sites
from adapt.introspect.topography.cells import cells_of_model
from adapt.introspect.topography.draw_maps import draw_maps
from adapt.introspect.topography.layouts import LAYOUTS
from adapt.introspect.topography.result import LEARNED, MapsResult
from adapt.models.checkpoint import load_model
from adapt.models.devices import beside
from adapt.models.loaded import Loaded
from interventions.sites import Site


def topography(
    loaded: Loaded,
    splits: Splits,
    loader: Loader | None = None,
    groups: str | None = None,
    reference_model: str | None = None,
    layout: str = "sorted_grid",
    sites: str | Sequence[str] = "*",
    part: str | None = None,
    examples: str | Sequence[str] = ("test", "source_test"),
    max_groups: int = 40,
    min_steps: int = 20,
    seed: int = 0,
) -> MapsResult:
    """Lay out the neurons of each site by their activation profiles.

    Each map is aligned with that of the layer below, except for learned maps.

    Args:
        loaded: The model.
        splits: The data.
        loader: Makes the batches; None for the default.
        groups: The key of the groups (phoneme, letter, accent, ...); None for the first that fits the model and data.
        reference_model: Another model, such as a run of this one, whose profiles are drawn in the same places.
        layout: A name in `adapt.introspect.topography.layouts.LAYOUTS`, or "learned" for the grids on which one of the
            models was trained (`topographic=grid`), at the sites that have one.
        sites: A glob over the names of sites, or a list of them.
        part: Only sites in this part of the model: encoder, decoder or cross-attention.
        examples: The names of the splits to read.
        max_groups: Only the most frequent groups are used, at most this many.
        min_steps: Groups with fewer steps at a site are left out.
        seed: The seed of the layout.

    Raises:
        InputError: A site, part, key, layout or model is unknown, or fewer than two groups have enough steps.
    """
    if layout not in LAYOUTS and layout != LEARNED:
        raise InputError(f"layout must be one of {', '.join((*LAYOUTS, LEARNED))}; got {layout!r}.")
    check_counts(1, max_groups=max_groups, min_steps=min_steps)
    check_counts(0, seed=seed)
    model, loader = loaded.model, loader or Loader()
    places = select_sites(model, sites, part)
    chosen, sets = select_examples(model, splits, examples)
    if groups is not None and not isinstance(groups, str):
        raise InputError(f"groups must be one key, such as letter or accent; got {groups!r}.")
    key = groups or fitting_keys(model, chosen, sets)[0]
    models = [loaded]
    if reference_model is not None:
        models.append(beside(load_model(reference_model), loaded.model))
        places = shared_sites(places, models[1].model, reference_model)
        if key == "letter":  # compare by the reference text: the two models write different letters
            key = "aligned_letter"
    cells: dict[str, list[int]] = {}
    if layout == LEARNED:
        cells = _learned_cells(models)
        places = _learned_sites(places, cells)
    # A separate grouping for each model, because a model with a new alphabet has other output units.
    made = [groupings(each.model, chosen, [key], sets, max_groups) for each in models]
    profiles = [
        read_profiles(each.model, chosen, loader, groups_of, places).pooled()
        for each, groups_of in zip(models, made, strict=True)
    ]
    maps = draw_maps(profiles, key, layout, min_steps, seed, cells)
    return MapsResult(key, len(chosen), tuple(maps), reference_model, layout)


def _learned_cells(models: Sequence[Loaded]) -> dict[str, list[int]]:
    """Return the cells of the first model that was trained on grids; none if no model was."""
    for loaded in models:
        cells = cells_of_model(loaded.header, loaded.reference)
        if cells:
            return cells
    return {}


def _learned_sites(sites: Sequence[Site], cells: Mapping[str, Sequence[int]]) -> list[Site]:
    """Return the sites with a learned grid. Raises InputError if there are none."""
    learned = [site for site in sites if len(cells.get(site.name, ())) == site.units]
    if not learned:
        hint = f"There are grids at {', '.join(cells)}." if cells else "Train the model with topographic=grid."
        raise InputError(f"layout=learned: no grids were learned at these sites. {hint}")
    return learned
