"""`measure=attribution`: which part of the input made each word of an answer, and which neurons carried it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapt.checks import check_counts, check_flag
from adapt.data.example import Example
from adapt.data.loader import Loader
from adapt.data.manifest import Splits
from adapt.errors import InputError
from adapt.introspect.attribution.attribution import Attribution, Baseline, Method, attribute, written
from adapt.introspect.attribution.conductance import Conducted, conductance
from adapt.introspect.reading import examples_of, sites_named
from adapt.models.loaded import Loaded
from adapt.progress import track
from interventions.neurons import Scores

_TOP = 5  # neurons of a layer that are named


def attribution(
    loaded: Loaded,
    splits: Splits,
    loader: Loader,
    examples: str | Sequence[str] = "test",
    count: int = 3,
    words: int = 12,
    method: Method = "integrated_gradients",
    baseline: Baseline = "even",
    steps: int = 64,
    neurons: bool = True,
    sites: str | Sequence[str] = "*",
    part: str | None = None,
) -> "MeasuredAttribution":
    """Explain the first `words` words that the model writes of each of the first `count` examples, by `method` from
    `baseline` in `steps` (`adapt.introspect.attribution.attribution.attribute`); with `neurons` also by the conductance of those at
    `sites`.

    Raises:
        InputError: there is no such site, part, method or baseline, there is nothing to read, or the model wrote
            nothing.
    """
    model = loaded.model
    check_counts(1, count=count, words=words, steps=steps)
    check_flag("neurons", neurons)
    places = sites_named(model, sites, part)
    chosen, _ = examples_of(model, splits, examples)
    answers = [(example, word) for example in chosen[:count] for word in written(model, example)[:words]]
    if not answers:
        raise InputError("The model wrote no word for these examples, so there is nothing to explain.")
    found: list[tuple[Example, Attribution, Conducted | None]] = []
    for example, word in track(answers, "attribution"):
        carried = conductance(model, example, word, places, baseline, max(1, steps // 2)) if neurons else None
        found.append((example, attribute(model, example, word, method, baseline, steps), carried))
    return MeasuredAttribution(method, baseline, found)


@dataclass(frozen=True)
class MeasuredAttribution:
    """Each word with the example that it is of, what in the input made it, and through which neurons."""

    method: str
    baseline: str
    found: list[tuple[Example, Attribution, Conducted | None]]

    @property
    def scores(self) -> Scores | None:
        """The mean conductance of each neuron over the words; None where neurons were not asked for."""
        carried = [own.conductance for _, _, own in self.found if own is not None]
        if not carried:
            return None
        return Scores({site: torch.stack([own[site] for own in carried]).mean(0) for site in carried[0].sites})

    @property
    def summary(self) -> Mapping[str, Any]:
        said = []
        for example, own, carried in self.found:
            word = own.word
            said.append(
                {"example": example.name, "word": word.text, "start": word.start, "end": word.end, "score": own.score,
                 "baseline": own.baseline, "gap": own.gap,
                 "source": [list(pair) for pair in own.by_source_word()] if own.tokens else None,
                 "layer_gaps": None if carried is None else carried.gaps}
            )  # fmt: skip
        return {"method": self.method, "baseline": self.baseline, "words": said}

    @property
    def told(self) -> str:
        examples = len({id(example) for example, _, _ in self.found})
        said = f"{len(self.found)} words of {examples} answers explained by {self.method.replace('_', ' ')}."
        shares = [abs(own.gap) / abs(own.score - own.baseline) for _, own, _ in self.found
                  if own.gap is not None and own.score != own.baseline]  # fmt: skip
        if shares:
            middle = sorted(shares)[len(shares) // 2]
            said += f" The attributions miss the whole by {100 * middle:.1f} % (median completeness gap)."
        return said

    def write(self, folder: Path, title: str, config: str, provenance: Mapping[str, Any]) -> list[Path]:
        from adapt.files import write_json
        from adapt.report.attribution import attribution_sections
        from adapt.report.sections import write_sections

        page, files = folder / "attribution.html", [folder / "attribution.json"]
        write_json(files[0], self.summary)
        if (scores := self.scores) is not None:
            files.append(folder / "scores" / "conductance.safetensors")
            scores.save(files[-1], scores="conductance", **provenance)
        write_sections(page, title, self.told, attribution_sections(self.found, scores, _TOP, self.method), config)
        return [page, *files]
