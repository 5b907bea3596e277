"""What a store shows of a correction: the texts as they were written, not as they are compared."""

from adapt.corrections.stored import as_written, shown_texts, without_names
from adapt.data.manifest import Utterance


def test_capitals_and_punctuation_are_shown_as_written():
    facts = {"before": "call a fiend", "text": "call a friend"}
    facts |= as_written(Utterance("a.wav", "Call  a friend."), " Call a fiend.", str.lower)
    assert shown_texts(facts) == ("Call a fiend.", "Call a friend.")
    assert shown_texts(without_names(facts)) == ("Call a fiend.", "Call a friend.")


def test_nothing_is_stored_twice_and_older_stores_are_read():
    assert as_written(Utterance("a.wav", "call a friend"), "call a fiend", str.lower) == {}
    facts = {"before": "call a fiend", "text": "call a friend"}
    assert shown_texts(facts) == ("call a fiend", "call a friend")
    row = {"audio": "/a.wav", "text": "Call a friend.", "offset": 0.0, "duration": None}
    assert shown_texts({**facts, "example": row}) == ("call a fiend", "Call a friend.")
    assert shown_texts({**facts, "example": {"source": "x", "target": "Y"}})[1] == "Y"
