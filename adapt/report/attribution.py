"""Attributions on a page: the spectrum under each word of an answer, or the source's words beside the translation's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from adapt.report.heat_map import heat_map
from adapt.report.png import data_url, diverging
from adapt.report.sections import Section, picture

if TYPE_CHECKING:
    from adapt.data.example import Example
    from adapt.introspect.attribution.attribution import Attribution
    from adapt.introspect.attribution.conductance import Conducted
    from interventions.neurons import Scores


def attribution_sections(
    found: Sequence[tuple[Example, Attribution, Conducted | None]], scores: Scores | None, top: int, method: str
) -> list[Section]:
    """A section for each example, and one for the neurons where there are their `scores`."""
    sections = []
    by_example: dict[int, list[tuple[Example, Attribution, Conducted | None]]] = {}
    for entry in found:
        by_example.setdefault(id(entry[0]), []).append(entry)
    for entries in by_example.values():
        example, attributions = entries[0][0], [own for _, own, _ in entries]
        body = _source(attributions) if attributions[0].tokens else _spectra(attributions)
        how = _of_words(method) if attributions[0].tokens else _of_spectra(method, attributions[0])
        sections.append(Section(f"{example.name.rpartition('/')[2]}, which should read: {example.text}", how, body))
    if scores is not None:
        sections.append(Section("The neurons that carried it", _CARRIED, _neurons(scores, top)))
    return sections


_CARRIED = (
    "Conductance: how much of a word's log-probability, less the baseline's, flows from the input through each neuron, "
    "the mean over the words above; below 0, the neuron speaks against them. The sum of a layer is all that flows "
    "through it."
)


def _of_words(method: str) -> str:
    logarithms = "natural logarithms of probability: 0.7 is twice, 2.3 ten times"
    ends = {
        "occlusion": f"A number says how much likelier it is ({logarithms}) than where that word, or each of its parts "
        "in turn, is not there; they need not add up.",
        "gradient_x_input": f"Numbers follow the model's slope at this source ({logarithms}), and need not add up.",
        "integrated_gradients": f"The numbers of a row add up to how much likelier ({logarithms}) the word is than for "
        "an empty source.",
    }
    return (
        "Rows are the words that the model wrote, columns those that it read. Red, a number above 0: the word read "
        f"made the word written likelier; blue, less likely. {ends[method]}"
    )


def _of_spectra(method: str, own: Attribution) -> str:
    seconds = f" (0 to {own.seconds:.2f} s)" if own.seconds else ""
    hertz = f" ({own.hertz[0]:,.0f} to {own.hertz[-1]:,.0f} Hz)" if own.hertz else ""
    baseline = "the baseline, a sound without the speech in it"
    ends = {
        "occlusion": "A colour says what the word's log-probability (0 is certain) loses where a patch is as in "
        f"{baseline}.",
        "gradient_x_input": "A colour is the slope of the word's log-probability (0 is certain) there, times the way "
        f"from {baseline}.",
        "integrated_gradients": "All of it together is the difference between the word's log-probability (0 is "
        f"certain) and what it is for {baseline}; the gap is what the method misses of that.",
    }
    return (
        f"Time runs from left to right{seconds}, frequency from below to above{hertz}. Red made the word likelier, "
        f"blue less likely; between the dotted lines the model wrote it. Each picture has its own scale. {ends[method]}"
    )


def _source(attributions: Sequence[Attribution]) -> Markup:
    columns = [name for name, _ in attributions[0].by_source_word()]
    rows = [own.word.text for own in attributions]
    return heat_map(
        "Words by source words", rows, columns, [[v for _, v in own.by_source_word()] for own in attributions], True
    )


def _spectra(attributions: Sequence[Attribution]) -> Markup:
    parts = []
    for own in attributions:
        values = own.values.flip(0).float()  # low frequencies below
        largest = float(values.abs().flatten().kthvalue(max(1, int(0.995 * values.numel()))).values) or 1.0
        seconds = own.seconds or 1.0
        lines = Markup("").join(
            Markup('<line class="end" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="120"/>').format(860 * end / seconds)
            for end in (own.word.start, own.word.end) if end is not None
        )  # fmt: skip
        gap = "" if own.gap is None else f", completeness gap {own.gap:+.2f}".replace("-", "−")
        numbers = f"{own.score:.2f}, and {own.baseline:.2f}".replace("-", "−")
        said = f"log-probability {numbers} for the baseline{gap}"
        drawn = picture(data_url(diverging(values, largest)), f"What made “{own.word.text}”", 120)
        parts.append(
            Markup('<figure class="heats"><figcaption><b>{}</b> {}</figcaption>{}</figure>').format(
                own.word.text, said, Markup(str(drawn).replace("</svg>", f"{lines}</svg>"))
            )
        )
    return Markup("").join(parts)


def _neurons(scores: Scores, top: int) -> Markup:
    lines = []
    for site in scores.sites:
        own = scores[site]
        best = own.abs().topk(min(top, site.units)).indices.tolist()
        named = ", ".join(f"{unit} ({float(own[unit]):+.2f})".replace("-", "−") for unit in best)
        lines.append(
            Markup(
                '<tr><th scope="row" class="text"><code>{}</code></th><td>{}</td><td class="text">{}</td></tr>'
            ).format(site.name, f"{float(own.sum()):.2f}".replace("-", "−"), named)
        )
    return Markup(
        '<div class="scroll" role="region" aria-label="Neurons" tabindex="0"><table><thead><tr><th scope="col" '
        'class="text">Site</th><th scope="col">Sum</th><th scope="col" class="text">Neurons with most of it</th></tr>'
        "</thead><tbody>{}</tbody></table></div>"
    ).format(Markup("").join(lines))
