"""The measure `similarity`: how similar the layers of a model are to each other, or to those of a second model."""

from collections.abc import Sequence
from typing import Literal

from adapt.checks import check_counts
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.introspect.reading import select_examples, select_sites
from adapt.introspect.similarity.result import SimilarityResult
from adapt.introspect.similarity.rsa import rsa
from adapt.introspect.similarity.similarity import Method, SampleBy
from adapt.introspect.similarity.similarity import similarity as compare
from adapt.models.checkpoint import load_model
from adapt.models.devices import beside
from adapt.models.loaded import Loaded
from adapt.models.model import Model


def similarity(
    loaded: Loaded,
    splits: Splits,
    loader: Loader | None = None,
    reference_model: str | None = None,
    method: Method | Literal["rsa"] = "cka",
    sample_by: SampleBy | None = None,
    steps: int = 8,
    target: str | None = None,
    max_per_group: int = 200,
    seed: int = 0,
    sites: str | Sequence[str] = "*",
    part: str | None = None,
    examples: str | Sequence[str] = ("test", "source_test"),
) -> SimilarityResult:
    """Compare the layers of a model with each other, or with those of a second model.

    Args:
        loaded: The model whose layers are the rows of the result.
        splits: The data.
        loader: Makes the batches; None: `Loader()`.
        reference_model: A second model, whose layers are the columns: for example, the model before it was adapted.
        method: "cka", "svcca", "pwcca", "procrustes", or "rsa", which compares the distances between groups of rows.
        sample_by: "step" or "example"; None: see `adapt.introspect.similarity.similarity.similarity`. Not for rsa.
        steps: Number of steps per example. Not for rsa.
        target: The groups of rsa: "phoneme", "token", or any key of the data; None: phonemes, or tokens if the model
            reads text.
        max_per_group: Number of rows per group for rsa.
        seed: Seed of the choice of these rows.
        sites: A glob over the names of sites, or a list of names.
        part: "encoder", "decoder" or "cross-attention"; None: all parts.
        examples: The splits to read.

    Raises:
        InputError: There is no such site, part or model, there is nothing to read, an option does not fit the method,
            or one model reads text and the other audio.
    """
    check_counts(1, steps=steps)
    check_counts(2, max_per_group=max_per_group)
    check_counts(0, seed=seed)
    if method != "rsa" and target is not None:
        raise InputError(f"target={target} is only for method=rsa, and the method is {method}. Leave one of them out.")
    if method == "rsa" and sample_by is not None:
        raise InputError(
            f"sample_by={sample_by} does not apply to method=rsa, which compares the means of groups. Leave it out."
        )
    model, loader = loaded.model, loader or Loader()
    chosen_sites = select_sites(model, sites, part)
    chosen, _ = select_examples(model, splits, examples)
    other = None if reference_model is None else beside(load_model(reference_model), model)
    other_model = None if other is None else other.model
    if other is not None and other.model.reads_audio != model.reads_audio:
        raise InputError(
            f"reference_model: '{reference_model}' reads {_input(other.model)}, and '{loaded.reference}' reads "
            f"{_input(model)}. Give a model with the same input."
        )
    if method == "rsa":
        target = str(target or ("phoneme" if model.reads_audio else "token"))
        found = rsa(model, chosen, loader, target, other_model, chosen_sites, max_per_group, seed)
    else:
        found = compare(model, chosen, loader, other_model, chosen_sites, method, sample_by, steps)
    return SimilarityResult(found, loaded.reference, None if other is None else other.reference)


def _input(model: Model) -> str:
    return "audio" if model.reads_audio else "text"
