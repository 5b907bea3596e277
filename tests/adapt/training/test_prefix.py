"""The cached prefix: replayed, a model does bit for bit what it does when run whole."""

import json
import re
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_hf import save_ctc, save_moonshine, save_speech2text, save_speech_encoder_decoder, save_whisper
from small_mt import save_translation
from torch import nn

from adapt.data.augment import SpecAugment
from adapt.data.loader import Loader, collate
from adapt.data.manifest import Splits, Utterance, read_manifest
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.hf_speech_seq2seq import hf_speech_seq2seq
from adapt.models.hf_translation import hf_translation
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from adapt.training.prefix import Prefix, UncachedError, find_cut, train_mode
from adapt.training.prefix_cache import Cache, cache_prefix, needed
from adapt.training.prefix_store import Processes, Stored, store
from interventions.freeze import freeze_all_but

DROPOUT = {"hidden_dropout": 0.1, "attention_dropout": 0.1, "mask_time_prob": 0.3, "layerdrop": 0.5}
LATE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
ADAPTER = {"add_adapter": True, "output_hidden_size": 24, "num_adapter_layers": 2}


def wav2letter(normalisation):
    torch.manual_seed(0)
    model = Wav2LetterCTC(Wav2LetterShape("log_mel", 20, 16, 24, normalisation), Labels.of(" abcde"))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    return model


def translation(folder, family):
    languages = {"nllb": ("eng_Latn", "deu_Latn"), "mbart": ("en_XX", "de_DE")}.get(family, (None, None))
    folder = save_translation(folder, family, **({} if family == "t5" else {"attention_dropout": 0.1}))
    return hf_translation(str(folder), source_lang=languages[0], target_lang=languages[1]).model


MODELS = {
    "wav2letter": lambda folder: wav2letter("none"),
    "wav2letter, batch norm": lambda folder: wav2letter("batch"),
    "wav2vec2": lambda folder: load_model(str(save_ctc(folder, **DROPOUT))).model,
    "wav2vec2, layer norm, adapter": lambda folder: load_model(
        str(save_ctc(folder, **{**DROPOUT, **LATE, **ADAPTER}))
    ).model,
    "hubert": lambda folder: load_model(str(save_ctc(folder, "Hubert", **DROPOUT))).model,
    "wavlm": lambda folder: load_model(str(save_ctc(folder, "WavLM", **DROPOUT))).model,
    "whisper": lambda folder: hf_speech_seq2seq(str(save_whisper(folder, dropout=0.1)), language="de").model,
    "speech2text": lambda folder: load_model(str(save_speech2text(folder))).model,
    "moonshine": lambda folder: load_model(str(save_moonshine(folder))).model,
    "wav2vec2 to bart": lambda folder: load_model(str(save_speech_encoder_decoder(folder, **DROPOUT))).model,
    "wav2vec2 to bert": lambda folder: load_model(str(save_speech_encoder_decoder(folder, decoder="Bert"))).model,
    "wavlm to mbart, adapter": lambda folder: load_model(
        str(save_speech_encoder_decoder(folder, "WavLM", "MBart", **LATE))
    ).model,
    **{name: lambda folder, name=name: translation(folder, name) for name in ("marian", "separate", "mbart", "t5")},
}  # fmt: skip
TEXTS = ("ab cad", "eb", "dad add")
PAIRS = (Pair("ada dab gab", "hi ga"), Pair("bea ebb", "dab"), Pair("cid", "bid bea ada"))


@pytest.fixture(scope="module", params=MODELS)
def model(request, tmp_path_factory):
    return MODELS[request.param](tmp_path_factory.mktemp("models") / "model")


def batch_of(model):
    if model.reader.unit == "tokens":
        return collate([(pair, model.reader.read(pair)) for pair in PAIRS])
    draw = torch.Generator().manual_seed(0)
    audio = [0.3 * torch.randn(samples, generator=draw) + 0.1 for samples in (9000, 5000, 7123)]
    return collate([(Utterance(Path(text), text), own) for text, own in zip(TEXTS, audio, strict=True)])


def stored_of(prefix, batch):
    """The batch as the loader gives it where the prefix is cached."""
    lengths = batch.lengths.tolist()
    read = [torch.zeros(0) if batch.inputs.is_floating_point() else own[:n]
            for own, n in zip(batch.inputs, lengths, strict=True)]  # fmt: skip
    return collate(list(zip(batch.examples, read, lengths, map(tuple, prefix.record(batch)), strict=True)))


def step(model, batch):
    torch.manual_seed(5), np.random.seed(5)
    with train_mode(model):
        loss = model.task.loss(model, batch)
    model.zero_grad()
    loss.backward()
    return loss.detach(), {name: own.grad.clone() for name, own in model.named_parameters() if own.grad is not None}


def train_above(model, cut):
    layers = model.layers
    names = [layer.name for layer in layers]
    frozen = {module for layer in layers[: names.index(cut.last) + 1] for module in layer.modules}
    freeze_all_but(model, [name for name, _ in model.named_parameters()
                           if name.rpartition(".")[0] not in frozen and name not in model.never_trained])  # fmt: skip


def test_at_each_cut_loss_gradients_and_answers_are_those_of_the_whole_model(model):
    batch, tried = batch_of(model), 0
    for cut in model.cuts:
        try:
            train_above(model, cut)
        except ValueError:  # nothing is left to train above it, for the output layer is tied to the embedding
            continue
        assert find_cut(model).last == cut.last
        prefix = Prefix(model, cut, batch)
        short = stored_of(prefix, batch)
        assert short.inputs.shape[1] == 0 or model.reader.unit == "tokens"
        loss, gradients = step(model, batch)
        with poisoned(model, cut), prefix.replayed(short.stored):
            replayed, others = step(model, short)
        assert torch.equal(replayed, loss)
        assert gradients and gradients.keys() == others.keys()
        assert all(torch.equal(own, others[name]) for name, own in gradients.items())
        model.eval()
        with torch.no_grad():
            said = model.task.decode(model, batch)
            with prefix.replayed(short.stored, generating=True):
                assert model.task.decode(model, short) == said
            assert model.task.decode(model, batch) == said  # nothing of it is left behind
        tried += 1
    assert tried


@contextmanager
def poisoned(model, cut):
    """Make numbers of what costs up to a cut that would spoil any result that they had a part in."""
    names = [layer.name for layer in model.layers]
    modules = [model.get_submodule(name) for layer in model.layers[: names.index(cut.last) + 1]
               for name in layer.modules if "adapter" not in name and "enc_to_dec" not in name]  # fmt: skip
    weights = [own for module in modules if isinstance(module, (nn.Linear, nn.Conv1d))
               for own in module.parameters(recurse=False)]  # fmt: skip
    kept = [own.detach().clone() for own in weights]
    assert weights
    try:
        for own in weights:
            own.data.fill_(torch.nan)
        yield
    finally:
        for own, before in zip(weights, kept, strict=True):
            own.data.copy_(before)


def test_what_cannot_be_cached_says_why(tmp_path):
    model = wav2letter("none")
    names = [name for name, _ in model.named_parameters()]
    freeze_all_but(model, names)
    with pytest.raises(UncachedError, match="the first layer, 'net.acoustic_model.conv0', is trained"):
        find_cut(model)
    freeze_all_but(model, names[-4:])
    assert find_cut(model).last == "net.acoustic_model.conv8"
    model.set_augment(SpecAugment())
    with pytest.raises(UncachedError, match="augmentation hides parts of the features"):
        find_cut(model)

    model = load_model(str(save_ctc(tmp_path / "sew", "SEW", squeeze_factor=2))).model
    freeze_all_but(model, [name for name, _ in model.named_parameters() if "lm_head" in name])
    with pytest.raises(UncachedError, match="one utterance at a time"):
        find_cut(model)

    whisper = save_whisper(tmp_path / "whisper", apply_spec_augment=True, mask_time_prob=0.2)
    model = hf_speech_seq2seq(str(whisper), language="de").model
    freeze_all_but(model, [name for name, _ in model.named_parameters() if ".decoder." in name])
    with pytest.raises(UncachedError, match="SpecAugment"):
        find_cut(model)


def test_what_is_random_after_all_is_found_out():
    model = wav2letter("none")
    freeze_all_but(model, [name for name, _ in model.named_parameters()][-2:])
    (cut,) = [cut for cut in model.cuts if cut.last.endswith("conv4")]
    model.net.acoustic_model.conv2.register_forward_hook(lambda _, __, output: output + torch.rand_like(output))
    with pytest.raises(UncachedError, match="is random"):
        Prefix(model, cut, batch_of(model))


def test_what_begins_to_train_later_is_not_replayed():
    model = wav2letter("none")
    names = [name for name, _ in model.named_parameters()]
    freeze_all_but(model, names[-2:])
    prefix = Prefix(model, find_cut(model), batch_of(model))
    model.get_parameter(names[3]).requires_grad_(True)
    with pytest.raises(RuntimeError, match="is trainable now"), prefix.replayed(None):
        pass


def test_nothing_below_the_lowest_trained_layer_is_in_the_backward_pass(tmp_path):
    """Also in the feature encoder itself, which asks for the gradient of the waveform."""
    model = load_model(str(save_ctc(tmp_path / "model"))).model
    freeze_all_but(model, [name for name, _ in model.named_parameters() if ".conv_layers.2." in name])
    needs = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv1d):
            module.register_forward_hook(lambda *parts, name=name: needs.update({name: parts[2].requires_grad}))
    step(model, batch_of(model))
    assert [needs[f"net.wav2vec2.feature_extractor.conv_layers.{n}.conv"] for n in range(3)] == [False, False, True]


def test_pairs_are_those_that_the_epochs_ask_for(speech, base):
    examples, reader = read_manifest(speech["high_validation"])[0], load_model(str(base)).model.reader
    examples[0] = replace(examples[0], speeds=(0.9,))  # it does not fit at the others
    loader = Loader(2.0, speeds=(0.9, 1.0, 1.1), seed=3)
    batches = loader.training(examples, reader, stored=(asked := Asked(reader)))
    for epoch in range(2):
        batches.batch_sampler.set_epoch(epoch)
        list(batches)
    assert sorted(set(asked.keys)) == needed(examples, 2, loader.speeds, 3)
    assert len(needed(examples, None, loader.speeds, 3)) == 3 * len(examples) - 2


class Asked:
    """Notes what a loader asks for."""

    def __init__(self, reader):
        self.keys = []

    def __getitem__(self, key):
        self.keys.append(key)
        return 1, (torch.zeros(1, 1),)


@pytest.mark.parametrize("options", [{"use": "on"}, {"gigabytes": -1}, {"gigabytes": "many"}])
def test_a_cache_that_is_none(options):
    with pytest.raises(InputError, match="cache.use must be auto or off"):
        Cache(**options)


@pytest.fixture(scope="module")
def runs(innertune, base, marian, speech, language, tmp_path_factory):
    """The same run with and without the cache."""

    def run(family, *options):
        folder, given = tmp_path_factory.mktemp("runs") / "run", {"wav2letter_small": base, "hf_translation": marian}
        data, parts = language, ["data=pairs", "loader.batch_tokens=100"]
        if family != "hf_translation":
            data = {"train": speech["high_validation"], "validation": speech["low_validation"],
                    "test": speech["low_test"]}  # fmt: skip
            parts = ["data=manifest", "loader.batch_seconds=4", "loader.speeds=[0.9,1.1]"]
        return innertune(
            "adapt", f"model={family}", f"model.pretrained={given[family]}", *parts,
            *(f"data.{part}={data[part]}" for part in ("train", "validation", "test")),
            "trainer.max_epochs=3", f"output={folder}", *options,
        )  # fmt: skip

    return run


TUNED = {"wav2letter_small": "last 2", "hf_translation": "'*.decoder.layers.1*'"}


@pytest.mark.parametrize("family", TUNED)
def test_a_run_ends_as_without_the_cache(runs, caplog, family):
    # Adam would make of a gradient that is but rounding (of the bias of attention's keys) a step as long as any.
    tuning = ["tuning=layers", f"tuning.layers={TUNED[family]}", "optimizer._target_=torch.optim.SGD"]
    tuning += ["loader.workers=1"] if family == "hf_translation" else []  # which reads the files as well
    with caplog.at_level("INFO"):
        cached = runs(family, *tuning)
    (line,) = [record.getMessage() for record in caplog.records if "ached prefix" in record.getMessage()]
    assert line.startswith("Cached prefix: the lower ") and line.endswith("on disk.")
    assert not list((cached / "checkpoints").glob("prefix*"))
    whole = runs(family, *tuning, "cache.use=off")
    before, after = (load_model(str(path)).model.state_dict() for path in (whole, cached))
    for name, weights in before.items():
        torch.testing.assert_close(after[name], weights, rtol=1e-5, atol=1e-6)
    before, after = (json.loads((path / "metrics.json").read_text()) for path in (whole, cached))
    assert after["target"] == before["target"]
    for row, other in zip(before["history"], after["history"], strict=True):
        for name in row.keys() - {"seconds"}:
            assert other[name] == pytest.approx(row[name], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["tuning=full"], "the first layer, .* is trained"),
        (["tuning=head", "trainer.max_epochs=1"], "no example is read twice"),
        (
            ["tuning=head", "cache.gigabytes=0.0001"],
            "it would take .* on disk, more than the 100 kB of cache",
        ),
        (["tuning=head", "augment=spec"], "augmentation hides parts of the features"),
    ],
)
def test_a_run_without_one_says_why(runs, caplog, options, why):
    with caplog.at_level("INFO"):
        run = runs("wav2letter_small", *options)
    (line,) = [record.getMessage() for record in caplog.records if "ached prefix" in record.getMessage()]
    assert re.fullmatch(f"No cached prefix: .*{why}.*", line), line
    assert not list((run / "checkpoints").glob("prefix*"))


def test_what_a_killed_run_left_is_not_read(runs, speech, base, tmp_path):
    """Files in its place, whole or half, change nothing, and are gone afterwards."""
    model = load_model(str(base)).model
    freeze_all_but(model, [name for name, _ in model.named_parameters() if name.startswith(model.head)])
    examples = read_manifest(speech["high_validation"])[0]
    kept = tmp_path / "prefix"
    kept.mkdir()
    (kept / "train-0-0").write_bytes(b"half")
    (kept / "other").write_bytes(b"another run's")
    loader = Loader(4.0)
    prefix, stored = cache_prefix(model, Splits(train=examples), loader, Cache(), 3, kept)
    assert [path.name for path in kept.iterdir()] == ["train-0-0"]
    assert (kept / "train-0-0").stat().st_size == stored["train"].nbytes
    whole = next(iter(loader.training(examples, model.reader)))
    short = next(iter(loader.training(examples, model.reader, stored=stored["train"])))
    with torch.no_grad():
        model.eval()
        with prefix.replayed(short.stored):
            replayed = model.task.loss(model, short)
        torch.testing.assert_close(replayed, model.task.loss(model, whole), rtol=1e-6, atol=0)
    assert cache_prefix(model, Splits(train=examples), loader, Cache("off"), 3, kept) is None and not kept.exists()


def test_processes_store_a_share_each(speech, base, tmp_path):
    model = load_model(str(base)).model
    freeze_all_but(model, [name for name, _ in model.named_parameters() if name.startswith(model.head)])
    examples, loader = read_manifest(speech["high_validation"])[0], Loader(2.0)
    pairs = [(number, 1.0) for number in range(len(examples))]
    prefix = Prefix(model, find_cut(model), next(iter(loader.once(examples, model.reader, pairs))))
    alone = store(prefix, examples, pairs, loader, tmp_path, "alone")
    shares = [store(prefix, examples, pairs, loader, tmp_path, "share", processes=Processes(rank, 2))
              for rank in range(2)]  # fmt: skip
    both = Stored.joined(shares)
    assert all(share.places for share in shares) and both.nbytes == alone.nbytes
    assert both.places.keys() == alone.places.keys() == set(pairs)
    for key in pairs:
        (length, (one,)), (other_length, (other,)) = alone[key], both[key]
        assert length == other_length and torch.equal(one, other)


def test_a_bit_that_flips_in_a_stored_output_is_noticed(speech, base, tmp_path):
    model = load_model(str(base)).model
    freeze_all_but(model, [name for name, _ in model.named_parameters() if name.startswith(model.head)])
    examples, loader = read_manifest(speech["high_validation"])[0][:3], Loader(2.0)
    pairs = [(number, 1.0) for number in range(len(examples))]
    prefix = Prefix(model, find_cut(model), next(iter(loader.once(examples, model.reader, pairs))))
    stored = store(prefix, examples, pairs, loader, tmp_path, "train")
    path = next(path for path, _, size in stored.files if size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    read = 0
    with pytest.raises(InputError, match="train-0-0' was changed or damaged after it was written"):
        for pair in pairs:
            stored[pair]
            read += 1
    assert read < len(pairs)
