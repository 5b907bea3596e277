"""The page of layer similarities: a heat map."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from adapt import formatting
from adapt.report.heat_map import heat_map
from adapt.report.sections import Section, write_sections

if TYPE_CHECKING:
    from adapt.introspect.similarity.result import SimilarityResult
    from adapt.introspect.similarity.similarity import Similarity

_LAYERS = (
    "Each number is the similarity of what two layers represent for the same examples. It does not depend on the order "
    "of their neurons. 1 means the same representation up to a rotation, and 0 means that they have nothing in common. "
    "Steps are read at the same places of an utterance in all layers, without padding."
)
_RSA = (
    "Each number compares how two layers separate the groups: Spearman's correlation of the distances between all "
    "pairs of groups. 1 means that the same groups are close to each other in both layers, and 0 means no relation."
)


def write_similarity(path: Path, result: SimilarityResult, title: str, config: str = "") -> None:
    """Write the page of a `SimilarityResult` to `path`, atomically."""
    rows = f"Rows are the layers of {result.model}."
    if result.reference_model:
        rows = f"Rows are the layers of {result.model}, columns those of {result.reference_model}."
    how = f"{rows} {_RSA if result.similarity.method == 'rsa' else _LAYERS}"
    sections = [Section("Similarity of layers", how, similarity_figure(result.similarity))]
    write_sections(path, title, result.summary, sections, config)


def similarity_figure(similarity: Similarity) -> Markup:
    """Return a heat map with a cell for each pair of layers: the darker, the more similar."""
    from adapt.introspect.similarity.similarity import NAMES

    title = f"{NAMES[similarity.method]} over {formatting.counted(similarity.count, similarity.sample_by)}"
    return heat_map(title, similarity.rows, similarity.columns, similarity.matrix.tolist())
