"""The measure `probes`: which layers and neurons encode a target, such as the accent, phoneme or speaker."""

from collections.abc import Sequence
from typing import Any

from adapt.checks import check_counts
from adapt.data.loader import Loader, as_loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.introspect.probes.probe import Probe, probe
from adapt.introspect.probes.result import ProbesResult
from adapt.introspect.probes.target import default_target
from adapt.introspect.reading import select_examples, select_sites, shared_sites
from adapt.models.checkpoint import load_model
from adapt.models.devices import beside
from adapt.models.loaded import Loaded
from adapt.models.model import Model


def probes(
    loaded: Loaded,
    splits: Splits,
    loader: Loader | None = None,
    targets: str | Sequence[str] | None = None,
    reference_model: str | None = None,
    method: str = "linear",
    split_by: str = "example",
    held_out: float = 0.25,
    max_per_class: int = 200,
    controls: int = 3,
    seed: int = 0,
    sites: str | Sequence[str] = "*",
    part: str | None = None,
    examples: str | Sequence[str] = ("test", "source_test"),
    **options: Any,
) -> ProbesResult:
    """Probe the layers of a model, and those of a second model, for some targets.

    Args:
        loaded: The model.
        splits: The data.
        loader: Makes the batches; None: `Loader()`.
        targets: Names of targets: "phoneme", "token", or any key of the data; None: the first of accent, gender,
            domain, speaker, phoneme and token of which the data have two classes.
        reference_model: A second model, which is probed at the same sites.
        method: The kind of probe, one of `adapt.introspect.probes.probe.METHODS`.
        split_by: "example", or a key of the data: with "speaker", all examples of a speaker are in the same set.
        held_out: Share of the examples in the test set.
        max_per_class: Number of rows per class.
        controls: Number of random labellings of the control task.
        seed: Seed of all random choices.
        sites: A glob over the names of sites, or a list of names.
        part: "encoder", "decoder" or "cross-attention"; None: all parts.
        examples: The splits to read.
        **options: Options of the method.

    Raises:
        InputError: There is no such site, part, model or target, there is nothing to read, or an option is unknown.
    """
    check_counts(1, controls=controls)
    check_counts(2, max_per_class=max_per_class)
    check_counts(0, seed=seed)
    if not isinstance(held_out, float):
        raise InputError(f"held_out must be a number above 0 and below 1; got {held_out!r}.")
    names = [targets] if isinstance(targets, str) else list(targets) if isinstance(targets, Sequence) else []
    if not names and targets is not None:
        raise InputError(f"targets must name at least one target (accent, phoneme, speaker, ...); got {targets!r}.")
    loader = as_loader(loader)
    chosen_sites = select_sites(loaded.model, sites, part)
    chosen, _ = select_examples(loaded.model, splits, examples)
    names = names or [default_target(loaded.model, chosen)]
    reference = None
    if reference_model is not None:
        reference = beside(load_model(reference_model), loaded.model).model
        chosen_sites = shared_sites(chosen_sites, reference, reference_model)

    def probe_model(model: Model, name: str) -> Probe:
        return probe(
            model, chosen, loader, name, method, chosen_sites, split_by, held_out, max_per_class, controls, seed,
            **options,
        )  # fmt: skip

    found: dict[str, Probe] = {}
    references: dict[str, Probe] = {}
    for name in map(str, names):
        found[name] = probe_model(loaded.model, name)
        if reference is not None:
            references[name] = probe_model(reference, name)
    return ProbesResult(found, references, reference_model)
