"""Sentences below the table of results: kinds of errors, style, detected languages, and sounds without speech."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapt.formatting import amount, counted, duration, points
from adapt.metrics import WER
from adapt.report.wording import set_label, word_errors

if TYPE_CHECKING:
    from adapt.comparison.results import Comparison
    from adapt.models.writing import Writing

_RULES = {"basic": "the basic normaliser", "english": "Whisper's English normaliser"}


def result_notes(comparison: Comparison) -> list[str]:
    """Return the sentences of a comparison, in the order of its sets; sounds without speech come last."""
    each = [
        text
        for name in comparison.sets
        for text in (about_style(comparison, name), word_errors(comparison, name), about_languages(comparison, name))
    ]
    return [text for text in (*each, about_non_speech(comparison)) if text]


def rules(writing: Writing) -> str:
    """Return the normalisers of a set as text: "Whisper's English normaliser"."""
    return " and ".join(_RULES[rule] for rule in writing.rules)


def style_of(writing: Writing) -> str:
    """Say how much of the word errors of some answers is style: "52 % of its errors are style only (25 % ...)"."""
    other = max(0.0, writing.share - writing.punctuation_share)
    punctuation = min(writing.share, writing.punctuation_share)
    return (
        f"{100 * writing.share:.0f} % of its errors are style only ({100 * punctuation:.0f} % punctuation, "
        f"{100 * other:.0f} % numbers, contractions and spellings)"
    )


def about_style(comparison: Comparison, name: str) -> str:
    """Say by what a set is normalised, what its WER is as written, and how much of the gain is style; "" if raw."""
    both, result = comparison.writing.get(name), comparison.sets[name]
    if both is None:
        return ""
    before, after = both
    raw = before.rates[WER.key], after.rates[WER.key]
    text = (
        f"Texts of {set_label(comparison, name)} are compared by {rules(before)}. As they are written, the WER is "
        f"{amount(raw[0], WER)} before and {amount(raw[1], WER)} after; before, {style_of(before)}, and after, "
        f"{100 * after.share:.0f} %."
    )
    gain = raw[0] - raw[1]
    words = result.before[WER.key] - result.after[WER.key]
    if gain <= 0:
        return text
    if words <= 0:
        return f"{text} The whole gain of {points(gain, WER)[1:]} points as written is style."
    style = max(0.0, gain - words)
    return (
        f"{text} Of the gain of {points(gain, WER)[1:]} points as written, {points(style, WER).lstrip('+')} are style, "
        "which the table does not count."
    )


def about_languages(comparison: Comparison, name: str) -> str:
    """Say how often the language of a set is detected before and after; "" if that was not measured."""
    result, key = comparison.sets[name], "language_accuracy"
    if key not in result.before or key not in result.after:
        return ""
    before, after = (100 * values[key] for values in (result.before, result.after))
    change = "adapting did not change that" if before == after else f"{after - before:+.1f} points".replace("-", "−")
    return (
        f"The language of {set_label(comparison, name)} is detected in {before:.1f} % of the "
        f"{comparison.example_name}s before and {after:.1f} % after: {change}."
    )


def about_non_speech(comparison: Comparison) -> str:
    """Say whether adapting makes the model write words where nobody speaks; "" if that was not measured."""
    if comparison.non_speech is None:
        return ""
    before, after = comparison.non_speech
    text = (
        f"On {counted(len(before.sounds), 'sound')} without speech ({duration(sum(before.seconds))} of silence, noise, "
        f"hum and music), the model writes {before.words_per_minute:.1f} words a minute before and "
        f"{after.words_per_minute:.1f} after"
    )
    loops = sum(before.loops), sum(after.loops)
    if any(loops):
        text += f", with repetition loops in {loops[0]} and {loops[1]} of them"
    low, high = after.since(before)
    if low > 0:
        verdict = "adapting makes it write where nobody speaks"
    elif high < 0:
        verdict = "adapting makes it write less where nobody speaks"
    elif loops[1] > loops[0]:
        verdict = "adapting makes it repeat itself where nobody speaks"
    else:
        verdict = "adapting does not make it hallucinate on these sounds"
        if after.words_per_minute > before.words_per_minute:
            verdict = "whether adapting makes it write where nobody speaks is not clear from these sounds"
    interval = f"95 % interval of the difference {low:+.1f} to {high:+.1f}".replace("-", "−")
    return f"{text}: {verdict} ({interval})."


def style_before_training(name: str, writing: Writing) -> str:
    """Say before training that errors of a set are style only, and what to do about it."""
    return (
        f"{name}: as written, the WER is {amount(writing.rates[WER.key], WER)}, but {style_of(writing)}. Texts are "
        f"compared by {rules(writing)}, so that training gains nothing by style; normalise=none compares them as they "
        "are written. Training teaches the model the writing of its references; written_like=model keeps its own."
    )
