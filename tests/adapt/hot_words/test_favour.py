"""Hot words in what models decode: real changes for names that are heard, and none without them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from adapt.api import load_model
from adapt.data.loader import Batch
from adapt.errors import InputError
from adapt.hot_words import terms
from adapt.hot_words.favour import favoured, favouring
from adapt.hot_words.ngram import NGram
from adapt.hot_words.tokens import HotTokens, NGramTokens, lacking_punctuation, spellings, token_trie, tokens_of
from adapt.hot_words.trie import Trie
from adapt.hot_words.words import HotWord
from adapt.models.ctc import Emissions
from adapt.models.model import CTCModel


@pytest.fixture(scope="module")
def english():
    return load_model("us-english")


def emissions(model: CTCModel, heard: str, alternative: str, odds: float) -> Emissions:
    """A model's output that spells `heard`, with the letters of `alternative` less likely by `odds` nats."""
    rows = []
    for one, other in zip(model.encode(heard), model.encode(alternative), strict=True):
        for unit, rival in ((one, other), (model.blank, model.blank)):
            row = torch.full((len(model.vocabulary),), -20.0)
            row[rival], row[unit] = row[rival].clamp_min(-odds), 0.0
            rows.append(row)
    log_probs = torch.stack(rows).log_softmax(-1).unsqueeze(0)
    return Emissions(log_probs, torch.tensor([len(rows)]))


def heard(english, monkeypatch: pytest.MonkeyPatch, text: str, alternative: str, odds: float, **options) -> str:
    own = emissions(english.model, text, alternative, odds)
    monkeypatch.setattr(type(english.model), "__call__", lambda *_: own)
    with favouring(english, corrections="off", **options):
        return english.model.task.decode(english.model, Batch(torch.zeros(1, 10), torch.tensor([10]), []))[0]


def test_a_name_that_is_nearly_heard_is_written(english, monkeypatch: pytest.MonkeyPatch):
    given = (english, monkeypatch, "call liter now", "call vizer now", 2.5)
    assert heard(*given, words=None) == "call liter now"
    assert heard(*given, words=["Vizer"]) == "call vizer now"
    assert heard(*given, words=[HotWord("vizer", 0.1)]) == "call liter now"
    assert heard(*given, words=["vizerat", "izer"]) == "call liter now"  # neither is said as a whole
    assert heard(*given, words=["call vizer"]) == "call vizer now"  # a phrase


def test_without_a_hot_word_the_greedy_text_stays(english, monkeypatch: pytest.MonkeyPatch):
    """The search finds another text, but it is only taken for a hot word's sake."""
    assert heard(english, monkeypatch, "call liter now", "call vizer now", 9.0, words=["vizer"]) == "call liter now"


def test_an_ngram_of_a_text_decides(english, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    text = tmp_path / "own.txt"
    text.write_text("call vizer now\n" * 20, encoding="utf-8")
    given = (english, monkeypatch, "call liter now", "call vizer now", 0.3)
    assert heard(*given, words="off") == "call liter now"
    assert heard(*given, words="off", ngram=text, ngram_weight=0.5) == "call vizer now"
    assert heard(*given, words="off", ngram=text, ngram_weight=0.0) == "call liter now"
    text.write_text("\n \n", encoding="utf-8")
    with pytest.raises(InputError, match="is empty"):
        heard(*given, ngram=text)
    text.write_text("\u4f60\u597d\n", encoding="utf-8")
    with pytest.raises(InputError, match="outside the model's alphabet"):
        heard(*given, ngram=text)


def test_nothing_changes_without_words(english):
    before = english.model.task
    for words in ("off", "none", "auto", None):
        with favouring(english, words, corrections="off"):
            assert english.model.task is before
    with pytest.raises(RuntimeError), favouring(english, ["moira"], corrections="off"):
        assert english.model.task is not before
        raise RuntimeError
    assert english.model.task is before


def test_an_unknown_character_and_a_weight_are_named(english):
    with (
        pytest.raises(InputError, match="'z\u00fcrich' contains '\u00fc', outside the model's alphabet"),
        favouring(english, ["z\u00fcrich"]),
    ):
        pass
    with pytest.raises(InputError, match="ngram_weight must be at most 2"), favouring(english, None, ngram_weight=3):
        pass


def test_terms_of_corrections_join(english, monkeypatch: pytest.MonkeyPatch):
    found = [HotWord("vizer"), HotWord("z\u00fcrich")]  # the second cannot be written
    monkeypatch.setattr("adapt.hot_words.favour.correction_terms", lambda *_: found)
    given = (english, monkeypatch, "call liter now", "call vizer now", 2.5)
    assert heard(*given) == "call vizer now"
    assert heard(*given, words="off") == heard(*given, words="none") == "call liter now"


def test_terms_are_words_that_the_model_never_wrote(english, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    class Store:
        path, facts = "store", {"protected": [{"audio": "a", "text": "take the train", "offset": 0.0, "duration": 1.0}]}

        def __init__(self, *_: object) -> None: ...

        @staticmethod
        def exists(_: object) -> bool:
            return True

        def records(self):
            from types import SimpleNamespace

            facts = {"before": "call liter on the day", "text": "Call Vizer, on that train day"}
            return [SimpleNamespace(number=1, facts=facts, bytes=1)]

    monkeypatch.setattr(terms, "CorrectionStore", Store)
    # "call" and "train" are words that the model writes; "on" and "day" are short.
    assert [one.text for one in terms.correction_terms(english, tmp_path / "x.db")] == ["Vizer", "that"]
    assert terms.correction_terms(english, "off") == []


def test_what_was_favoured_is_recorded(tmp_path: Path):
    (tmp_path / "own.txt").write_text("one\n", encoding="utf-8")
    assert favoured("auto", None) == {}
    assert favoured("off", None) == {"words": "off"}
    assert favoured(["a"], None) == {"words": [["a", 1.0]]}
    assert favoured(None, tmp_path / "own.txt") != favoured(None, tmp_path / "own.txt", 0.5)


def _scores(rows: int = 1) -> torch.Tensor:
    scores = torch.zeros(rows, 10)
    scores[:, 5] = 1.0
    return scores


def test_tokens_begin_and_continue_a_word():
    trie = Trie({0})
    trie.add([3, 4], [1.0, 2.0], anywhere=True)
    trie.add([7, 4], [1.0, 2.0], anywhere=False)
    greedy, beams = (HotTokens(trie, lambda n=n: n, frozenset({0}), frozenset({3, 5})) for n in (1, 2))
    first = greedy(torch.tensor([[0]]), _scores())[0] - _scores()[0]
    assert first.nonzero().flatten().tolist() == [3, 7]
    later = greedy(torch.tensor([[0, 5, 5, 5]]), _scores())[0] - _scores()[0]
    assert later.nonzero().flatten().tolist() == [3]
    inside = torch.tensor([[0, 5, 3]])
    change = greedy(inside, _scores())[0] - _scores()[0]
    assert change[4] == 2.0 and change[5] == 0.0
    change = beams(inside, _scores())[0] - _scores()[0]
    assert change[4] == pytest.approx(2.0) and change[5] == pytest.approx(-1.0)  # taken back


def test_no_word_begins_at_the_end_of_a_text_or_inside_a_word():
    trie = Trie({0})
    trie.add([3, 4], [1.0, 2.0], anywhere=True)
    ends = HotTokens(trie, lambda: 1, frozenset({0, 5}))
    assert torch.equal(ends(torch.tensor([[0, 9]]), _scores()), _scores())
    inside = HotTokens(trie, lambda: 1, frozenset({0}), frozenset({3}))
    assert torch.equal(inside(torch.tensor([[0, 9]]), _scores()), _scores())


def test_an_ngram_raises_the_tokens_of_its_text():
    processor = NGramTokens(NGram([[3, 4, 0]] * 5, 10, 3), 0.5, frozenset({0}))
    assert int(processor(torch.tensor([[0, 3]]), torch.zeros(1, 10)).argmax()) == 4
    rows = processor(torch.tensor([[0, 3], [8, 0]]), torch.zeros(2, 10))
    assert rows.argmax(1).tolist() == [4, 3]


def test_punctuation_that_a_text_lacks_keeps_its_probability():
    comma, scores = 7, torch.randn(2, 10, generator=torch.Generator().manual_seed(0))
    plain, ngram = scores.softmax(1), NGram([[3, 4, 5, 0]] * 5, 10, 3)
    written = torch.tensor([[0, 3, 4], [0, 3, 7]])
    without, with_it = (
        NGramTokens(ngram, 1.0, frozenset({0}), frozenset(own))(written, scores).softmax(1) for own in ((), (comma,))
    )
    assert torch.allclose(with_it[:, comma], plain[:, comma], atol=1e-6)
    assert (without[:, comma] < plain[:, comma] / 2).any()
    others = [unit for unit in range(10) if unit != comma]
    shares = [rows[0, others] / rows[0, others].sum() for rows in (without, with_it)]
    assert torch.allclose(*shares, atol=1e-6)  # among the words, the text decides as before
    # After a comma, the words before it count.
    assert with_it[1, 4] > plain[1, 4] and int((with_it[1] / plain[1]).argmax()) == 4


@pytest.mark.slow
def test_only_marks_that_are_not_in_the_text_are_left_alone(caplog: pytest.LogCaptureFixture, tmp_path: Path):
    loaded = load_model("weather-en-de")
    model, tokens = loaded.model, tokens_of(loaded.model)
    full, comma = (tokens(f"Es{mark}")[-1] for mark in (".", ","))
    lacking = lacking_punctuation(model, [tokens("Es schneit.")])
    assert full not in lacking and comma in lacking and len(lacking) < 20
    text = tmp_path / "own.txt"
    for written, warned in (("am abend schneit es\n", True), ("Am Abend schneit es\n", False)):
        text.write_text(written * 20, encoding="utf-8")
        caplog.clear()
        (answer,) = loaded.translate("Tomorrow it will be sunny.", ngram=text)
        assert answer.endswith(".")  # which the text lacks
        assert ("no capital letters" in caplog.text) == warned


def test_spellings():
    assert spellings("port Elkin") == ["port Elkin", "port elkin", "Port Elkin"]
    assert spellings("zor") == ["zor", "Zor"]


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 2])
def test_a_whisper_favours_words(whisper: Path, beams: int):
    loaded = load_model(whisper, language="en", beams=beams)
    audio = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    (plain,) = loaded.transcribe(audio, sample_rate=16_000)
    (same,) = loaded.transcribe(audio, sample_rate=16_000, words=[HotWord("ab", 0.0)])
    assert same == plain
    texts = {
        word: loaded.transcribe(audio, sample_rate=16_000, words=[HotWord(word, 5)])[0]
        for word in ("abcd", "eeda", "bbbb", "cade")
    }
    assert any(text != plain for text in texts.values())
    assert not loaded.model.logits_processors


@pytest.mark.slow
def test_a_translation_favours_words_and_a_text(tmp_path: Path):
    loaded = load_model("weather-en-de")
    source = "Tomorrow it will be sunny."
    (plain,) = loaded.translate(source)
    changed = loaded.translate(source, words=[HotWord("sonnig", 5)])
    assert changed == [plain] or "sonnig" in changed[0].lower()
    text = tmp_path / "own.txt"
    text.write_text("Am Abend schneit es.\n" * 50, encoding="utf-8")
    (other,) = loaded.translate(source, ngram=text)
    assert isinstance(other, str) and not loaded.model.logits_processors
    trie = token_trie(loaded.model, [HotWord("Schnee")])
    assert trie.depth >= 1
    with pytest.raises(InputError, match="can never write"):
        loaded.translate(source, words=["\u4f60\u597d"])
