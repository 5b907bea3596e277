"""`tuning=bias` and `tuning=norm`: which vectors train, and what is said where there are none."""

import pytest
from small_mt import save_translation

from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.wav2letter import wav2letter
from adapt.tuning.bias_norm import bias, norm
from adapt.tuning.layers import full


@pytest.mark.parametrize("family", ["base", "wav2vec2", "whisper", "marian"])
def test_all_of_them(request, family):
    model = load_model(str(request.getfixturevalue(family))).model
    vectors = [name for name in full(model).names if name.endswith(".bias")]
    assert list(bias(model).names) == vectors and vectors
    normed = [name for name in full(model).names if "norm" in name.rpartition(".")[0].rpartition(".")[2].lower()]
    assert list(norm(model).names) == normed and {name.rpartition(".")[2] for name in normed} == {"weight", "bias"}


def test_of_some_sites_and_layers(marian):
    model = load_model(str(marian)).model
    chosen = {f"net.model.{part}.layers.{n}.fc1.bias" for part in ("encoder", "decoder") for n in "01"}
    assert set(bias(model, sites="*.fc1").names) == chosen
    assert norm(model, sites="*.final_layer_norm", layers="decoder last 1").names == tuple(
        f"net.model.decoder.layers.1.final_layer_norm.{kind}" for kind in ("weight", "bias")
    )
    with pytest.raises(InputError, match=r"tuning=bias: none matches \*\.no in these layers. They are at net\.model"):
        bias(model, sites="*.no")
    with pytest.raises(InputError, match="No layer matches 'decoder last 7'"):
        norm(model, layers="decoder last 7")


def test_where_a_model_has_none(tmp_path):
    with pytest.raises(InputError, match="tuning=norm: this model has no such parameters. Try tuning=layers"):
        norm(wav2letter().model)
    t5 = load_model(str(save_translation(tmp_path / "t5", "T5"))).model
    with pytest.raises(InputError, match="tuning=bias: this model has no such parameters"):
        bias(t5)
    assert norm(t5).names and all(name.endswith("layer_norm.weight") for name in norm(t5).names)
