"""Every command with the speech encoder-decoders other than Whisper, on small random networks."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_hf import save_moonshine, save_speech2text, save_speech_encoder_decoder

from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.introspect.activations import read_means
from adapt.models.checkpoint import load_model
from adapt.models.state import weights
from adapt.training.module import AdaptationModule
from interventions.bits import changed_bits

KINDS = {
    "speech2text": save_speech2text, "moonshine": save_moonshine, "speech encoder-decoder": save_speech_encoder_decoder,
}  # fmt: skip
MODEL = "model=hf_speech_seq2seq"


@pytest.fixture(scope="module", params=KINDS)
def given(request, tmp_path_factory):
    return KINDS[request.param](tmp_path_factory.mktemp("seq2seq") / "model")


@pytest.fixture(scope="module")
def data(speech):
    return ["data=manifest", f"data.train={speech['high_validation']}", f"data.validation={speech['low_validation']}",
            f"data.test={speech['low_test']}", "loader.batch_seconds=4", "trainer.max_epochs=1"]  # fmt: skip


@pytest.fixture(scope="module")
def run(innertune, given, data, tmp_path_factory):
    """An adaptation of the decoder's layers, with weight decay that would change frozen weights."""
    return innertune(
        "adapt", MODEL, f"model.pretrained={given}", *data, "tuning=layers", "tuning.layers=['*.decoder.*']",
        "optimizer.weight_decay=0.1", f"output={tmp_path_factory.mktemp('runs') / 'run'}",
    )  # fmt: skip


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_adapt(run, given):
    base, adapted = (load_model(str(path)) for path in (given, run))
    assert adapted.header["family"] == base.header["family"] == "hf_speech_seq2seq"
    assert adapted.fingerprint == json.loads((run / "card.json").read_text())["fingerprint"] != base.fingerprint
    before, after = weights(base.model.net), weights(adapted.model.net)
    changed = {name for name, tensor in after.items() if changed_bits(before[name], tensor).any()}
    assert changed and all(".decoder." in f".{name}" for name in changed)
    rows = json.loads((run / "comparison.json").read_text())["weights"]["layers"]
    assert [row["name"] for row in rows] == [layer.name for layer in adapted.model.layers]


def test_evaluate_and_transcribe(run, given, innertune, speech, capsys, tmp_path):
    told = innertune("evaluate", f"model.pretrained={run}", "data=manifest", f"data.test={speech['low_test']}",
                     f"output={tmp_path / 'run'}", "loader.batch_seconds=3")  # fmt: skip
    measured, adapted = metrics(told)["target"], metrics(run)["target"]["after"]
    assert measured["wer"] == adapted["wer"] and measured["cer"] == adapted["cer"]  # in batches of another size
    texts = [json.loads(line)["pred_text"] for line in (told / "transcripts.jsonl").read_text().splitlines()]
    capsys.readouterr()
    innertune("transcribe", f"model.pretrained={run}", f"audio={speech['low_test']}", "loader.batch_seconds=1")
    assert [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()] == texts
    assert any(texts)


def test_compare_and_sites(run, given, innertune, data, capsys, tmp_path):
    report = innertune("compare", f"before={given}", f"after={run}", *data[:4], f"output={tmp_path / 'run'}")
    assert metrics(report)["target"]["after"] == metrics(run)["target"]["after"]
    capsys.readouterr()
    innertune("sites", MODEL, f"model.pretrained={given}", f"json={tmp_path / 'sites.json'}")
    told, page = json.loads((tmp_path / "sites.json").read_text()), capsys.readouterr().out
    assert all(f" {row['site']['name']} " in page for row in told["sites"])
    assert {row["site"]["part"] for row in told["sites"]} == {"encoder", "decoder", "cross-attention"}


def test_pretrain_writes_a_transformers_folder(given, innertune, data, tmp_path):
    from transformers import AutoFeatureExtractor, AutoModelForSpeechSeq2Seq, AutoTokenizer

    run = innertune("pretrain", MODEL, f"model.config={given}", *data, f"output={tmp_path / 'run'}")
    net, saved = AutoModelForSpeechSeq2Seq.from_pretrained(run), load_model(str(run)).model
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in saved.net.state_dict().items())
    vocabulary = AutoTokenizer.from_pretrained(run).get_vocab()
    assert all(vocabulary[token] == unit for unit, token in enumerate(saved.vocabulary))
    assert AutoFeatureExtractor.from_pretrained(run).to_dict() == saved.extractor.to_dict()
    again = innertune("adapt", MODEL, f"model.pretrained={run}", *data, "tuning=head", "model.beams=2",
                      "+trainer.precision=bf16-mixed", "+trainer.accumulate_grad_batches=2",
                      "model.gradient_checkpointing=true", f"output={tmp_path / 'again'}")  # fmt: skip
    adapted = load_model(str(again)).model
    assert adapted.generation_options.beams == 2  # as in training
    assert all(t.dtype == torch.float32 for t in weights(adapted.net).values() if t.is_floating_point())


def test_activations_are_the_same_in_batches_of_any_size(given, speech):
    model, examples = load_model(str(given)).model, read_manifest(speech["low_test"])[0][:5]
    chosen = [model.sites[number] for number in (1, 8, -1)]
    together, alone = (read_means(model, examples, Loader(batch_seconds=seconds), chosen) for seconds in (20, 0.1))
    for site in chosen:
        torch.testing.assert_close(together[site.name], alone[site.name], atol=1e-4, rtol=1e-4)


def test_an_adaptation_knows_its_base(run, given, tmp_path):
    other = shutil.copytree(given, tmp_path / "other")
    state = {name: tensor + 1 for name, tensor in load_file(other / "model.safetensors").items()}
    save_file(state, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="belongs to another base"):
        load_model(str(run), str(other))


class KilledError(Exception):
    pass


def test_a_resumed_run_equals_an_uninterrupted_one(innertune, data, tmp_path, monkeypatch):
    given = save_speech_encoder_decoder(tmp_path / "model", layerdrop=0.3, mask_time_prob=0.3)
    options = [MODEL, f"model.pretrained={given}", *data[:-1], "trainer.max_epochs=2"]
    whole = load_model(str(innertune("adapt", *options, f"output={tmp_path / 'whole'}"))).fingerprint
    start = AdaptationModule.on_train_epoch_start

    def killed(module):
        if module.current_epoch == 1:
            raise KilledError
        start(module)

    monkeypatch.setattr(AdaptationModule, "on_train_epoch_start", killed)
    with pytest.raises(KilledError):
        innertune("adapt", *options, f"output={tmp_path / 'run'}")
    monkeypatch.undo()
    torch.rand(7)
    resumed = innertune("adapt", *options, f"output={tmp_path / 'run'}", "resume=true")
    assert load_model(str(resumed)).fingerprint == whole
