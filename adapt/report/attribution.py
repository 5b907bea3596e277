"""The page of attributions: a spectrum for each word of a transcript, or a table of source and output words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from adapt.report.heat_map import heat_map
from adapt.report.png import data_url, diverging
from adapt.report.sections import Section, picture, write_sections

if TYPE_CHECKING:
    from adapt.introspect.attribution.attribution import Attribution
    from adapt.introspect.attribution.result import AttributionResult, ExplainedWord
    from interventions.neurons import Scores

_SHOWN = 5  # neurons listed per site
_CONDUCTANCE = (
    "Conductance is the part of a word's log-probability, minus that of the baseline, that flows from the input "
    "through a neuron. The table shows the mean over the words above. A negative value means that the neuron makes "
    "the words less likely. The sum over a layer is all that flows through it."
)


def write_attribution(path: Path, result: AttributionResult, title: str, config: str = "") -> None:
    """Write the page of an `AttributionResult` to `path`, atomically."""
    write_sections(path, title, result.summary, attribution_sections(result), config)


def attribution_sections(result: AttributionResult) -> list[Section]:
    """Return a section for each example, and one for the neurons if their conductance was computed."""
    by_example: dict[int, list[ExplainedWord]] = {}
    for word in result.words:
        by_example.setdefault(word.number, []).append(word)
    sections = []
    for words in by_example.values():
        attributions = [word.attribution for word in words]
        if attributions[0].tokens:
            how, body = _how_to_read_words(result.method), _source_words(attributions)
        else:
            how, body = _how_to_read_spectra(result.method, attributions[0]), _spectra(attributions)
        sections.append(Section(f"{words[0].example.rpartition('/')[2]} (reference: {words[0].reference})", how, body))
    scores = result.scores
    if scores is not None:
        sections.append(Section("Conductance of neurons", _CONDUCTANCE, _neurons(scores)))
    return sections


def _how_to_read_words(method: str) -> str:
    logarithm = "natural logarithm of probability: 0.7 is a factor of 2, 2.3 a factor of 10"
    ends = {
        "occlusion": "A number is the decrease of the output word's log-probability when the source word, one token at "
        f"a time, is removed ({logarithm}). The numbers need not add up.",
        "gradient_x_input": "A number is the gradient of the output word's log-probability, times the embedding of the "
        f"source word ({logarithm}). The numbers need not add up.",
        "integrated_gradients": "The numbers of a row add up to the log-probability of the word, minus that for an "
        f"empty source ({logarithm}).",
    }
    return (
        "Rows are the words of the output, and columns those of the source. Red (a positive number) means that the "
        f"source word made the output word more likely, and blue less likely. {ends[method]}"
    )


def _how_to_read_spectra(method: str, own: Attribution) -> str:
    seconds = f" (0 to {own.seconds:.2f} s)" if own.seconds else ""
    hertz = f" ({own.frequencies[0]:,.0f} to {own.frequencies[-1]:,.0f} Hz)" if own.frequencies else ""
    ends = {
        "occlusion": "A value is the decrease of the word's log-probability when a patch is replaced by the baseline "
        "(a sound without speech).",
        "gradient_x_input": "A value is the gradient of the word's log-probability, times the difference between the "
        "input and the baseline (a sound without speech).",
        "integrated_gradients": "The sum of all values is the word's log-probability, minus that of the baseline (a "
        "sound without speech), up to the completeness gap.",
    }
    return (
        f"Time runs from left to right{seconds}, and frequency from bottom to top{hertz}. Red means that the sound "
        "made the word more likely, and blue less likely. The model output the word between the dotted lines. Each "
        f"picture has its own scale. {ends[method]}"
    )


def _source_words(attributions: Sequence[Attribution]) -> Markup:
    tables = [own.by_source_word() for own in attributions]
    columns = [name for name, _ in tables[0]]
    rows = [own.word.text for own in attributions]
    return heat_map("Output words by source words", rows, columns, [[v for _, v in own] for own in tables], True)


def _spectra(attributions: Sequence[Attribution]) -> Markup:
    parts = []
    for own in attributions:
        values = own.values.flip(0).float()  # low frequencies at the bottom
        largest = float(values.abs().flatten().kthvalue(max(1, int(0.995 * values.numel()))).values) or 1.0
        seconds = own.seconds or 1.0
        ends = [end for end in (own.word.start, own.word.end) if end is not None]
        lines = Markup("").join(
            Markup('<line class="end" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="120"/>').format(860 * end / seconds)
            for end in ends
        )
        gap = "" if own.gap is None else f", completeness gap {_signed(own.gap)}"
        text = f"log-probability {_number(own.score)}, baseline {_number(own.baseline)}{gap}"
        image = picture(data_url(diverging(values, largest)), f"Attribution of “{own.word.text}”", 120)
        parts.append(
            Markup('<figure class="heats"><figcaption><b>{}</b> {}</figcaption>{}</figure>').format(
                own.word.text, text, Markup(str(image).replace("</svg>", f"{lines}</svg>"))
            )
        )
    return Markup("").join(parts)


def _neurons(scores: Scores) -> Markup:
    lines = []
    for site in scores.sites:
        own = scores[site]
        best = own.abs().topk(min(_SHOWN, site.units)).indices.tolist()
        units = ", ".join(f"{unit} ({_signed(float(own[unit]))})" for unit in best)
        lines.append(
            Markup(
                '<tr><th scope="row" class="text"><code>{}</code></th><td>{}</td><td class="text">{}</td></tr>'
            ).format(site.name, _number(float(own.sum())), units)
        )
    return Markup(
        '<div class="scroll" role="region" aria-label="Neurons" tabindex="0"><table><thead><tr><th scope="col" '
        'class="text">Site</th><th scope="col">Sum</th><th scope="col" class="text">Neurons with the largest values'
        "</th></tr></thead><tbody>{}</tbody></table></div>"
    ).format(Markup("").join(lines))


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")
