"""Every command with every model family (the table in the README), on small random networks."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tone_speech import TINY

from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.model_files import read_safetensors
from adapt.models.state import weights
from adapt.training.module import AdaptationModule
from interventions.bits import changed_bits

FAMILIES = ("wav2letter_small", "hf_ctc", "hf_speech_seq2seq", "hf_translation")
TRANSFORMERS = FAMILIES[1:]
SPEECH = FAMILIES[:3]
WRITES = {"hf_speech_seq2seq": ["model.language=de"]}
SLOWLY = {"hf_translation": ["optimizer.lr=0.0001"]}  # otherwise a random network soon writes nothing
MEASURES = dict.fromkeys(SPEECH, ("wer", "cer")) | {"hf_translation": ("bleu", "chrf", "ter")}


@pytest.fixture(scope="module")
def given(base, wav2vec2, whisper, marian):
    return dict(zip(FAMILIES, (base, wav2vec2, whisper, marian), strict=True))


@pytest.fixture(scope="module")
def data(speech, language):
    heard = ["data=manifest", f"data.train={speech['high_validation']}", f"data.validation={speech['low_validation']}",
             f"data.test={speech['low_test']}", "loader.batch_seconds=4"]  # fmt: skip
    read = ["data=pairs", *(f"data.{part}={language[part]}" for part in ("train", "validation", "test")),
            "loader.batch_tokens=100"]  # fmt: skip
    return dict.fromkeys(SPEECH, heard) | {"hf_translation": read}


@pytest.fixture(scope="module")
def tests(speech, language):
    """The data options of each family."""
    return dict.fromkeys(SPEECH, ["data=manifest", f"data.test={speech['low_test']}"]) | {
        "hf_translation": ["data=pairs", f"data.test={language['test']}"]
    }


@pytest.fixture(scope="module")
def adapt(innertune, given, data, tmp_path_factory):
    def run(family, *options):
        folder = tmp_path_factory.mktemp("runs") / "run"
        return innertune(
            "adapt", f"model={family}", f"model.pretrained={given[family]}", *WRITES.get(family, []), *data[family],
            "trainer.max_epochs=1", "keep_checkpoints=true", f"output={folder}", *SLOWLY.get(family, []), *options,
        )  # fmt: skip

    return run


@pytest.fixture(scope="module")
def runs(adapt):
    made = {}

    def run(family):
        if family not in made:
            made[family] = adapt(family)
        return made[family]

    return run


def metrics(run):
    return json.loads((run / "metrics.json").read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_adapt(runs, given, family):
    run, base = runs(family), load_model(str(given[family]))
    adapted = load_model(str(run))
    assert adapted.model.header()["family"] == base.model.header()["family"] == adapted.header["family"]
    assert adapted.fingerprint == json.loads((run / "card.json").read_text())["fingerprint"] != base.fingerprint
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    state = adapted.model.net.state_dict()
    trained = {
        name.removeprefix("model.net."): tensor for name, tensor in best.items() if name.startswith("model.net.")
    }
    assert {*state} >= {*trained} and len(trained) > 0.9 * len(state)
    assert all(torch.equal(state[name], tensor) for name, tensor in trained.items())
    counted = metrics(run)["weights"]
    assert 0 < counted["changed"] <= counted["trained"] <= counted["total"]
    assert counted["total"] == sum(p.numel() for p in adapted.model.parameters())
    rows = json.loads((run / "comparison.json").read_text())["weights"]["layers"]
    assert [row["name"] for row in rows] == [layer.name for layer in adapted.model.layers]
    assert all(row["neurons"] and max(row["neurons"]) > 0 for row in rows)
    page = (run / "report.html").read_text()
    assert all(row["name"] in page for row in rows)


HALF = {
    "wav2letter_small": ["last 2"], "hf_ctc": ["last 2"], "hf_speech_seq2seq": ["*.decoder.layers.*"],
    "hf_translation": ["*.decoder.layers.*"],
}  # fmt: skip


@pytest.mark.parametrize("tuning", ["layers", "head"])
@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_layers_stay_bit_identical(adapt, given, family, tuning):
    chosen = [f"tuning.layers={HALF[family]}"] if tuning == "layers" else []
    run = adapt(family, f"tuning={tuning}", *chosen, "optimizer.weight_decay=0.1")
    before, after = (load_model(str(path)).model for path in (given[family], run))
    own = weights(after.net)
    changed = {name for name, tensor in own.items() if changed_bits(weights(before.net)[name], tensor).any()}
    assert set(read_safetensors(run / "adaptation" / "weights.safetensors")[1]) - {":rows"} == changed
    trained = json.loads((run / "adaptation" / "adaptation.json").read_text())["trained"]
    kinds = {name for name, _ in after.net.named_parameters()}
    assert changed and changed & kinds <= {name.removeprefix("net.") for name in trained}
    counted = metrics(run)["weights"]
    assert 0 < counted["changed"] <= counted["trained"] < counted["total"]
    rows = json.loads((run / "comparison.json").read_text())["weights"]["layers"]
    assert not any(row["changed"] or row["buffers_changed"] for row in rows if row["trained"] == 0)


@pytest.fixture(scope="module")
def neurons(adapt):
    """Runs that train a fifth of the neurons of each site, with everything that could change the others."""
    made = {}

    def run(family):
        if family not in made:
            checkpointed = ["model.gradient_checkpointing=true"] if family in TRANSFORMERS else []
            made[family] = adapt(
                family, "tuning=neurons", "tuning.top=0.2", "optimizer.weight_decay=0.1", "trainer.max_epochs=2",
                "+trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=1", *checkpointed,
            )  # fmt: skip
        return made[family]

    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_neurons_stay_bit_identical(neurons, given, family):
    run = neurons(family)
    before, after = (load_model(str(path)).model for path in (given[family], run))
    facts = json.loads((run / "adaptation" / "adaptation.json").read_text())
    assert facts["trained"] == list(facts["trained_rows"]) and len(facts["trained"]) > 8
    old, new = weights(before.net), weights(after.net)
    differ = {name: changed_bits(old[name], tensor) for name, tensor in new.items()}
    free = changed = 0
    for name, bits in differ.items():
        may = facts["trained_rows"].get(f"net.{name}", 0)
        moved = int(bits.reshape(len(bits), -1).any(1).sum()) if bits.dim() else int(bits)
        assert moved <= may, name
        free, changed = free + (may * new[name][0].numel() if may else 0), changed + int(bits.sum())
    counted = metrics(run)["weights"]
    assert (counted["trained"], counted["changed"]) == (free, changed) and 0.1 < free / counted["total"] < 0.3
    assert changed > 0.5 * free and counted["buffers_changed"] == 0
    rows = json.loads((run / "comparison.json").read_text())["weights"]["layers"]
    assert sum(row["trained"] for row in rows) == free


@pytest.mark.parametrize("family", FAMILIES)
def test_neurons_are_evaluated_and_compared_as_they_were_trained(
    neurons, given, innertune, data, tests, tmp_path, family
):
    run = neurons(family)
    told = innertune("evaluate", f"model.pretrained={run}", *tests[family], f"output={tmp_path / 'run'}")
    report = innertune(
        "compare", f"before={given[family]}", f"after={run}", *data[family], f"output={tmp_path / 'report'}"
    )
    for key in MEASURES[family]:
        assert metrics(told)["target"][key] == metrics(run)["target"]["after"][key]
    assert metrics(report)["weights"] == metrics(run)["weights"]
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    state = load_model(str(run)).model.state_dict()
    rows = [name for name in best if name.endswith(".rows")]
    assert rows
    for name in rows:
        weight = state[name.removeprefix("model.").removesuffix("rows") + "weight"]
        assert all((weight == row).flatten(1).all(1).any() for row in best[name])


LORA = ["tuning=lora", "tuning.r=2"]
VARIANTS = [
    *((family, LORA, {"lora"}) for family in FAMILIES),
    ("hf_ctc", ["tuning=lora", "tuning.r=2", "tuning.use_dora=true"], {"lora"}),
    ("hf_translation", ["tuning=peft", "tuning.method=IA3", "tuning.sites=['*.k_proj','*.v_proj','*.fc2']",
                        "tuning.options={feedforward_modules:['*.fc2']}"], {"ia3"}),
    ("hf_speech_seq2seq", ["tuning=bias", "tuning.layers=decoder"], {"bias"}),
    ("hf_ctc", ["tuning=norm"], {"weight", "bias"}),
    ("hf_translation", ["tuning=mix", "+tuning@tuning.parts.rows=neurons", "+tuning@tuning.parts.factors=lora",
                        "+tuning@tuning.parts.norms=norm", "tuning.parts.rows.sites='*.encoder.layers.1.*'",
                        "tuning.parts.rows.top=0.2", "tuning.parts.factors.layers=decoder",
                        "tuning.parts.norms.layers=[encoder last 1]"], {"rows", "lora", "weight", "bias"}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "tuning", "kinds"), VARIANTS)
def test_factors_biases_norms_and_mixes(adapt, given, innertune, data, tmp_path, family, tuning, kinds):
    checkpointed = ["model.gradient_checkpointing=true"] if family in TRANSFORMERS else []
    run = adapt(family, *tuning, *checkpointed, "optimizer.weight_decay=0.1", "+trainer.accumulate_grad_batches=2")
    before, after = (load_model(str(path)).model for path in (given[family], run))
    facts = json.loads((run / "adaptation" / "adaptation.json").read_text())
    stored = read_safetensors(run / "adaptation" / "weights.safetensors")[1]
    named = {name.partition(":")[2][:3] if ":" in name else name for name in stored} - {"row"}
    assert ("lor" in named) == ("lora" in kinds) and ("ia3" in named) == ("ia3" in kinds)
    old, new = weights(before.net), weights(after.net)
    assert list(old) == list(new) and list(after.layers) == list(before.layers)
    differ = {f"net.{name}": int(changed_bits(old[name], tensor).sum()) for name, tensor in new.items()}
    parameters = dict(after.named_parameters())
    changed = {name: count for name, count in differ.items() if count and name in parameters}
    assert changed and changed.keys() <= set(facts["trained"])
    rows, factors = facts["trained_rows"], facts["trained_factors"]
    for name, count in changed.items():
        assert count <= rows.get(name, len(parameters[name])) * parameters[name][0].numel()
    counted = metrics(run)["weights"]
    numbers = {
        name: rows.get(name, len(own)) * own[0].numel() for name, own in parameters.items() if name in facts["trained"]
    }
    assert counted["trained"] == sum(numbers.values()) and counted["changed"] == sum(changed.values())
    assert counted["parameters"] == sum(factors.get(name, count) for name, count in numbers.items())
    assert sum(factors.values()) == sum(t.numel() for name, t in stored.items() if ":" in name and name != ":rows")
    report = innertune("compare", f"before={given[family]}", f"after={run}", *data[family], f"output={tmp_path / 'c'}")
    assert metrics(report)["weights"] == counted
    assert metrics(report)["target"]["after"] == metrics(run)["target"]["after"]


@pytest.mark.parametrize("family", FAMILIES)
def test_evaluate_and_decode(runs, innertune, tests, speech, language, capsys, tmp_path, family):
    run = runs(family)
    told = innertune("evaluate", f"model.pretrained={run}", *tests[family], f"output={tmp_path / 'run'}",
                     "loader.batch_seconds=3", "loader.batch_tokens=30")  # fmt: skip
    measured, adapted = metrics(told)["target"], metrics(run)["target"]["after"]
    for key in MEASURES[family]:
        assert measured[key] == adapted[key]  # in batches of another size
    assert set(measured["groups"]) == ({"domain"} if family == "hf_translation" else {"accent", "speaker"})
    texts = [json.loads(line)["pred_text"] for line in (told / "transcripts.jsonl").read_text().splitlines()]
    capsys.readouterr()
    if family == "hf_translation":
        innertune("translate", f"model.pretrained={run}", f"file={language['test']}", "loader.batch_tokens=10")
        assert capsys.readouterr().out.splitlines() == texts
    else:
        innertune("transcribe", f"model.pretrained={run}", f"audio={speech['low_test']}", "loader.batch_seconds=1")
        assert [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()] == texts
    assert any(texts)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_evaluate_a_folder_of_transformers(runs, given, innertune, tests, tmp_path, family):
    told = innertune("evaluate", f"model={family}", f"model.pretrained={given[family]}", *WRITES.get(family, []),
                     *tests[family], f"output={tmp_path / 'run'}")  # fmt: skip
    for key in MEASURES[family]:
        assert metrics(told)["target"][key] == metrics(runs(family))["target"]["before"][key]


def test_transcribe_and_translate(given, innertune, speech):
    with pytest.raises(InputError, match="reads text, not audio. To translate: innertune translate"):
        innertune("transcribe", f"model.pretrained={given['hf_translation']}", f"audio={speech['low_test']}")
    with pytest.raises(InputError, match="reads audio, not text. To transcribe: innertune transcribe"):
        innertune("translate", f"model.pretrained={given['hf_ctc']}", "text=hello")


@pytest.mark.parametrize("family", FAMILIES)
def test_sites(given, innertune, capsys, tmp_path, family):
    innertune("sites", f"model={family}", f"model.pretrained={given[family]}", f"json={tmp_path / 'sites.json'}")
    told = json.loads((tmp_path / "sites.json").read_text())
    page = capsys.readouterr().out
    assert all(f" {row['site']['name']} " in page for row in told["sites"])
    assert told["fingerprint"] == load_model(str(given[family])).fingerprint


@pytest.mark.parametrize("family", FAMILIES)
def test_compare(runs, given, innertune, data, tmp_path, family):
    run = runs(family)
    report = innertune(
        "compare", f"before={given[family]}", f"after={run}", *data[family], f"output={tmp_path / 'run'}"
    )
    mine, theirs = metrics(report), metrics(run)
    assert mine["target"]["after"] == theirs["target"]["after"]
    for name in ("total", "trained", "changed"):
        assert mine["weights"][name] == theirs["weights"][name]


def test_different_families_are_compared_by_their_texts(given, innertune, data, tmp_path):
    run = innertune("compare", f"before={given['hf_ctc']}", f"after={given['wav2letter_small']}", *data["hf_ctc"],
                    f"output={tmp_path / 'run'}")  # fmt: skip
    with pytest.raises(InputError, match="different tasks: the first is evaluated by WER, the second by BLEU"):
        innertune("compare", f"before={given['hf_ctc']}", f"after={given['hf_translation']}", *data["hf_translation"],
                  f"output={tmp_path / 'mixed'}")  # fmt: skip
    found = metrics(run)
    assert "weights" not in found and found["target"]["after"]["cer"] < found["target"]["before"]["cer"]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_pretrain(innertune, given, data, tmp_path, family, half):
    new = TINY if family == "wav2letter_small" else [f"model.config={given[family]}", *WRITES.get(family, [])]
    run = innertune("pretrain", f"model={family}", *new, *data[family], "trainer.max_epochs=1", f"save_half={half}",
                    f"output={tmp_path / 'run'}")  # fmt: skip
    saved = load_model(str(run))
    assert saved.fingerprint == json.loads((run / "card.json").read_text())["fingerprint"]
    assert all(tensor.dtype != torch.float16 for tensor in weights(saved.model.net).values())
    assert metrics(run)["target"]["after"]["examples"] == 12
    again = innertune("adapt", f"model={family}", f"model.pretrained={run}", *WRITES.get(family, []), *data[family],
                      "trainer.max_epochs=1", "tuning=head", f"output={tmp_path / 'again'}")  # fmt: skip
    assert load_model(str(again)).fingerprint != saved.fingerprint


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_pretrain_writes_a_transformers_folder(innertune, given, data, tmp_path, family):
    from transformers import AutoModelForCTC, AutoModelForSeq2SeqLM, AutoModelForSpeechSeq2Seq, AutoProcessor

    run = innertune("pretrain", f"model={family}", f"model.config={given[family]}", *WRITES.get(family, []),
                    *data[family], "trainer.max_epochs=1", f"output={tmp_path / 'run'}")  # fmt: skip
    auto = dict(zip(TRANSFORMERS, (AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoModelForSeq2SeqLM), strict=True))[
        family
    ]
    net, saved = auto.from_pretrained(run), load_model(str(run)).model
    assert all(torch.equal(tensor, net.state_dict()[name]) for name, tensor in saved.net.state_dict().items())
    processor = AutoProcessor.from_pretrained(run)
    vocabulary = getattr(processor, "tokenizer", processor).get_vocab()
    assert all(vocabulary[token] == unit for unit, token in enumerate(saved.vocabulary))
    header, state = read_safetensors(run / "model.safetensors")
    state = {name: tensor + 1 for name, tensor in state.items()}
    save_file(state, run / "model.safetensors", metadata={"format": "pt", "innertune": json.dumps(header)})
    with pytest.raises(InputError, match="changed or damaged"):
        load_model(str(run))


class KilledError(Exception):
    pass


RESUMED = [*((family, "full") for family in TRANSFORMERS), *((family, "neurons") for family in FAMILIES[::2]),
           ("wav2letter_small", "lora"), ("hf_translation", "lora")]  # fmt: skip


@pytest.mark.parametrize(("family", "tuning"), RESUMED)
def test_a_resumed_run_equals_an_uninterrupted_one(adapt, innertune, monkeypatch, tmp_path, family, tuning):
    options = ["trainer.max_epochs=3", "optimizer.lr=0.003", "loader.speeds=[0.9,1.1]", f"tuning={tuning}"]
    options += ["model.mask_time_prob=0.3", "model.layerdrop=0.3"] if family == "hf_ctc" else []
    whole = load_model(str(adapt(family, *options))).fingerprint
    start = AdaptationModule.on_train_epoch_start

    def killed(module):
        if module.current_epoch == 1:
            raise KilledError
        start(module)

    monkeypatch.setattr(AdaptationModule, "on_train_epoch_start", killed)
    with pytest.raises(KilledError):
        adapt(family, *options, f"output={tmp_path / 'run'}")
    monkeypatch.undo()
    torch.rand(7)
    resumed = adapt(family, *options, f"output={tmp_path / 'run'}", "resume=true")
    assert len(metrics(resumed)["history"]) == 3
    assert load_model(str(resumed)).fingerprint == whole


@pytest.mark.parametrize(
    ("family", "tuning"), [*((family, "full") for family in FAMILIES), ("hf_ctc", "neurons"), ("hf_ctc", "lora")]
)
def test_bf16_accumulation_and_checkpointing(adapt, family, tuning):
    options = [f"tuning={tuning}", "+trainer.precision=bf16-mixed", "+trainer.accumulate_grad_batches=2"]
    options += ["model.gradient_checkpointing=true"] if family in TRANSFORMERS else []
    run = adapt(family, *options)
    assert 0 < metrics(run)["history"][0]["train_loss"] < 100
    assert all(tensor.dtype == torch.float32 for tensor in weights(load_model(str(run)).model.net).values()
               if tensor.is_floating_point())  # fmt: skip


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_an_adaptation_finds_its_base_and_no_other(runs, given, tmp_path, family):
    run = shutil.copytree(runs(family), tmp_path / "run")
    facts = json.loads((run / "adaptation" / "adaptation.json").read_text())
    assert facts["base"]["reference"] == str(given[family])
    facts["base"]["reference"] = "owner/gone"
    (run / "adaptation" / "adaptation.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="The base of .* cannot be loaded: There is no folder 'owner/gone'.*base="):
        load_model(str(run))
    assert load_model(str(run), str(given[family])).fingerprint == facts["fingerprint"]
    other = shutil.copytree(given[family], tmp_path / "other")
    state = {name: tensor + 1 for name, tensor in load_file(other / "model.safetensors").items()}
    save_file(state, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="belongs to another base"):
        load_model(str(run), str(other))


def test_an_adaptation_keeps_its_generation_options(runs):
    assert load_model(str(runs("hf_speech_seq2seq"))).model.generation_options.language == "de"


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_another_alphabet_and_augmentation_are_errors(adapt, family):
    with pytest.raises(InputError, match="alphabet=extend needs a model with an alphabet of its own"):
        adapt(family, "alphabet=extend")
    with pytest.raises(InputError, match="cannot be augmented"):
        adapt(family, "augment=spec")


def test_another_family_is_an_error(adapt, given):
    with pytest.raises(InputError, match="is not a wav2letter_small; try model=hf_ctc"):
        adapt("wav2letter_small", f"model.pretrained={given['hf_ctc']}")
    with pytest.raises(InputError, match="is of the family wav2letter, not hf_ctc"):
        adapt("hf_ctc", f"model.pretrained={given['wav2letter_small']}")
