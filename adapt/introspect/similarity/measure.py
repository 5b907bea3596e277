"""`measure=similarity`: how alike the layers of a model are, or those of two models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt.checks import check_counts
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.introspect.reading import examples_of, sites_named
from adapt.introspect.similarity.rsa import rsa
from adapt.introspect.similarity.similarity import FILE, NAMES, Similarity
from adapt.introspect.similarity.similarity import similarity as compare
from adapt.models.checkpoint import load_model
from adapt.models.loaded import Loaded

_READS = {"seconds": "audio", "tokens": "text"}


def similarity(
    loaded: Loaded,
    splits: Splits,
    loader: Loader,
    against: str | None = None,
    method: str = "cka",
    per: str | None = None,
    steps: int = 8,
    target: str | None = None,
    most: int = 200,
    seed: int = 0,
    sites: str | Sequence[str] = "*",
    part: str | None = None,
    examples: str | Sequence[str] = ("test", "source_test"),
) -> "MeasuredSimilarity":
    """Compare the layers at `sites` with one another, or with those of the model `against` (a run that came of this
    one, say); `method`, `per` and `steps` as in `adapt.introspect.similarity.similarity.similarity`.

    With `method` "rsa" it is the distances between groups that are compared: the classes of `target` (None: phonemes,
    or the tokens of a model that reads text), of each at most `most` rows, drawn by `seed` (`adapt.introspect.similarity.rsa`).

    Raises:
        InputError: there is no such site, part or model, there is nothing to read, an option is for another method, or
            one model reads text and the other audio.
    """
    check_counts(1, steps=steps)
    check_counts(2, most=most)
    check_counts(0, seed=seed)
    if method != "rsa" and target is not None:
        raise InputError(
            f"measure.target={target} is for measure.method=rsa, and the method is {method}. Leave one of them out."
        )
    if method == "rsa" and per is not None:
        raise InputError(f"measure.per={per} is for other methods: rsa compares the means of groups. Leave it out.")
    model = loaded.model
    places = sites_named(model, sites, part)
    chosen, _ = examples_of(model, splits, examples)
    after = None if against is None else load_model(against)
    if after is not None and after.model.reader.unit != model.reader.unit:
        one, other = (_READS[own.reader.unit] for own in (model, after.model))
        raise InputError(
            f"measure.against: '{against}' reads {other}, and '{loaded.reference}' reads {one}. Give one of its kind."
        )
    if method == "rsa":
        target = target or ("token" if model.reader.unit == "tokens" else "phoneme")
        found = rsa(model, chosen, loader, str(target), after and after.model, places, most, seed)
    else:
        found = compare(model, chosen, loader, after and after.model, places, method, per, steps)
    return MeasuredSimilarity(found, loaded.reference, None if after is None else after.reference)


@dataclass(frozen=True)
class MeasuredSimilarity:
    """The similarity of layers, and the names of the models."""

    similarity: Similarity
    model: str
    against: str | None

    @property
    def summary(self) -> Mapping[str, Any]:
        own = self.similarity
        matrix = [[None if value != value else value for value in row] for row in own.matrix.tolist()]
        return {
            "method": own.method, "count": own.count, "per": own.per, "against": self.against,
            "rows": list(own.rows), "columns": list(own.columns), "matrix": matrix,
        }  # fmt: skip

    @property
    def told(self) -> str:
        own = self.similarity
        if self.against is None:
            pairs = [(own.between(a, b), a, b) for a, b in zip(own.rows, own.rows[1:], strict=False)]
            said = "neighbouring layers are least alike between '{1}' and '{2}' ({0:.2f})."
        else:
            pairs = [(own.between(name, name), name, name) for name in own.rows if name in own.columns]
            said = "what a layer represents changed most at '{1}' ({0:.2f}; 1 is no change)."
        if not pairs:
            return f"{len(own.rows)} by {len(own.columns)} layers compared by {NAMES[own.method]}."
        return f"By {NAMES[own.method]}, " + said.format(*min(pairs))

    def write(self, folder: Path, title: str, config: str, provenance: Mapping[str, Any]) -> list[Path]:
        from adapt.report.introspection import similarity_figure
        from adapt.report.sections import Section, write_sections

        page = folder / "similarity.html"
        self.similarity.save(folder)
        rows = f"Rows are layers of {self.model}" + (f", columns of {self.against}." if self.against else ".")
        alike = (
            "Each number says how alike two layers represent the same examples, whatever the order of their neurons: 1 "
            "is the same up to a turn, 0 nothing in common. Frames of one utterance are read at the same places in all "
            "layers; padding never."
        )
        if self.similarity.method == "rsa":
            alike = (
                "Each number says how alike two layers tell the groups apart (Spearman's correlation of the distances "
                "between all pairs of them): 1 where the same ones are near each other, 0 where that says nothing."
            )
        how = f"{rows} {alike}"
        sections = [Section("Layer by layer", how, similarity_figure(self.similarity))]
        write_sections(page, title, self.told[0].upper() + self.told[1:], sections, config)
        return [page, folder / FILE]
