import pytest
import torch
from small_hf import save_ctc, save_moonshine, save_speech2text, save_speech_encoder_decoder, save_whisper
from small_mt import save_translation

from adapt.data.manifest import read_manifest
from adapt.data.pairs import Pair
from adapt.data.recording import Recording
from adapt.errors import InputError
from adapt.introspect.attribution.words import Word, output_words, single_batch
from adapt.introspect.lens.lens import logit_lens
from adapt.introspect.lens.readouts import fit_readouts
from adapt.introspect.lens.states import decoder_blocks, encoder_blocks
from adapt.models.checkpoint import load_model
from adapt.models.model import DecoderModel
from adapt.models.wav2letter import wav2letter, wav2letter_small

pytestmark = pytest.mark.slow
LAYERS = {
    "ctc": lambda folder: save_ctc(folder, num_hidden_layers=3),
    "stable": lambda folder: save_ctc(
        folder, num_hidden_layers=3, do_stable_layer_norm=True, feat_extract_norm="layer"
    ),
    "wavlm": lambda folder: save_ctc(folder, "WavLM", num_hidden_layers=3),
    "alone": lambda folder: save_ctc(folder, "Wav2Vec2Conformer", num_hidden_layers=3),
    "adapter": lambda folder: save_ctc(folder, num_hidden_layers=3, add_adapter=True, num_adapter_layers=2),
    "whisper": lambda folder: save_whisper(folder, encoder_layers=3, decoder_layers=3),
    "moonshine": save_moonshine,
    "speech2text": save_speech2text,
    "encoder-decoder": save_speech_encoder_decoder,
    "marian": save_translation,
    "t5": lambda folder: save_translation(folder, "t5"),
    "mbart": lambda folder: save_translation(folder, "mbart"),
}


def sound(seconds=1.0):
    torch.manual_seed(1)
    return Recording(torch.randn(int(16_000 * seconds)).mul(0.1).numpy(), 16_000)


def example_of(model):
    return sound() if model.reads_audio else Pair("a b c d")


def spoken(model, example):
    """All output steps as one word: the model's likeliest units, or for a decoder any tokens that it reads."""
    batch = single_batch(model, example)
    if isinstance(model, DecoderModel):
        tokens = [token for token in model.encode("a b")][:4]
        chances = model(batch.inputs, batch.lengths, torch.tensor([tokens]))[0]
        return Word("it", tuple(range(len(tokens))), tuple(tokens), tuple(tokens)), chances.float().softmax(-1)
    log_probs, lengths = model(batch.inputs, batch.lengths)
    path = log_probs[0, : int(lengths[0])].argmax(-1).tolist()
    steps = [step for step in range(len(path)) if not step or path[step] != path[step - 1]]  # none repeats
    return Word("it", tuple(steps), tuple(path[step] for step in steps)), log_probs[0].exp()


@pytest.mark.parametrize("kind", LAYERS)
def test_the_last_layer_reads_exactly_what_the_model_answers(tmp_path, kind):
    model = load_model(str(LAYERS[kind](tmp_path / kind))).model.eval()
    example = example_of(model)
    with torch.no_grad():
        word, chances = spoken(model, example)
    found = logit_lens(model, example, word)
    names = [*encoder_blocks(model), *(decoder_blocks(model) if isinstance(model, DecoderModel) else ())]
    assert len(names) >= 2 and found
    for number, step in enumerate(found):
        assert [reading.layer for reading in step.layers] == names
        last = step.layers[-1]
        # The network's log-probabilities are rounded once more.
        own = float(chances[word.steps[number], word.units[number]])
        assert last.probability == (own if isinstance(model, DecoderModel) else pytest.approx(own, 1e-5))
        for reading in step.layers:
            assert 0 <= reading.probability <= reading.likeliest[0][1] <= 1 and len(reading.likeliest) == 3
            assert reading.first == (reading.probability == reading.likeliest[0][1])
        if isinstance(model, DecoderModel):
            assert last.probability == step.layers[len(encoder_blocks(model)) - 1].probability
    early = [step.layers[0].probability != step.layers[-1].probability for step in found]
    assert any(early)  # the layers before are others


def silence(block):
    """Make a pre-norm transformer layer add nothing to what passes through it."""
    for name, module in block.named_modules():
        if name.endswith(("out_proj", "fc2", "output_dense")):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)


@pytest.mark.parametrize("kind", ["stable", "whisper"])
def test_layers_that_add_nothing_decide_nothing(tmp_path, kind):
    # Planted: the layers after the first add nothing, so all is decided in the first.
    model = load_model(str(LAYERS[kind](tmp_path / kind))).model.eval()
    example, decodes = example_of(model), isinstance(model, DecoderModel)
    blocks = decoder_blocks(model) if decodes else encoder_blocks(model)
    for name in blocks[1:]:
        silence(model.get_submodule(name))
    with torch.no_grad():
        word, chances = spoken(model, example)
    if decodes:
        first = int(chances[0].argmax())
        word = Word("it", (0,), (first,), (first,))
    for step in logit_lens(model, example, word):
        readings = [reading for reading in step.layers if reading.layer in blocks]
        assert step.decided == blocks[0]
        assert len({round(reading.probability, 5) for reading in readings}) == 1
    # Planted: what the last layer adds decides alone.
    with torch.no_grad():
        head = model.get_submodule(model.sites[-1].name)
        other = int(chances[word.steps[0]].argmin())
        late = [
            module
            for name, module in model.get_submodule(blocks[-1]).named_modules()
            if name.endswith(("fc2", "output_dense"))
        ]
        late[-1].bias.copy_(100 * head.weight[other])
    planted = Word("it", (0,), (other,), (other,) if decodes else ())
    (step,) = logit_lens(model, example, planted)
    assert step.decided == blocks[-1] and not any(one.first for one in step.layers[:-1] if one.layer in blocks)


def test_readouts_of_a_wav2letter_find_what_was_trained_and_nothing_by_chance(base, speech):
    model = load_model(str(base)).model
    examples = read_manifest(speech["low_train"])[0]
    readouts = fit_readouts(model, examples)
    layers = [layer.name for layer in model.layers]
    assert list(readouts.maps) == layers[:-1]
    # The state before the last convolution has all of the answer; the one after the first has not.
    assert readouts.agreement[layers[-2]] > 0.95 > readouts.agreement[layers[0]] + 0.1
    example = read_manifest(speech["low_test"])[0][0]
    for word in output_words(model, example):
        found = logit_lens(model, example, word, readouts)
        assert "".join(step.unit for step in found) == word.text
        for step in found:
            assert [reading.layer for reading in step.layers] == layers
            assert [reading.fitted for reading in step.layers] == [True] * (len(layers) - 1) + [False]
            assert step.layers[-1].first and step.decided is not None
    without = logit_lens(model, example, word)
    assert [len(step.layers) for step in without] == [1] * len(without)
    # The control: readouts of a network of random weights, on the answers of the trained one, are worse.
    torch.manual_seed(0)
    shape = {name: getattr(model.shape, name) for name in ("n_features", "inner", "big")}
    untrained = wav2letter_small(labels="".join(model.vocabulary), **shape).model
    head = untrained.get_submodule(untrained.head)
    head.load_state_dict(model.get_submodule(model.head).state_dict())
    step = logit_lens(untrained, example, word, fit_readouts(untrained, examples))[0]
    assert step.unit == word.text[0] and not step.layers[-1].first


def test_the_network_of_torchaudio_is_read_too():
    torch.manual_seed(0)
    model = wav2letter(n_features=8).model
    examples = [sound(0.6) for _ in range(150)]
    with pytest.raises(InputError, match=r"fewer than the 2001 of the widest layer"):
        fit_readouts(model, examples[:3])


def test_before_and_after_are_read_for_the_same_units(base, speech):
    model = load_model(str(base)).model
    other = load_model(str(base)).model
    with torch.no_grad():
        other.get_submodule(other.head).bias[model.blank] += 100  # it writes nothing
    example = read_manifest(speech["low_test"])[0][0]
    word = output_words(model, example)[0]
    before, after = logit_lens(other, example, word), logit_lens(model, example, word)
    assert [step.unit for step in before] == [step.unit for step in after]
    assert all(step.decided is None and step.layers[-1].probability < 1e-6 for step in before)
    assert all(step.decided == model.head for step in after)


def test_broken_requests_are_refused(base, speech, marian):
    model, example = load_model(str(base)).model, read_manifest(speech["low_test"])[0][0]
    word = output_words(model, example)[0]
    with pytest.raises(InputError, match="count"):
        logit_lens(model, example, word, count=0)
    with pytest.raises(InputError, match="output units"):
        logit_lens(model, example, Word("x", (0,), (10_000,)))
    with pytest.raises(InputError, match=r"The answer has \d+ steps"):
        logit_lens(model, example, Word("x", (10_000,), (1,)))
    with pytest.raises(InputError, match="written by a CTC model"):
        logit_lens(load_model(str(marian)).model, Pair("a b"), Word("x", (0,), (1,)))
    with pytest.raises(InputError, match="number of examples"):
        fit_readouts(model, [example])
