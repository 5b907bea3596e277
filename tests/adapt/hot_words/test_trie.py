"""The trie of hot words against a plain count of the hot words in a text."""

import itertools

import pytest

from adapt.hot_words.trie import ANYWHERE, Trie

SPACE = 0


def bonus(trie: Trie, units: list[int], boundary: int | None = SPACE) -> float:
    state, total = trie.start, 0.0
    for unit in units:
        state, change = trie.step(state, unit)
        total += change
    return total + trie.finish(state, boundary)


def spelled(words: str) -> list[int]:
    return [" abcde".index(letter) for letter in words]


def word_trie(*words: str) -> Trie:
    trie = Trie((SPACE,))
    for word in words:
        units = [*spelled(word), SPACE]
        trie.add(units, [float(unit != SPACE) for unit in units], anywhere=False)
    return trie


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0), ("abc", 3), ("d abc e", 3), ("abc abc", 6),
        ("ab", 0), ("abcd", 0), ("dabc", 0), ("abd", 0),  # incomplete, inside another word
        ("bc", 2), ("bc de", 4), ("bc dd", 2), ("bc d", 2), ("bc  de", 2),  # a phrase, and its first word alone
        ("bc dea", 2), ("bc abc", 5),  # another word after the part of a phrase
        ("bc daa", 2), ("bc dab", 5),
    ],
)  # fmt: skip
def test_only_complete_words_keep_their_bonus(text: str, expected: float):
    assert bonus(word_trie("abc", "bc", "bc de", "dab"), spelled(text)) == pytest.approx(expected)


def test_random_texts_earn_what_their_words_say():
    words = {"ab", "abc", "ca", "eee"}
    trie = word_trie(*words)
    for units in itertools.product(range(6), repeat=6):
        text = "".join(" abcde"[unit] for unit in units)
        if units[1] % 2:  # half of them
            assert bonus(trie, list(units)) == pytest.approx(sum(len(w) for w in text.split() if w in words)), text


def test_each_unit_of_a_word_has_its_bonus_at_once():
    trie = word_trie("abc")
    state, changes = trie.start, []
    for unit in spelled("abe"):
        state, change = trie.step(state, unit)
        changes.append(change)
    assert changes == [1.0, 1.0, -2.0]


def test_words_may_begin_anywhere():
    trie = Trie()
    trie.add([3, 4], [1.0, 2.0], anywhere=True)
    trie.add([4, 4, 5], [1.0, 1.0, 1.0], anywhere=True)
    assert bonus(trie, [9, 3, 4, 9], None) == pytest.approx(3)
    assert bonus(trie, [3, 4, 4, 5], None) == pytest.approx(3 + 3)  # the second begins in the first
    assert bonus(trie, [3, 3, 4], None) == pytest.approx(3)
    assert bonus(trie, [4, 4], None) == pytest.approx(0)


def test_continuations_agree_with_steps():
    trie = Trie((7,))
    trie.add([3, 4], [1.0, 2.0], anywhere=True)
    trie.add([5, 6], [1.0, 2.0], anywhere=False)
    start = {unit: (change, own) for unit, change, own in trie.continuations(trie.start)}
    assert start == {3: (1.0, 1.0), 5: (1.0, 1.0)}
    assert {unit for unit, _, _ in trie.continuations(ANYWHERE)} == {3}
    inside = trie.state_after([3])
    assert trie.pending(inside) == 1.0
    assert {unit: change for unit, change, _ in trie.continuations(inside)} == {4: 2.0, 3: 0.0}
    assert trie.step(inside, 9) == (ANYWHERE, -1.0)
    assert trie.depth == 2
