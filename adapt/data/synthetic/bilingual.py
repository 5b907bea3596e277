"""Sentence pairs from an English-German grammar of templates with slots, in which German words agree.

A template is an English sentence and a German one, such as "{name} lost the {gear}. | {name} hat {den gear} verloren.".
Both have the same slots, and one row of a slot's table fills the slot in both languages. In German:

- `{den gear}` is the noun with its article. The template has the article's masculine form in the intended case,
  which is changed to the noun's gender: `den` gives den Schirm, die Jacke, das Zelt; `zum` gives zum, zur, zum.
- `{einen colour gear}` has an adjective in between, with the right ending: einen roten Schirm, eine rote Jacke.
- `{-em colour gear}` has no article, and the adjective has the ending of `dem`.
- `{er gear}`, `{ihn gear}` and `{ihm gear}` are pronouns for the noun: er, sie, es.
- `{tablet+}` is the plural, `{tablet++}` its dative, and `{-e colour tablet+}` has an adjective before the plural.
- `{verb.du}` is the column `du` of the table `verb`.

English templates have `{gear}`, `{tablet+}` and columns, and "a" becomes "an" where needed. `{day2}` is a different row
of the table `day` than `{day}`. Rows may contain slots too. Sentences start with a capital.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

Row = Mapping[str, str]
_SLOT = re.compile(r"\{([^{}]+)\}")
_GENDERS = ("der", "die", "das")


def table(text: str, columns: str = "en de") -> tuple[Row, ...]:
    """Parse rows separated by ";", with cells separated by "|": English, then German.

    A noun has its article and, if it has a plural, the plural too: "tablet/tablets | die Tablette/Tabletten". An
    adjective whose stem changes has the stem in a third cell: "dark | dunkel | dunkl".
    """
    rows = []
    for line in filter(str.strip, text.split(";")):
        cells = [" ".join(cell.split()) for cell in line.split("|")]
        names = ["en", "de", "stem"] if columns == "en de" and len(cells) == 3 else columns.split()
        if len(cells) != len(names):
            raise ValueError(f"{' | '.join(cells)}: expected the columns {columns}.")
        rows.append(dict(zip(names, cells, strict=True)))
    return tuple(rows)


def templates(text: str) -> tuple[Row, ...]:
    """Parse templates: the English sentence on one line, then "|" and the German sentence on the next."""
    return tuple(row for pair in re.split(r"\n(?!\s*\|)", text.strip()) for row in table(pair))


@dataclass(frozen=True, slots=True)
class BilingualGrammar:
    """Templates, and the tables that fill their slots."""

    templates: tuple[Row, ...]
    tables: Mapping[str, tuple[Row, ...]]

    def pair(self, rng: random.Random) -> tuple[str, str]:
        """Draw an English sentence and its German translation."""
        template = rng.choice(self.templates)
        filled = self._fill(template, rng)
        return _as_sentences(_an(filled["en"])), _as_sentences(filled["de"])

    def _fill(self, row: Row, rng: random.Random) -> Row:
        """Return the row with its slots filled. One row of a slot's table fills it in all columns."""
        drawn: dict[str, Row] = {}
        taken: list[Row] = []
        for name in dict.fromkeys(name for text in row.values() for name in slots(text)):
            choices = self.tables[name.rstrip("23")]
            choice = rng.choice(choices)
            while name[-1] in "23" and choice in taken:
                choice = rng.choice(choices)
            taken.append(choice)
            drawn[name] = self._fill(choice, rng)
        return {column: _replaced(text, column, drawn) for column, text in row.items()}


def slots(text: str) -> list[str]:
    """Return the slot names of a template or cell: colour, gear and verb in "{einen colour gear} {verb.du}"."""
    names = []
    for inside in _SLOT.findall(text):
        words = inside.split()
        names += [word.rstrip("+").split(".")[0] for word in (words[1:] if len(words) > 1 else words)]
    return names


def _replaced(text: str, column: str, drawn: Mapping[str, Row]) -> str:
    # Further English columns, such as the forms of a verb, have no slots.
    form = _english if column == "en" else _german
    return _SLOT.sub(lambda match: form(match[1], drawn), text)


def _english(inside: str, drawn: Mapping[str, Row]) -> str:
    name, _, column = inside.rstrip("+").partition(".")
    forms = drawn[name][column or "en"].split("/")
    return forms[1] if inside.endswith("+") else forms[0]


def _german(inside: str, drawn: Mapping[str, Row]) -> str:
    article, *adjectives, last = ["", *inside.split()]
    if adjectives:
        article, *adjectives = adjectives
    name, _, column = last.rstrip("+").partition(".")
    forms = drawn[name][column or "de"].split("/")
    plural = len(last) - len(last.rstrip("+"))
    if not article and not plural:
        return forms[0]
    if plural:
        noun = forms[1] + ("n" if plural == 2 and forms[1][-1] not in "ns" else "")
        ending = article.removeprefix("-")
        return " ".join([*(_stem(drawn[adjective]) + ending for adjective in adjectives), noun])
    gender, noun = forms[0].split(" ", 1)
    inflected, endings = _ARTICLES[article]
    place = _GENDERS.index(gender)
    if not endings:  # a pronoun
        return inflected[place]
    words = [inflected[place], *(_stem(drawn[adjective]) + endings[place] for adjective in adjectives), noun]
    return " ".join(word for word in words if word)


def _stem(adjective: Row) -> str:
    return adjective.get("stem") or adjective["de"]


def _articles() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return, by an article's masculine form, its forms for all genders and the endings of adjectives after it."""
    weak = ("en", "en", "en")
    forms = {
        "der": (("der", "die", "das"), ("e", "e", "e")),
        "den": (("den", "die", "das"), ("en", "e", "e")),
        "dem": (("dem", "der", "dem"), weak),
        "ins": (("in den", "in die", "ins"), ("en", "e", "e")),
        "im": (("im", "in der", "im"), weak),
        "am": (("am", "an der", "am"), weak),
        "zum": (("zum", "zur", "zum"), weak),
        "vom": (("vom", "von der", "vom"), weak),
        "beim": (("beim", "bei der", "beim"), weak),
        "-er": (("", "", ""), ("er", "e", "es")),
        "-en": (("", "", ""), ("en", "e", "es")),
        "-em": (("", "", ""), ("em", "er", "em")),
        "er": (("er", "sie", "es"), ()),
        "ihn": (("ihn", "sie", "es"), ()),
        "ihm": (("ihm", "ihr", "ihm"), ()),
    }
    for word in ("ein", "kein", "mein", "dein", "unser", "Ihr"):
        forms[word] = ((word, f"{word}e", word), ("er", "e", "es"))
        forms[f"{word}en"] = ((f"{word}en", f"{word}e", word), ("en", "e", "es"))
        forms[f"{word}em"] = ((f"{word}em", f"{word}er", f"{word}em"), weak)
    return forms


_ARTICLES = _articles()


def _an(text: str) -> str:
    return re.sub(r"\b([Aa]) (?=[aeiouAEIOU]|X-ray|hour)", r"\1n ", text)


def _as_sentences(text: str) -> str:
    """Capitalise the starts of sentences, and remove the spaces that empty cells leave before punctuation."""
    text = re.sub(r" (?=[.,?!])", "", text)
    return re.sub(r"(?:^|(?<=[.?!] ))\w", lambda match: match[0].upper(), text)
