"""Wav2Letter: results equal those of torchaudio, padding changes nothing, and alphabets can be replaced."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from site_checks import activations, check_alone, check_padded
from torch import nn

from adapt.data.manifest import Utterance
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.labels import Labels
from adapt.models.model_files import save_model
from adapt.models.wav2letter import (
    ScaledWav2Letter,
    Wav2LetterCTC,
    Wav2LetterShape,
    from_header,
    wav2letter,
    wav2letter_small,
)
from interventions.sites import Step

LETTERS = Labels.of(" abcd")
FEATURES = {"log_mel": 40, "mfcc": 13, "waveform": 1}
SHORTEST = {"log_mel": 160, "mfcc": 160, "waveform": 320}  # samples
NORMALISATIONS = ["batch", "layer", "none"]


def small(features="log_mel", normalisation="batch", labels=LETTERS, inner=8, big=12, n_features=13):
    torch.manual_seed(0)
    model = Wav2LetterCTC(Wav2LetterShape(features, n_features, inner, big, normalisation), labels)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):  # as after training: statistics and scales of all sizes
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, (nn.BatchNorm1d, nn.LayerNorm)):
            nn.init.normal_(module.bias)
    nn.init.normal_(model.net.acoustic_model[-1].bias)
    return model.eval()


@pytest.fixture(scope="module", params=FEATURES)
def full(request):
    """torchaudio's network after each front end."""
    torch.manual_seed(0)
    return wav2letter(labels=" abcd", features=request.param, n_features=FEATURES[request.param]).model.eval()


def ragged(*samples):
    """A batch of noise, zero after each utterance's end."""
    draw = torch.Generator().manual_seed(1)
    audio = [torch.randn(n, generator=draw) * 0.1 for n in samples]
    return nn.utils.rnn.pad_sequence(audio, batch_first=True), torch.tensor(samples)


def assert_padding_is_invisible(model, shortest):
    audio, lengths = ragged(8000, shortest, 5000, 5001, 1700)
    with torch.inference_mode():
        together = model(audio, lengths)
        wider = model(nn.functional.pad(audio, (0, 3333)), lengths)
        for row, length in enumerate(lengths.tolist()):
            alone = model(audio[row : row + 1, :length], lengths[row : row + 1])
            steps = alone.log_probs.shape[1]
            assert alone.lengths.tolist() == [steps]
            for batch in (together, wider):
                assert batch.lengths[row] == steps
                torch.testing.assert_close(batch.log_probs[row, :steps], alone.log_probs[0], atol=2e-4, rtol=1e-4)
                texts = [
                    model.labels.decode(p[:steps].argmax(-1).tolist())
                    for p in (batch.log_probs[row], alone.log_probs[0])
                ]
                assert texts[0] == texts[1]


def test_log_probabilities_are_torchaudios(full):
    audio, lengths = ragged(4000, 4000)
    with torch.inference_mode():
        found, steps = full(audio, lengths)
        features, _ = full.frontend(audio, lengths)
        expected = full.net(features).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert steps.tolist() == [expected.shape[1]] * 2


def test_padding_changes_nothing_in_torchaudios_network(full):
    assert_padding_is_invisible(full, SHORTEST[full.shape.features])


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("features", ["log_mel", "mfcc"])
def test_padding_changes_nothing_in_the_small_network(features, normalisation):
    assert_padding_is_invisible(small(features, normalisation), 160)


def test_the_scaled_network_at_full_width_is_torchaudios():
    from torchaudio.models import Wav2Letter

    theirs = Wav2Letter(6, "mfcc", 13)
    ours = ScaledWav2Letter(6, Wav2LetterShape("mfcc", 13, 250, 2000, "none"))
    weights = list(theirs.state_dict().values())
    assert [tuple(w.shape) for w in ours.state_dict().values()] == [tuple(w.shape) for w in weights]
    ours.load_state_dict(dict(zip(ours.state_dict(), weights, strict=True)))
    x = torch.randn(2, 13, 60)
    with torch.inference_mode():
        logits = ours.acoustic_model(x)
        torch.testing.assert_close(torch.log_softmax(logits.relu(), 1), theirs(x), atol=1e-6, rtol=0)
        torch.testing.assert_close(ours(x), torch.log_softmax(logits, 1), atol=1e-6, rtol=0)
    assert (logits < 0).any()


def test_the_small_model_equals_its_network():
    model = small()
    audio, lengths = ragged(3000)
    with torch.inference_mode():
        features, _ = model.frontend(audio, lengths)
        torch.testing.assert_close(
            model(audio, lengths).log_probs, model.net(features).transpose(1, 2), atol=1e-6, rtol=0
        )


def test_probabilities_sum_to_one():
    log_probs = small()(*ragged(3000, 2000)).log_probs
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(log_probs.shape[:2]))


def test_every_module_is_called_once_and_its_hooks_see_what_the_relu_overwrites(full):
    calls, negative = [], set()

    def look(name):
        def hook(module, inputs, output):
            calls.append(name)
            if (output.clone() < 0).any():
                negative.add(name)

        return hook

    own = [(name, module) for layer in full.layers for name in layer.modules for module in [full.get_submodule(name)]]
    handles = [module.register_forward_hook(look(name)) for name, module in own]
    with torch.inference_mode():
        full(*ragged(4000, 2000))
    for handle in handles:
        handle.remove()
    assert calls == [name for name, _ in own]
    assert negative == {name for name, module in own if isinstance(module, nn.Conv1d)}


def test_a_hook_that_returns_a_value_changes_the_answer():
    model = small()
    batch = ragged(3000)
    before = model(*batch).log_probs
    handle = model.get_submodule(model.layers[3].name).register_forward_hook(lambda m, i, output: output * 0)
    during = model(*batch).log_probs
    handle.remove()
    assert not torch.allclose(before, during)
    assert torch.equal(before, model(*batch).log_probs)


def test_output_length(full):
    for samples in (SHORTEST[full.shape.features], 401, 479, 480, 481, 639, 640, 1119, 1601, 3200, 3333):
        with torch.inference_mode():
            emissions = full(*ragged(samples))
        assert emissions.log_probs.shape[1] == emissions.lengths.item() == full.output_length(samples)


@pytest.mark.parametrize("samples", [0, 1, 159])
def test_too_short_utterances_are_rejected(full, samples):
    """The network's convolution raises an error for these; only a check before it can name the utterance."""
    assert full.output_length(samples) < 1
    assert "shorter" in full.rejection_reason(Utterance("a.wav", "a"), samples, training=False)
    assert full.rejection_reason(Utterance("a.wav", "a"), SHORTEST[full.shape.features], training=False) is None


def test_one_sample_less_than_the_shortest_waveform_is_too_short(full):
    assert full.output_length(SHORTEST[full.shape.features] - 1) < 1


def test_rejection_reasons_of_training():
    model = small()
    assert model.rejection_reason(Utterance("a.wav", "AB  cd"), 16_000, training=True) is None
    assert "'x', 'z'" in model.rejection_reason(Utterance("a.wav", "zax"), 16_000, training=True)
    assert model.rejection_reason(Utterance("a.wav", "zax"), 16_000, training=False) is None
    steps = model.output_length(1600)
    fits, doubled = "ab" * (steps // 2), "a" * steps
    assert model.rejection_reason(Utterance("a.wav", fits), 1600, training=True) is None
    assert f"needs {2 * steps - 1} output steps" in model.rejection_reason(
        Utterance("a.wav", doubled), 1600, training=True
    )


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_eleven_layers_hold_every_parameter_of_the_small_one_once(normalisation):
    assert_layers(small(normalisation=normalisation), 11)


def test_layers_hold_every_parameter_of_torchaudios_once(full):
    assert_layers(full, 12 if full.shape.features == "waveform" else 11)


def assert_layers(model, count):
    assert len(model.layers) == count
    modules = [name for layer in model.layers for name in layer.modules]
    assert len(modules) == len(set(modules))
    for name in [*dict(model.named_parameters()), *(f"net.{name}" for name in model.net.state_dict())]:
        assert sum(name.rpartition(".")[0] in layer.modules for layer in model.layers) == 1, name
    for layer in model.layers:
        kinds = [isinstance(model.get_submodule(name), nn.Conv1d) for name in layer.modules]
        assert layer.name == layer.modules[0] and kinds == [True] + [False] * (len(kinds) - 1)
    assert model.get_submodule(model.layers[-1].name).out_channels == len(model.labels)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Labels.of(" abcd"), Labels.of(" abcd\u00e9")),
        (Labels.of(" abcd"), Labels.of("dcxba ")),
        (Labels((" ", "a", "b", ""), 3), Labels.of("ba ")),
        (Labels.of(" abcd"), Labels(("d", "", "q", " "), 1)),
        (Labels.of("abc"), Labels.of("xyz")),
    ],
    ids=["extended", "moved", "blank from the end", "blank to the middle", "only the blank is shared"],
)
def test_with_labels_copies_rows_by_character(old, new):
    model = small(labels=old)
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    adapted = model.with_labels(new)
    after = adapted.net.state_dict()
    assert adapted.labels == new and model.labels == old
    for name, tensor in model.net.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.data_ptr() != after[name].data_ptr()
        if not name.startswith("acoustic_model.conv10"):
            assert torch.equal(after[name], tensor), name
    weight, bias = (model.net.state_dict()[f"acoustic_model.conv10.{kind}"] for kind in ("weight", "bias"))
    new_weight, new_bias = (after[f"acoustic_model.conv10.{kind}"] for kind in ("weight", "bias"))
    assert len(new_weight) == len(new_bias) == len(new)
    for unit, character in enumerate(new.characters):
        if character in old.characters:
            source = old.characters.index(character)
            assert torch.equal(new_weight[unit], weight[source]) and new_bias[unit] == bias[source]
        else:
            assert torch.isfinite(new_weight[unit]).all() and 0 < new_weight[unit].std() < 0.3 * weight.std()
            torch.testing.assert_close(new_bias[unit], bias.mean())
    assert torch.isfinite(adapted.eval()(*ragged(2000)).log_probs).all()


def test_with_labels_of_torchaudios(full):
    adapted = full.with_labels(Labels.of("dz"))
    head = full.layers[-1].name
    assert torch.equal(adapted.get_submodule(head).weight[1], full.get_submodule(head).weight[5])
    assert torch.equal(adapted.get_submodule(head).weight[0], full.get_submodule(head).weight[0])


def test_with_the_same_labels_nothing_changes():
    model = small()
    batch = ragged(2000)
    assert torch.equal(model(*batch).log_probs, model.with_labels(LETTERS).eval()(*batch).log_probs)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
@pytest.mark.parametrize("features", ["log_mel", "mfcc"])
def test_a_header_builds_the_same_network(features, normalisation):
    model = small(features, normalisation, Labels(("a", "", "\u00e9"), 1))
    again = from_header(json.loads(json.dumps(model.header())))
    assert again.shape == model.shape and again.labels == model.labels and again.header() == model.header()
    again.net.load_state_dict(model.net.state_dict())
    batch = ragged(2000, 1000)
    assert torch.equal(again.eval()(*batch).log_probs, model(*batch).log_probs)


def test_a_header_builds_torchaudios(full):
    again = from_header(json.loads(json.dumps(full.header())))
    assert type(again.net) is type(full.net)
    assert [t.shape for t in again.net.state_dict().values()] == [t.shape for t in full.net.state_dict().values()]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": None},
        {"shape": {"depth": 3}},
        {"shape": {"features": "video"}},
        {"shape": {"features": ["log_mel"]}},
        {"shape": {"inner": "8", "big": 12}},
        {"shape": {"inner": 8.5, "big": 12}},
        {"shape": {"inner": -1, "big": 12}},
        {"shape": {"inner": 8, "big": 12, "n_features": -1}},
        {"shape": {"inner": 8, "big": 12, "normalisation": "group"}},
        {"labels": None},
        {"labels": ["", "a", "a"]},
        {"labels": ["", "ab"]},
        {"labels": ["", 3]},
        {"blank": "first"},
        {"blank": 99},
        {"blank": None},
    ],
)
def test_an_invalid_header_is_an_input_error(change):
    with pytest.raises(InputError):
        from_header(small().header() | change)


@pytest.mark.parametrize("key", ["shape", "labels", "blank"])
def test_an_incomplete_header_is_an_input_error(key):
    with pytest.raises(InputError, match=key):
        from_header({k: v for k, v in small().header().items() if k != key})


@pytest.mark.parametrize(
    "arguments",
    [
        {"features": "video"},
        {"features": "waveform", "n_features": 1},
        {"features": "mfcc", "n_features": 80},
        {"n_features": 0},
        {"normalisation": "group"},
        {"inner": 0},
        {"big": 0},
        {"inner": -3},
        {"labels": "aab"},
    ],
)
def test_unsupported_shapes_are_input_errors(arguments):
    with pytest.raises(InputError):
        wav2letter_small(**{"inner": 8, "big": 12, "labels": "ab", **arguments})


@pytest.mark.parametrize("widths", [{"inner": 8}, {"big": 12}])
def test_one_width_alone_is_an_input_error(widths):
    """Otherwise the network would have torchaudio's 23 M weights, and the shape would not."""
    with pytest.raises(InputError):
        Wav2LetterCTC(Wav2LetterShape(**widths), LETTERS)


def test_new_small_model_has_the_documented_defaults():
    loaded = wav2letter_small(labels="ab")
    assert loaded.reference == "new"
    assert loaded.model.shape == Wav2LetterShape("log_mel", 40, 96, 256, "batch")
    assert loaded.model.labels == Labels.of("ab")


@pytest.fixture
def saved(tmp_path):
    save_model(tmp_path / "model.safetensors", small())
    return str(tmp_path / "model.safetensors")


def test_omitted_options_are_those_of_the_checkpoint(saved):
    loaded = wav2letter_small(saved)
    assert loaded.model.shape == small().shape and loaded.model.labels == LETTERS
    again = wav2letter_small(
        saved, labels=" abcd", features="log_mel", n_features=13, inner=8, big=12, normalisation="batch"
    )
    assert again.fingerprint == loaded.fingerprint


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"inner": 9}, "inner=8.*inner=9"),
        ({"big": 13}, "big=12.*big=13"),
        ({"features": "mfcc"}, "features=log_mel.*features=mfcc"),
        ({"n_features": 40}, "n_features=13.*n_features=40"),
        ({"normalisation": "none"}, "normalisation=batch.*normalisation=none"),
        ({"labels": "abcd "}, "has the labels ' abcd'"),
        ({"labels": " abcde"}, "has the labels"),
    ],
)
def test_a_checkpoint_of_another_shape_is_an_error(saved, arguments, says):
    with pytest.raises(InputError, match=says):
        wav2letter_small(saved, **arguments)


def test_the_wrong_builder_names_the_right_one(saved):
    with pytest.raises(InputError, match="model=wav2letter_small"):
        wav2letter(saved)


def test_a_plain_state_dict_needs_labels(tmp_path):
    model = small()
    path = tmp_path / "bare.safetensors"
    save_file(model.net.state_dict(), path)
    shape = {"inner": 8, "big": 12, "n_features": 13}
    loaded = wav2letter_small(str(path), labels=" abcd", **shape)
    batch = ragged(2000)
    assert torch.equal(loaded.model.eval()(*batch).log_probs, model(*batch).log_probs)
    with pytest.raises(InputError, match="model.labels"):
        wav2letter_small(str(path), **shape)
    with pytest.raises(InputError, match="label list has 5 entries"):
        wav2letter_small(str(path), labels=" abc", **shape)
    with pytest.raises(InputError, match="does not fit"):
        wav2letter_small(str(path), labels=" abcd", inner=9, big=12, n_features=13)


def assert_sites_have_the_steps_they_say(model):
    samples = (8000, 3000, 5001)
    audio, lengths = ragged(*samples)
    together = activations(model, audio, lengths)
    for number, count in enumerate(samples):
        one = audio[number : number + 1, :count], lengths[number : number + 1]
        check_padded(model, number, lengths, None, together, check_alone(model, one[1], None, *one))
    assert {site.part for site in model.sites} == {"encoder"} and {site.unit_axis for site in model.sites} == {1}
    assert [site.name for site in model.sites] == [layer.name for layer in model.layers]


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_sites_have_the_steps_they_say(normalisation):
    model = small(normalisation=normalisation)
    assert_sites_have_the_steps_they_say(model)
    assert {site.step for site in model.sites} == {Step(0.02, "s")}


def test_sites_of_torchaudios_network_have_the_steps_they_say(full):
    assert_sites_have_the_steps_they_say(full)
    first = [0.01] if full.shape.features == "waveform" else []  # its first convolution has a stride of 10 ms
    assert [site.step.length for site in full.sites] == first + [0.02] * 11


def test_punctuation_and_capitals_are_answered_with_normalising_first(base):
    model = load_model(str(base)).model
    utterance = Utterance(Path("a.wav"), "A b, c!")
    reason = model.rejection_reason(utterance, 32000, True)
    assert "the text contains '!', ','," in reason
    assert 0 < reason.index("data.normalise=true") < reason.index("alphabet=extend")
    other = model.rejection_reason(Utterance(Path("a.wav"), "ä b"), 32000, True)
    assert "data.normalise" not in other and "alphabet=extend" in other
