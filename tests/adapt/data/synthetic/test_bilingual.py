"""German agreement: articles, adjective endings, pronouns and plurals, in every gender and case."""

import random

import pytest

from adapt.data.synthetic.bilingual import BilingualGrammar, slots, table, templates

NOUNS = table("umbrella | der Schirm; jacket | die Jacke; tent/tents | das Zelt/Zelte")
ADJECTIVES = table("red | rot; dark | dunkel | dunkl; old | alt")
AGREEMENT = {
    "{der n}": "der Schirm, die Jacke, das Zelt",
    "{den n}": "den Schirm, die Jacke, das Zelt",
    "{dem n}": "dem Schirm, der Jacke, dem Zelt",
    "{der a n}": "der rote Schirm, die rote Jacke, das rote Zelt",
    "{den a n}": "den roten Schirm, die rote Jacke, das rote Zelt",
    "{dem a n}": "dem roten Schirm, der roten Jacke, dem roten Zelt",
    "{ein a n}": "ein roter Schirm, eine rote Jacke, ein rotes Zelt",
    "{einen a n}": "einen roten Schirm, eine rote Jacke, ein rotes Zelt",
    "{einem a n}": "einem roten Schirm, einer roten Jacke, einem roten Zelt",
    "{kein n}": "kein Schirm, keine Jacke, kein Zelt",
    "{meinen n}": "meinen Schirm, meine Jacke, mein Zelt",
    "{deinem n}": "deinem Schirm, deiner Jacke, deinem Zelt",
    "{unser a n}": "unser roter Schirm, unsere rote Jacke, unser rotes Zelt",
    "{Ihren a n}": "Ihren roten Schirm, Ihre rote Jacke, Ihr rotes Zelt",
    "{-er a n}": "roter Schirm, rote Jacke, rotes Zelt",
    "{-en a n}": "roten Schirm, rote Jacke, rotes Zelt",
    "{-em a n}": "rotem Schirm, roter Jacke, rotem Zelt",
    "{-er n}": "Schirm, Jacke, Zelt",
    "{er n}": "er, sie, es",
    "{ihn n}": "ihn, sie, es",
    "{ihm n}": "ihm, ihr, ihm",
    "{im n}": "im Schirm, in der Jacke, im Zelt",
    "{ins n}": "in den Schirm, in die Jacke, ins Zelt",
    "{am n}": "am Schirm, an der Jacke, am Zelt",
    "{zum n}": "zum Schirm, zur Jacke, zum Zelt",
    "{vom n}": "vom Schirm, von der Jacke, vom Zelt",
    "{beim n}": "beim Schirm, bei der Jacke, beim Zelt",
}


def german(template: str, **tables) -> str:
    grammar = BilingualGrammar(table(f"x {' '.join('{' + name + '}' for name in tables)} | x {template}"), tables)
    return grammar.pair(random.Random(0))[1].removeprefix("X ")


@pytest.mark.parametrize("template", AGREEMENT)
def test_agreement(template):
    forms = [german(template, n=(noun,), a=ADJECTIVES[:1]) for noun in NOUNS]
    assert forms == AGREEMENT[template].split(", ")


def test_an_adjective_may_change_its_stem():
    assert german("{ein a n}", n=NOUNS[:1], a=ADJECTIVES[1:2]) == "ein dunkler Schirm"
    assert german("{a}", a=ADJECTIVES[1:2]) == "dunkel"


@pytest.mark.parametrize(
    ("plural", "dative"),
    [("Tage", "Tagen"), ("Wochen", "Wochen"), ("Scans", "Scans"), ("Löffel", "Löffeln"), ("Hände", "Händen")],
)
def test_plurals(plural, dative):
    noun = table(f"x/xs | der X/{plural}")
    assert german("{n+}", n=noun) == plural
    assert german("seit {n++}", n=noun) == f"seit {dative}"
    assert german("die {-en a n+}", n=noun, a=ADJECTIVES[:1]) == f"die roten {plural}"
    assert german("{-e a n+}", n=noun, a=ADJECTIVES[:1]) == f"rote {plural}"


def pairs(template: str, count: int = 50, **tables):
    grammar = BilingualGrammar(templates(template), tables)
    rng = random.Random(0)
    return {grammar.pair(rng) for _ in range(count)}


def test_both_languages_have_the_same_rows():
    found = pairs("the {a} {n} | {der a n}", n=NOUNS, a=ADJECTIVES)
    assert len(found) == 9
    assert ("The old tent", "Das alte Zelt") in found and ("The red jacket", "Die rote Jacke") in found


def test_numbered_slots_are_filled_from_different_rows():
    numbers = table("one | eins; two | zwei; three | drei")
    found = pairs("{n} {n2} {n} | {n} {n2} {n}", n=numbers)
    assert found == {
        (f"{a['en'].capitalize()} {b['en']} {a['en']}", f"{a['de'].capitalize()} {b['de']} {a['de']}")
        for a in numbers
        for b in numbers
        if a != b
    }


def test_rows_can_have_slots():
    days = table("Monday | Montag; Friday | Freitag")
    found = pairs("{w}, {day} | {w}, {day}", day=days, w=table("on {day} | am {day}"))
    assert ("On Friday, Monday", "Am Freitag, Montag") in found and len(found) == 4


def test_columns():
    verbs = table("cancel | cancelled | sagen | ab; book | booked | buchen | ", "en done de off")
    assert pairs("{v}! {v.done}. | {v} Sie {v.off}.", v=verbs) == {
        ("Cancel! Cancelled.", "Sagen Sie ab."),
        ("Book! Booked.", "Buchen Sie."),
    }


@pytest.mark.parametrize(
    ("given", "wanted"),
    [("a eye test", "An eye test"), ("a X-ray. a old", "An X-ray. An old"), ("a red, a car", "A red, a car")],
)
def test_a_and_an(given, wanted):
    assert pairs(f"{given} | x", 1) == {(wanted, "X")}


def test_slots_of_a_template():
    assert slots("{einen colour gear} {verb.du} {tablet++} {-em a b} {day2}") == [
        "colour", "gear", "verb", "tablet", "a", "b", "day2",
    ]  # fmt: skip


def test_rows_need_as_many_cells_as_columns():
    with pytest.raises(ValueError, match="x: expected the columns en de"):
        table("x")
    with pytest.raises(ValueError, match="expected the columns en du ihr"):
        table("a | b | c | d", "en du ihr")
