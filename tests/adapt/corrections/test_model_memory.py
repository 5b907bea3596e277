"""The memory of a model, family by family: what is corrected is decoded so, alone, in batches and by beams."""

from dataclasses import replace
from fnmatch import fnmatch

import pytest
import torch
from small_hf import save_speech_encoder_decoder, save_whisper
from small_mt import save_translation
from tone_speech import write_tones

from adapt.corrections.layers import correction_layer
from adapt.corrections.model_memory import ModelMemory, corrected
from adapt.corrections.paths import store_path
from adapt.corrections.support import unsupported
from adapt.data.loader import Loader, collate
from adapt.data.manifest import read_manifest
from adapt.data.pairs import Pair
from adapt.data.synthetic.domains import domains
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.ctc import ctc_greedy_loss, ctc_path, ctc_steps
from adapt.models.inference import decode_examples
from adapt.models.labels import spelled
from interventions.corrections.search import Search

# Random networks are far from any text, and must be moved further than those that have learned something.
FAR = Search(steps=200, rate=0.05, penalty=0.0, residual_scale=2.0)
ALONE = Loader(batch_seconds=0, batch_tokens=0)


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Utterances of tones, for models that never heard any."""
    return read_manifest(write_tones(tmp_path_factory.mktemp("tones"), "tones", 14))[0]


@pytest.fixture(scope="module")
def weather():
    """The embedded translation model with a memory, and sentences that it translates."""
    sentences = domains(train=0, validation=0, test=0, source_test=40, source_train=120)
    return load_model("weather-en-de"), list(sentences.source_train), list(sentences.source_test)


@pytest.mark.parametrize(
    ("family", "layer"),
    [
        ("wav2vec2", "feature_projection.projection"),
        ("whisper", "decoder.layers.1.self_attn.out_proj"),
        ("marian", "decoder.layers.1.self_attn.out_proj"),
    ],
)
def test_corrections_are_kept_at_a_layer_of_the_decoder_where_there_is_one(request, family, layer):
    chosen = correction_layer(load_model(str(request.getfixturevalue(family))).model).site
    assert chosen.name.endswith(layer)


def test_of_other_decoders_too_it_is_the_last_self_attention_unless_nothing_of_the_source_has_reached_it(tmp_path):
    t5 = load_model(str(save_translation(tmp_path / "t5", "t5"))).model
    assert fnmatch(correction_layer(t5).site.name, "*.decoder.block.1.layer.0.SelfAttention.o")
    bert = load_model(str(save_speech_encoder_decoder(tmp_path / "bert", decoder="Bert"))).model
    assert fnmatch(correction_layer(bert).site.name, "*decoder*.layer.1.attention.output.dense")
    shallow = load_model(str(save_translation(tmp_path / "shallow", decoder_layers=1))).model
    assert fnmatch(correction_layer(shallow).site.name, "*.decoder.layers.0.encoder_attn.out_proj")


@pytest.mark.slow
@pytest.mark.parametrize(("family", "beams"), [("wav2vec2", 1), ("whisper", 1), ("whisper", 3)])
def test_each_family_keeps_a_correction(request, tones, family, beams, tmp_path, monkeypatch):
    # A random network finds no text likelier than another.
    monkeypatch.setattr("adapt.corrections.model_memory.unsupported", lambda *arguments: "")
    # The corrected text has no spaces, so neither does what this Whisper writes.
    letters_only = family == "whisper" and save_whisper(tmp_path / "whisper", spaces=False)
    loaded = load_model(str(letters_only or request.getfixturevalue(family)))
    model = loaded.model
    if family == "whisper":
        model.set_generation(replace(model.generation_options, language="de", beams=beams))
    memory = ModelMemory.create(loaded, tones[4:], tmp_path / "c.db", strength=3.0)
    bare = decode_examples(model, model.task, tones[:4], Loader())
    letter = next(letter for letter in bare[0] if letter != " ")
    text = bare[0].replace(letter, "b" if letter == "a" else "a", 1)
    text = model.task.normalise(bare[0].rpartition(" ")[0] if family == "wav2vec2" else text)
    outcome = memory.correct(replace(tones[0], text=text), search=FAR)
    assert outcome.fixed and outcome.number == 1 and 0 < outcome.touched <= outcome.steps
    with corrected(loaded, str(tmp_path / "c.db")):
        for loader in (Loader(), ALONE):
            assert model.task.normalise(decode_examples(model, model.task, tones[:4], loader)[0]) == text
    memory.undo(1)
    with corrected(loaded, str(tmp_path / "c.db")):
        assert decode_examples(model, model.task, tones[:4], Loader()) == bare


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 3])
def test_a_translation_is_kept_and_others_stay(weather, beams, tmp_path):
    loaded, protected, others = weather
    model = loaded.model
    model.set_translation(replace(model.translation_options, beams=beams))
    memory = ModelMemory.create(loaded, protected, tmp_path / "c.db")
    bare = decode_examples(model, model.task, others, Loader())
    wanted = Pair("Will it be foggy tomorrow?", "Ist es morgen neblig?")
    outcome = memory.correct(wanted)
    assert outcome.before == "Wird es morgen neblig?" and outcome.fixed
    assert outcome.touched < outcome.steps == len(model.encode(wanted.target)) and outcome.checked == 20
    with memory.on():
        now = decode_examples(model, model.task, others, Loader())
        for loader in (Loader(), ALONE):
            assert decode_examples(model, model.task, [wanted, *others[:3]], loader)[0] == wanted.target
    assert sum(one != other for one, other in zip(now, bare, strict=True)) <= 2
    # What the other process took back is taken back here.
    ModelMemory.open(loaded, tmp_path / "c.db").undo(1)
    assert memory.store.refresh(memory.memory)
    with memory.on():
        assert decode_examples(model, model.task, [wanted], Loader()) == ["Wird es morgen neblig?"]


@pytest.mark.slow
def test_a_text_that_is_no_translation_is_refused(weather, tmp_path):
    loaded, protected, _ = weather
    memory = ModelMemory.create(loaded, protected, tmp_path / "c.db")
    source = "Will it be foggy tomorrow?"
    for text, why in (
        (source, "is the source itself"),
        ("Is it going to be foggy tomorrow?", "not seem to be in the target language"),
        ("Demain il y aura du brouillard", "not seem to be in the target language"),
    ):
        outcome = memory.correct(Pair(source, text))
        assert outcome.number is None and why in outcome.refused and not outcome.fixed
    assert not memory.records() and memory.correct(Pair(source, "")).refused
    hint = memory.correct(Pair(source, "Demain il y aura du brouillard"), force=True)
    assert hint.override and hint.fixed and hint.bytes == 0 and not memory.memory.entries
    with memory.on():
        assert decode_examples(loaded.model, loaded.model.task, [Pair(source)], Loader()) == [
            "Demain il y aura du brouillard"
        ]
    assert "task" not in vars(loaded.model) or loaded.model.task.decode.__name__ == "seq2seq_decode"


def test_translations_that_are_right_are_not_taken_for_another_language(weather):
    loaded, _, others = weather
    for domain in ("weather", "clinic"):
        for pair in domains(source=domain, target=domain, train=60, validation=0, test=0, source_test=0).train:
            batch = collate([(pair, loaded.model.reader.read(pair))])
            assert unsupported(loaded.model, batch, "", others) == ""


def test_too_little_is_not_protected(weather, tmp_path):
    loaded, protected, _ = weather
    with pytest.raises(InputError, match="Protect more: some minutes of audio, or a hundred sentences"):
        ModelMemory.create(loaded, protected[:2], tmp_path / "c.db")


def test_where_corrections_are_kept(weather, tmp_path, monkeypatch):
    loaded, _, _ = weather
    monkeypatch.setenv("INNERTUNE_DATA", str(tmp_path))
    assert store_path(loaded) == tmp_path / "corrections" / f"{loaded.fingerprint[:16]}.db"
    assert store_path(loaded, "off") is None and store_path(loaded, "a/b.db").name == "b.db"
    (tmp_path / "run" / "adaptation").mkdir(parents=True)
    (tmp_path / "run" / "adaptation" / "adaptation.json").write_text("{}")
    run = replace(loaded, reference=str(tmp_path / "run"))
    assert store_path(run) == tmp_path / "run" / "adaptation" / "corrections.db"
    with pytest.raises(InputError, match="There are no corrections at"), corrected(loaded, str(tmp_path / "none.db")):
        pass


@pytest.mark.parametrize("target", [[1], [1, 1], [1, 2, 1], [3, 3, 3, 2]])
def test_the_likeliest_alignment_is_that_of_all_there_are(target):
    """Beside going through every alignment of six steps."""
    draw = torch.Generator().manual_seed(len(target))
    log_probs = torch.randn(7, 4, generator=draw).log_softmax(1)
    assert ctc_steps(target) <= 7
    every = torch.cartesian_prod(*[torch.arange(4)] * 7)
    right = [path for path in every if spelled(path.tolist(), 0) == target]
    scores = torch.stack([log_probs.gather(1, path[:, None]).sum() for path in right])
    found = ctc_path(log_probs, target, 0)
    assert spelled(found.tolist(), 0) == target
    torch.testing.assert_close(log_probs.gather(1, found[:, None]).sum(), scores.max())


def test_where_the_greedy_loss_adds_nothing_greedy_decoding_is_right(base, speech):
    model = load_model(str(base)).model
    seen = 0
    for example in read_manifest(speech["low_test"])[0]:
        batch = collate([(example, model.reader.read(example))])
        with torch.no_grad():
            loss = float(model.task.loss(model, batch))
            more = float(ctc_greedy_loss(model, batch, margin=0.0)) - loss
            right = model.task.decode(model, batch)[0] == example.text
        assert more > -1e-5
        if loss < 1 and more < 1e-6:
            assert right
            seen += 1
    assert seen
