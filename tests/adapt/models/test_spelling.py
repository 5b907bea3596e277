"""Texts are spelled as a vocabulary spells them, and their ids are those of the tokenizer."""

import itertools
import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_hf import save_ctc

from adapt.data.manifest import Utterance
from adapt.data.text import lower_case, normalise
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.labels import Labels
from adapt.models.spelling import Spelling

VIETNAMESE = "\u1ec7\u1ea5\u1eaf\u1eefabdehiou"  # composed letters, and plain ones
BENGALI = "\u0985\u0995\u09af\u09bc\u09df\u09cb\u09be"  # with U+09DF, which NFC takes apart, and its parts
DEVANAGARI = "\u0915\u0916\u0958\u0959\u093e"  # U+0958 and U+0959, which NFC takes apart; no nukta
HANGUL = "\ud55c\uad6d\uc5b4\ub9d0"
VOCABULARIES = {
    "vietnamese, composed": VIETNAMESE,
    "vietnamese, apart": "".join(dict.fromkeys(unicodedata.normalize("NFD", VIETNAMESE))),
    "vietnamese, both": VIETNAMESE + "".join({*unicodedata.normalize("NFD", VIETNAMESE)} - {*VIETNAMESE}),
    "vietnamese, tones apart": "abdehiou\u00ea\u00e2\u0103\u01b0\u0323\u0301\u0303",
    "bengali, both": BENGALI,
    "bengali, apart": BENGALI.replace("\u09df", ""),
    "bengali, composed": BENGALI.replace("\u09bc", ""),
    "devanagari": DEVANAGARI,
    "hangul": HANGUL,
    "hangul jamo": "".join(dict.fromkeys(unicodedata.normalize("NFD", HANGUL))),
}


@pytest.fixture(scope="module", params=VOCABULARIES)
def letters(request):
    return VOCABULARIES[request.param]


@pytest.fixture(scope="module")
def model(letters, tmp_path_factory):
    return load_model(str(save_ctc(tmp_path_factory.mktemp("spelling") / "model", letters=letters))).model


def equivalents(text):
    return {text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFD"))}


@given(st.data())
def test_ids_are_those_of_the_tokenizer(model, letters, data):
    text = data.draw(st.text(st.sampled_from([*letters, " "]), max_size=12))
    text = " ".join(text.split())
    # Marks at the start of a word belong to no letter.
    expected = model.processor.tokenizer(text).input_ids if text else []
    assert model.encode(text) == expected and model.missing(text) == []


@given(st.data())
def test_missing_encode_and_decode_agree(model, letters, data):
    text = " ".join(data.draw(st.text(st.sampled_from([*letters, " "]), max_size=12)).split())
    for spelling in equivalents(text):
        assert model.missing(spelling) == []
        units = model.encode(spelling)
        path = itertools.chain.from_iterable((unit, model.blank) for unit in units)
        assert model.decode(list(path)) == normalise(text)


def test_other_spellings_use_the_letters_of_the_vocabulary(tmp_path):
    assert Spelling("a\u0323\u0302e").spell("\u1ead") == ["a", "\u0323", "\u0302"]
    assert Spelling("ab\u00e2\u0323").spell("\u1ead") == ["\u00e2", "\u0323"]
    assert Spelling("\u09df").spell("\u09af\u09bc") == ["\u09df"]
    assert Spelling("\u09af\u09bc").spell("\u09df") == ["\u09af", "\u09bc"]
    assert Spelling("\u1112\u1161\u11ab").spell("\ud55c") == ["\u1112", "\u1161", "\u11ab"]
    assert Spelling("\ud55c").spell("\u1112\u1161\u11ab") == ["\ud55c"]
    assert Spelling("\u03bf\u03b4\u03c3").spell("\u039f\u0394\u039f\u03a3") == [*"\u03bf\u03b4\u03bf\u03c3"]
    assert Spelling("ijs").spell("\u0132s") == ["i", "j", "s"]


def test_missing_names_what_is_missing_only():
    assert Spelling("ab").missing("a\u00e9b") == ["\u00e9"]
    assert Spelling("ab\u0301").missing("\u1ebf") == ["\u1ebf"]
    assert Spelling("\u09af").missing("\u09df") == ["\u09bc"]


def test_labels_are_spelled_as_they_are():
    both = Labels.of("\u09df\u09af\u09bc ")
    assert both.encode("\u09df") == [1] and both.encode("\u09af\u09bc") == [2, 3]
    alone = Labels.of("\u09df")
    assert alone.encode("\u09df") == alone.encode("\u09af\u09bc") == [1]
    assert Labels.of("ae\u0301").encode("\u00e9") == [2, 3]


@given(st.text(st.sampled_from("a\u00e9\u1ec7\u09df\u09af\u09bc\u0958\ud55c\u1112\u1161 "), max_size=8))
def test_extended_labels_have_every_letter(text):
    for spelling in equivalents(text):
        labels = Labels.of(" ab").extended([spelling])
        assert labels.missing(spelling) == []
        assert labels.decode([u for unit in labels.encode(spelling) for u in (unit, 0)]) == normalise(text)


def test_the_ids_of_a_vocabulary_with_a_gap(tmp_path):
    model = load_model(str(save_ctc(tmp_path / "gap", letters="acez", gap=5))).model
    tokenizer = model.processor.tokenizer
    assert len(tokenizer) <= max(tokenizer.get_vocab().values())
    assert model.encode("acez") == tokenizer("acez").input_ids
    assert model.decode([u for unit in model.encode("acez") for u in (unit, model.blank)]) == "acez"
    assert model.vocabulary[-1] == "z" and model.vocabulary[8] == "" and len(model.vocabulary) == 14


@pytest.mark.parametrize(("units", "missing"), [(20, []), (8, ["z"])])
def test_heads_larger_and_smaller_than_the_vocabulary(units, missing, tmp_path):
    model = load_model(str(save_ctc(tmp_path / "head", letters="acez", vocab_size=units))).model
    assert len(model.vocabulary) == units and model.missing("acez") == missing
    if missing:
        with pytest.raises(InputError, match="'z', outside the vocabulary"):
            model.encode("acez")


def test_added_tokens_do_not_replace_letters(tmp_path):
    folder = save_ctc(tmp_path / "added", letters="acez", gap=2)
    tokenizer = load_model(str(folder)).model.processor.tokenizer
    tokenizer.add_tokens(["[new]"])
    tokenizer.save_pretrained(folder)
    model = load_model(str(folder)).model
    assert model.encode("acez") == [5, 6, 7, 10] and model.vocabulary[10] == "z"


def turkish(folder, upper=False):
    letters = "ab\u0131istnulr" if not upper else "AB\u0049\u0130STNULR"
    return load_model(str(save_ctc(folder, letters=letters))).model


@pytest.mark.parametrize("upper", [False, True])
def test_a_turkish_vocabulary(upper, tmp_path):
    model = turkish(tmp_path / "model", upper)
    assert model.language == "tr" and model.missing("\u0130stanbul \u0130NSAN ILI") == []
    for text in ("\u0130stanbul", "i\u0307stanbul", "istanbul", "\u0130STANBUL", "I\u0307STANBUL"):
        assert model.encode(text) == model.encode("istanbul")
    assert model.encode("ISIL") == model.encode("\u0131s\u0131l") != model.encode("isil")
    path = [unit for one in model.encode("ISIL \u0130NSAN") for unit in (one, model.blank)]
    assert model.decode(path) == "\u0131s\u0131l insan"
    assert model.task.evaluate(["ISIL"], ["\u0131s\u0131l"]).values()["wer"] == 0


def test_the_language_of_an_example_decides(tmp_path):
    letters = "ab\u0131istnulr\u00e9"  # not Turkish
    model = load_model(str(save_ctc(tmp_path / "model", letters=letters))).model
    assert model.language is None and model.encode("I") == model.encode("i")
    example = Utterance("a.wav", "ISIL", lang="tr")
    assert model.target(example) == model.encode("\u0131s\u0131l")
    assert model.task.score([example], ["\u0131s\u0131l"]).values()["wer"] == 0


def test_a_tokenizer_of_several_languages(tmp_path):
    folder = save_ctc(tmp_path / "model", letters="ab\u0131i\u00e9")
    vocabulary = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({"tur": vocabulary}))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "target_lang": "tur"}))
    model = load_model(str(folder)).model
    assert model.encode("I") == model.encode("\u0131") and model.language == "tur"
    assert lower_case("I", model.language) == "\u0131"
