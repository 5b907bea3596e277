"""The two domains: every table is used and can be, many sentences, and a register and vocabulary of their own."""

import random
import re
from collections import Counter

import pytest

from adapt.data.synthetic import bilingual
from adapt.data.synthetic.clinic_grammar import CLINIC
from adapt.data.synthetic.weather_grammar import WEATHER
from adapt.models.marian_files import CHARACTERS

DOMAINS = {"weather": WEATHER, "clinic": CLINIC}
GRAMMARS = pytest.mark.parametrize("grammar", DOMAINS.values(), ids=DOMAINS.keys())


def some(grammar, count, seed=0):
    rng = random.Random(seed)
    return [grammar.pair(rng) for _ in range(count)]


@pytest.fixture(scope="module")
def drawn():
    return {name: some(grammar, 20_000) for name, grammar in DOMAINS.items()}


def names(text):
    return [name.rstrip("23") for name in bilingual.slots(text)]


@GRAMMARS
def test_both_languages_have_the_same_slots(grammar):
    for template in grammar.templates:
        assert set(bilingual.slots(template["en"])) == set(bilingual.slots(template["de"])), template["en"]


@GRAMMARS
def test_no_slot_lacks_a_table(grammar):
    rows = [*grammar.templates, *(row for rows in grammar.tables.values() for row in rows)]
    assert {name for row in rows for text in row.values() for name in names(text)} <= set(grammar.tables)


def test_no_table_is_unused():
    used = set()
    for grammar in DOMAINS.values():
        rows = [*grammar.templates, *(row for rows in grammar.tables.values() for row in rows)]
        used |= {name for row in rows for text in row.values() for name in names(text)}
    assert used == set(WEATHER.tables) | set(CLINIC.tables)


def test_rows_are_ordinary_and_no_cell_is_empty_but_a_prefix():
    for grammar in DOMAINS.values():
        for name, rows in grammar.tables.items():
            for row in rows:
                for column, cell in row.items():
                    assert cell or column == "off", (name, row)


def test_every_template_can_be_filled():
    for grammar in DOMAINS.values():
        for template in grammar.templates:
            alone = bilingual.BilingualGrammar((template,), grammar.tables)
            for english, german in some(alone, 100):
                assert not set("{}|/+") & set(english + german), (english, german)
                assert "  " not in english + german and english[-1] in ".?!" and german[-1] in ".?!"
                assert english[0].isupper() or english[0].isdigit()


def test_every_character_can_be_written(drawn):
    for pairs in drawn.values():
        assert {character for pair in pairs for text in pair for character in text} <= set(CHARACTERS + " ")


def fillings(grammar, row):
    """How often a row of the grammar can be filled differently."""
    count, taken = 1, Counter()
    for name in dict.fromkeys(name for text in row.values() for name in bilingual.slots(text)):
        table = name.rstrip("23")
        count *= sum(fillings(grammar, choice) for choice in grammar.tables[table]) - taken[table]
        taken[table] += 1
    return count


@GRAMMARS
def test_there_are_more_than_a_hundred_thousand_sentences(grammar):
    counts = sorted(fillings(grammar, template) for template in grammar.templates)
    assert sum(counts[:-1]) > 100_000  # the one that makes most of all left out
    assert counts[0] > 30 and len(counts) > 70


def test_no_english_sentence_has_two_translations_in_a_domain(drawn):
    for pairs in drawn.values():
        assert len(set(pairs)) == len(dict(pairs))


def words(pairs, language):
    return {word for pair in pairs for word in re.findall(r"[^\W\d]+", pair[language])}


def test_vocabulary_of_its_own(drawn):
    for language in (0, 1):
        weather, clinic = words(drawn["weather"], language), words(drawn["clinic"], language)
        assert len(weather - clinic) > 300 and len(clinic - weather) > 300 and len(weather & clinic) > 100


def test_friends_say_du_and_the_clinic_says_sie(drawn):
    informal, formal = r"\b([Dd](u|ich|ir|ein(e[mn]?)?)|ihr|euch)\b", r"\b(Sie|Ihnen|Ihr(e[mnr]?)?)\b"
    for _, german in drawn["clinic"]:
        assert not re.search(informal, german), german
    for _, german in drawn["weather"]:
        assert not re.search(formal, german) or re.match(r"Ihr zwei", german), german
    assert sum(bool(re.search(formal, german)) for _, german in drawn["clinic"]) > 10_000
    assert sum(bool(re.search(informal, german, re.IGNORECASE)) for _, german in drawn["weather"]) > 7_000


@pytest.mark.parametrize(
    ("english", "weather", "clinic"),
    [
        ("pressure", "Luftdruck", "[Bb]lutdruck"),
        ("temperature of|The temperature", "Temperatur", "Fieber"),
        ("shower is", "Schauer", None),
        ("take a shower", None, "eine Dusche"),
        ("heavy (rain|snow)", "stark", None),
        ("heavy meals", None, "schwere"),
        ("cold", "[Kk]alt|Kälte|Schlafsack", "Erkältung|kaltem"),
    ],
)
def test_one_word_is_translated_differently(drawn, english, weather, clinic):
    for pairs, german in ((drawn["weather"], weather), (drawn["clinic"], clinic)):
        if german is not None:
            hits = [pair for pair in pairs if re.search(rf"\b({english})\b", pair[0])]
            assert hits and all(re.search(german, pair[1]) for pair in hits)
