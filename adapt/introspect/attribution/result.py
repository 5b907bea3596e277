"""The result of the measure `attribution`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapt.files import write_json
from adapt.introspect.attribution.attribution import Attribution
from adapt.introspect.attribution.conductance import Conductance
from adapt.introspect.attribution.words import Word
from adapt.introspect.stored import read_result
from interventions.files import FileError, read_tensors, site_from_json, site_to_json, write_tensors
from interventions.neurons import Scores
from interventions.sites import Site

FILE, TENSORS = "attribution.json", "attribution.safetensors"
FORMAT = 2  # earlier versions of the file stored only the figures


@dataclass(frozen=True, eq=False)
class ExplainedWord:
    """One word of an output, attributed to the input and to the neurons.

    Attributes:
        number: The index of the example.
        example: The name of the example.
        reference: The reference text of the example.
        attribution: The contributions of the input.
        conductance: The contributions of the neurons; None if they were not computed.
    """

    number: int
    example: str
    reference: str
    attribution: Attribution
    conductance: Conductance | None = None


@dataclass(frozen=True, eq=False)
class AttributionResult:
    """The attributions of some words.

    Attributes:
        method: The method of attribution to the input.
        baseline: The baseline.
        words: The words, grouped by example.
    """

    method: str
    baseline: str
    words: tuple[ExplainedWord, ...]

    @property
    def scores(self) -> Scores | None:
        """The mean conductance of each neuron over the words; None if it was not computed."""
        each = [word.conductance.conductance for word in self.words if word.conductance is not None]
        if not each:
            return None
        return Scores({site: torch.stack([own[site] for own in each]).mean(0) for site in each[0].sites})

    @property
    def figures(self) -> Mapping[str, Any]:
        """The score of each word, with the completeness errors and the contributions of source words."""
        words = []
        for own in self.words:
            found, word = own.attribution, own.attribution.word
            words.append({
                "example": own.example,
                "word": word.text,
                "start": word.start,
                "end": word.end,
                "score": found.score,
                "baseline": found.baseline,
                "gap": found.gap,
                "source": [list(pair) for pair in found.by_source_word()] if found.tokens else None,
                "layer_gaps": None if own.conductance is None else own.conductance.gaps,
            })  # fmt: skip
        return {"method": self.method, "baseline": self.baseline, "words": words}

    @property
    def summary(self) -> str:
        """The number of words, and the median completeness error."""
        examples = len({own.number for own in self.words})
        text = f"Attributed {len(self.words)} words of {examples} outputs by {self.method.replace('_', ' ')}."
        errors = [
            abs(own.attribution.gap) / abs(own.attribution.score - own.attribution.baseline)
            for own in self.words
            if own.attribution.gap is not None and own.attribution.score != own.attribution.baseline
        ]
        if errors:
            text += f" The median completeness error is {100 * sorted(errors)[len(errors) // 2]:.1f} %."
        return text

    def save(self, folder: Path | str, provenance: Mapping[str, Any] | None = None) -> list[Path]:
        """Write the result to a folder, and return the paths of the files.

        These are `attribution.json`, `attribution.safetensors` (the contributions), and the mean conductance as scores
        in `scores/conductance.safetensors`.
        """
        folder, facts = Path(folder), provenance or {}
        files = [folder / FILE, folder / TENSORS]
        table = {
            "format": FORMAT,
            "method": self.method,
            "baseline": self.baseline,
            "words": [_word_to_json(own) for own in self.words],
        }
        write_json(files[0], table)
        tensors: dict[str, Tensor] = {}
        sites: tuple[Site, ...] = ()
        for number, own in enumerate(self.words):
            tensors[f"{number}/values"] = own.attribution.values
            if own.conductance is not None:
                sites = own.conductance.conductance.sites
                for place, site in enumerate(sites):
                    tensors[f"{number}/conductance/{place}"] = own.conductance.conductance[site]
                    tensors[f"{number}/influence/{place}"] = own.conductance.influence[site]
        write_tensors(files[1], "attribution", {**facts, "sites": [site_to_json(site) for site in sites]}, tensors)
        scores = self.scores
        if scores is not None:
            files.append(folder / "scores" / "conductance.safetensors")
            scores.save(files[-1], **{**facts, "scores": "conductance"})
        return files

    @classmethod
    def load(cls, folder: Path | str) -> "AttributionResult":
        """Read what `save` wrote. Raises FileError if a file is missing or damaged."""
        path = Path(folder) / FILE
        table = read_result(path, FORMAT)
        header, tensors = read_tensors(Path(folder) / TENSORS, "attribution")
        try:
            sites = [site_from_json(site) for site in header["sites"]]
            words = [_word_from_json(row, n, sites, tensors) for n, row in enumerate(table["words"])]
            return cls(table["method"], table["baseline"], tuple(words))
        except (ValueError, KeyError, TypeError) as error:
            raise FileError(f"'{path}' is not the result of an attribution ({error}).") from None


def _word_to_json(own: ExplainedWord) -> dict[str, Any]:
    found, carried = own.attribution, own.conductance
    row: dict[str, Any] = {
        "number": own.number,
        "example": own.example,
        "reference": own.reference,
        "word": asdict(found.word),
        "score": found.score,
        "baseline": found.baseline,
        "gap": found.gap,
        "seconds": found.seconds,
        "frequencies": found.frequencies,
        "tokens": found.tokens,
    }
    if carried is not None:
        row["conductance"] = {"score": carried.score, "baseline": carried.baseline, "gaps": carried.gaps}
    return row


def _word_from_json(
    row: Mapping[str, Any], number: int, sites: list[Site], tensors: Mapping[str, Tensor]
) -> ExplainedWord:
    spelled = row["word"]
    word = Word(
        spelled["text"], tuple(spelled["steps"]), tuple(spelled["units"]), tuple(spelled["prefix"]), spelled["start"],
        spelled["end"],
    )  # fmt: skip
    frequencies = None if row["frequencies"] is None else tuple(row["frequencies"])
    attribution = Attribution(
        word, tensors[f"{number}/values"], row["score"], row["baseline"], row["gap"], row["seconds"], frequencies,
        tuple(row["tokens"]),
    )  # fmt: skip
    carried = None
    if "conductance" in row:
        by_name = {
            kind: Scores({site: tensors[f"{number}/{kind}/{place}"] for place, site in enumerate(sites)})
            for kind in ("conductance", "influence")
        }
        facts = row["conductance"]
        carried = Conductance(
            word, by_name["conductance"], by_name["influence"], facts["score"], facts["baseline"], facts["gaps"]
        )  # fmt: skip
    return ExplainedWord(row["number"], row["example"], row["reference"], attribution, carried)
