"""The files of a new Marian: a tokenizer without unknown characters, and a config that transformers reads."""

import string

import pytest
import torch

from adapt.errors import InputError
from adapt.models.marian_files import CHARACTERS, marian_config

SOURCES = [f"It will be {word} in {city} on {n} May." for word in ("cold", "warm", "dry") for city in ("Rome", "Oslo")
           for n in range(1, 9)]  # fmt: skip
TARGETS = [f"Am {n}. Mai wird es in {city} {word}." for word in ("kalt", "warm", "trocken") for city in ("Rom", "Oslo")
           for n in range(1, 9)]  # fmt: skip
SMALL = {"vocabulary": 120, "d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "heads": 2, "ffn": 24}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("sentencepiece")
    return marian_config(tmp_path_factory.mktemp("marian") / "new", SOURCES, TARGETS, **SMALL)


@pytest.fixture(scope="module")
def tokenizer(folder):
    import transformers

    return transformers.AutoTokenizer.from_pretrained(folder)


def test_the_same_sentences_give_the_same_bytes(folder, tmp_path):
    again = marian_config(tmp_path / "again", iter(SOURCES), iter(TARGETS), **SMALL)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files == {path.name: path.read_bytes() for path in again.iterdir()}
    assert {"config.json", "generation_config.json", "tokenizer_config.json"} <= set(files)
    assert {"vocab.json", "source.spm", "target.spm"} <= set(files)
    assert not any(str(tmp_path.parent).encode() in content or b"/tmp" in content for content in files.values())


def test_the_vocabulary_is_laid_out_as_in_published_models(tokenizer):
    vocab = tokenizer.get_vocab()
    assert (vocab["</s>"], vocab["<unk>"], vocab["<pad>"]) == (0, 1, len(vocab) - 1)
    assert sorted(vocab.values()) == list(range(len(vocab)))
    assert (tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id) == (0, 1, len(vocab) - 1)
    assert "\u2581kalt" in vocab and "\u2581cold" in vocab


def test_all_characters_are_there(tokenizer):
    assert set(string.ascii_letters + string.digits + "äöüÄÖÜß.,!?'-:") == set(CHARACTERS)
    assert set(CHARACTERS) | {"\u2581"} <= set(tokenizer.get_vocab())


@pytest.mark.parametrize("text", ['Über Größe: 7:30, "x"?'.replace('"', "'"), "Zyklon - Öl! Ärzte?", "QxY'z"])
def test_unseen_words_have_no_unknown_tokens(tokenizer, text):
    for units in (tokenizer(text).input_ids, tokenizer(text_target=text).input_ids):
        assert tokenizer.unk_token_id not in units and units[-1] == 0
        assert tokenizer.decode(units, skip_special_tokens=True) == text


def test_each_language_has_its_own_pieces(tokenizer):
    assert tokenizer("trocken").input_ids != tokenizer(text_target="trocken").input_ids
    assert len(tokenizer(text_target="trocken").input_ids) == 2


def test_a_network_of_that_config_learns_and_translates(folder, tokenizer):
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(folder)
    net = transformers.AutoModelForSeq2SeqLM.from_config(config)
    net.generation_config = transformers.GenerationConfig.from_pretrained(folder)
    assert type(net).__name__ == "MarianMTModel" and config.vocab_size == len(tokenizer)
    assert (config.d_model, config.encoder_layers, config.decoder_layers) == (16, 1, 2)
    assert net.lm_head.weight is net.model.encoder.embed_tokens.weight is net.model.decoder.embed_tokens.weight
    sources = tokenizer(SOURCES, return_tensors="pt", padding=True)
    targets = tokenizer(text_target=TARGETS, return_tensors="pt", padding=True).input_ids
    labels = targets.masked_fill(targets == tokenizer.pad_token_id, -100)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    before = net(**sources, labels=labels).loss.item()
    for _ in range(40):
        optimiser.zero_grad()
        net(**sources, labels=labels).loss.backward()
        optimiser.step()
    assert net(**sources, labels=labels).loss.item() < before / 2
    units = net.eval().generate(**tokenizer(SOURCES[:3], return_tensors="pt", padding=True))
    assert (units[:, 0] == tokenizer.pad_token_id).all()
    assert all(0 in row[1:].tolist() for row in units)


def test_a_saved_network_is_read_back(folder, tmp_path):
    import transformers

    net = transformers.AutoModelForSeq2SeqLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    net.save_pretrained(tmp_path)
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


def test_an_impossible_vocabulary_is_an_error(tmp_path):
    pytest.importorskip("sentencepiece")
    with pytest.raises(InputError, match="vocabulary of 20 pieces .* source sentences"):
        marian_config(tmp_path / "a", SOURCES, TARGETS, vocabulary=20)
    with pytest.raises(InputError, match="no target sentences"):
        marian_config(tmp_path / "b", SOURCES, ["", " "], **SMALL)
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()
