import pytest
import torch

from adapt.data.manifest import read_manifest
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.introspect.attribution.runners_up import runners_up
from adapt.introspect.attribution.words import output_words, single_batch
from adapt.models.checkpoint import load_model


@pytest.mark.slow
def test_characters_of_a_ctc_word_with_what_was_likely_there(base, speech):
    model = load_model(str(base)).model
    example = read_manifest(speech["low_test"])[0][0]
    chances = model(*(lambda batch: (batch.inputs, batch.lengths))(single_batch(model, example))).log_probs[0].exp()
    for word in output_words(model, example):
        found = runners_up(model, example, word, 2)
        assert "".join(step.unit for step in found) == word.text
        for step in found:
            assert len(step.others) == 2 and step.unit not in dict(step.others)
            assert word.start <= step.start <= word.end
            assert sum(chance for _, chance in step.others) + step.probability <= 1.0001
            column = chances[list(word.steps), model.vocabulary.index(step.unit)]
            assert torch.isclose(column, torch.tensor(step.probability)).any()
    with pytest.raises(InputError, match="count"):
        runners_up(model, example, word, 0)


@pytest.mark.slow
def test_tokens_of_a_decoder_are_the_likeliest_of_greedy_decoding(marian):
    model = load_model(str(marian), beams=1).model
    pair = Pair("a b c d")
    words = output_words(model, pair)
    assert words
    for word in words:
        found = runners_up(model, pair, word)
        assert len(found) == len(word.units)
        assert all(0 <= chance <= 1 for step in found for _, chance in step.others)
