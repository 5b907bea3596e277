"""Recipes of families: rates fall with the size, and few examples get more epochs."""

import pytest

from adapt.models import recipe
from adapt.models.checkpoint import load_model
from adapt.models.recipe import SPEECH_DECODER, WAV2LETTER, Recipe, scratch_rate

RECIPES = [value for value in vars(recipe).values() if isinstance(value, Recipe)]
# Weights of Whisper from tiny to large, and the peak rates of their pretraining (Radford et al. 2022, table 17).
WHISPERS = {38e6: 1.5e-3, 73e6: 1e-3, 242e6: 5e-4, 764e6: 2.5e-4, 1542e6: 1.75e-4}


def test_whisper_s_rates_fall_as_in_its_pretraining():
    rates = [SPEECH_DECODER.learning_rate("weights", int(size)) for size in WHISPERS]
    assert rates == sorted(rates, reverse=True)
    for rate, peak in zip(rates, WHISPERS.values(), strict=True):
        assert rate / rates[0] == pytest.approx(peak / 1.5e-3, rel=0.35)


@pytest.mark.parametrize("own", RECIPES, ids=lambda own: own.family)
def test_what_is_a_small_part_learns_at_a_higher_rate_and_no_rate_is_above_that_of_the_smallest(own):
    for size in (1000, own.size, 10 * own.size):
        rates = [own.learning_rate(kind, size) for kind in ("weights", "rows", "factors", "vectors")]
        assert rates == sorted(rates)
        assert rates[0] <= own.weights and rates[2] <= own.factors
    assert own.learning_rate("weights", 4 * own.size) == pytest.approx(own.weights / 2)
    assert own.learning_rate("factors", 16 * own.size) == pytest.approx(own.factors / 2)


def test_few_examples_get_more_epochs():
    assert [SPEECH_DECODER.number_of_epochs(count) for count in (0, 1, 20, 80, 150, 10_000)] == [10, 10, 10, 3, 3, 3]
    assert WAV2LETTER.number_of_epochs(5) == WAV2LETTER.number_of_epochs(5000) == 10


def test_random_weights_learn_at_a_rate_for_their_number():
    assert scratch_rate(1_499_165) == 2e-3 and scratch_rate(6_000_000) == 1e-3


@pytest.mark.slow
def test_every_model_has_a_recipe(base, wav2vec2, whisper, marian):
    families = [load_model(str(folder)).model.recipe.family for folder in (base, wav2vec2, whisper, marian)]
    assert families == ["Wav2Letter", "CTC transformers", "speech encoder-decoders", "small translation models"]
