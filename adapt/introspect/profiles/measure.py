"""`measure=profiles`: profile the neurons of a model over a corpus."""

from collections.abc import Sequence

from adapt.checks import check_counts
from adapt.data.loader import Loader, as_loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.introspect.profiles.groupings import fitting_keys, groupings
from adapt.introspect.profiles.profiles import FOLDS
from adapt.introspect.profiles.read import read_profiles
from adapt.introspect.profiles.result import ProfilesResult
from adapt.introspect.profiles.windows import read_windows
from adapt.introspect.reading import select_examples, select_sites
from adapt.models.loaded import Loaded
from adapt.models.model import Model
from interventions.sites import Site


def profiles(
    loaded: Loaded,
    splits: Splits,
    loader: Loader | None = None,
    groups: str | Sequence[str] | None = None,
    sites: str | Sequence[str] = "*",
    part: str | None = None,
    examples: str | Sequence[str] = ("test", "source_test"),
    window: float | None = None,
    max_groups: int = 60,
    min_steps: int = 20,
    scores: str | Sequence[str | Sequence[str]] = (),
    folds: int = FOLDS,
) -> ProfilesResult:
    """Profile the neurons of a model.

    Args:
        loaded: The model.
        splits: The data.
        loader: Makes the batches; None for the default.
        groups: The keys by which steps are grouped (phoneme, letter, accent, ...); None for those that fit the model
            and the data.
        sites: A glob over the names of sites, or a list of them.
        part: Only sites in this part of the model: encoder, decoder or cross-attention.
        examples: The names of the splits to read.
        window: Profile windows of this many seconds around the groups of the first key, aligned in time; None for
            single steps. CTC models only.
        max_groups: Only the most frequent groups of a key are profiled, at most this many.
        min_steps: Groups with fewer steps at a site are left out of tables.
        scores: Groups, or pairs of a group and a reference group, whose contrast is saved as scores.
        folds: The number of folds, for error bars; each has its own sums. Windows have one fold.

    Raises:
        InputError: A site, part, key or group is unknown, there are no examples, or the model cannot read the window.
    """
    model = loaded.model
    places = select_sites(model, sites, part)
    check_counts(1, max_groups=max_groups, min_steps=min_steps, folds=folds)
    if window is not None and not (isinstance(window, (int, float)) and window > 0):
        raise InputError(f"window must be a time above 0 in seconds, or null; got {window!r}.")
    loader = as_loader(loader)
    keys, pairs = _keys(groups), _pairs(scores)
    chosen, sets = select_examples(model, splits, examples)
    keys = fitting_keys(model, chosen, sets) if keys is None else keys
    made = groupings(model, chosen, keys, sets, max_groups)
    if window is None:
        found = read_profiles(model, chosen, loader, made, places, folds)
    else:
        found = read_windows(model, chosen, loader, made, window, places)
    name = model.task.example_name
    result = ProfilesResult(found, len(chosen), name, _layers(model, places), min_steps, pairs)
    try:
        result.contrast_scores()  # fails now for an unknown group, before anything is written
    except ValueError as error:
        raise InputError(f"scores: {error}") from None
    return result


def _layers(model: Model, sites: Sequence[Site]) -> tuple[str, ...]:
    layers = {layer.site or layer.name for layer in model.layers}
    return tuple(site.name for site in sites if site.name in layers)


def _keys(groups: str | Sequence[str] | None) -> list[str] | None:
    if groups is None:
        return None
    if not isinstance(groups, (str, Sequence)):
        raise InputError(f"groups must be a key or a list of keys; got {groups!r}.")
    if not groups:
        raise InputError(
            "groups must name at least one key (phoneme, letter, accent, ...), or be null for all that fit."
        )
    return [groups] if isinstance(groups, str) else [str(key) for key in groups]


def _pairs(scores: str | Sequence[str | Sequence[str]]) -> tuple[tuple[str, str | None], ...]:
    if not isinstance(scores, (str, Sequence)):
        raise InputError(f"scores must be a list of groups or of pairs of groups; got {scores!r}.")
    return tuple(map(_pair, [scores] if isinstance(scores, str) else scores))


def _pair(entry: str | Sequence[str]) -> tuple[str, str | None]:
    if isinstance(entry, str):
        return entry, None
    if not isinstance(entry, Sequence) or len(entry) != 2:
        raise InputError(f"scores: expected a group or a pair of groups, such as [accent:a, accent:b]; got {entry}.")
    return str(entry[0]), str(entry[1])
