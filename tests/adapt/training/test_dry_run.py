"""`dry_run=true` says what a run would cost, and runs nothing."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from adapt.data.loader import Loader
from adapt.data.manifest import Splits, read_manifest
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.flops import counted_flops
from adapt.training.dry_run import Setup, dry_run, duration
from adapt.training.prefix_cache import Cache
from adapt.tuning.layers import full, layers
from interventions.freeze import freeze_all_but

WAYS = ["this tuning", "full fine-tuning", "LoRA, r=8"]


def chosen(reference, which):
    model = load_model(str(reference)).model
    freeze_all_but(model, full(model).names if which is None else layers(model, layers=which).names)
    return model


@pytest.fixture
def training(speech, tmp_path):
    def make(**options):
        splits = Splits(tuple(read_manifest(speech["high_validation"])[0]))
        return Setup(splits, Loader(4.0), torch.optim.AdamW, options.pop("cache", Cache()), 5, tmp_path, **options)

    return make


def test_counts_are_those_of_the_model(base, training, tmp_path):
    plain = load_model(str(base)).model
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    model = chosen(base, "last 2")
    last = sum(p.numel() for p in model.parameters() if p.requires_grad)
    own, whole, lora = dry_run(model, plain, training())
    total = sum(p.numel() for p in plain.parameters())
    assert (own.trained, whole.trained) == (last, total)
    assert (own.weight_bytes, own.gradient_bytes) == (4 * total, 4 * last)
    assert 8 * last <= own.state_bytes <= 8 * last + 100 and whole.state_bytes >= 8 * total  # AdamW: two a weight
    assert own.prefix.startswith("9 of 11 layers, ") and whole.prefix.endswith("is trained")
    # The upper two layers are all that runs; the input gradient stops above the first of them.
    assert own.forward_flops < 0.2 * whole.forward_flops and own.backward_flops < 2 * own.forward_flops
    assert 1.5 * whole.forward_flops < whole.backward_flops < 2 * whole.forward_flops
    assert 0 < lora.trained < total and lora.gradient_bytes == 4 * lora.trained
    assert own.activation_bytes < whole.activation_bytes and own.bytes < whole.bytes
    assert own.total_seconds > 5 * own.epoch_seconds > own.step_seconds > 0  # the cache is filled first
    assert whole.total_seconds == pytest.approx(5 * whole.epoch_seconds)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, before[name]) and torch.equal(model.state_dict()[name], before[name])
    assert not list(tmp_path.iterdir())


def test_without_the_cache_the_lower_layers_run(base, training):
    cached, *_ = dry_run(chosen(base, "last 2"), load_model(str(base)).model, training())
    whole, *_ = dry_run(chosen(base, "last 2"), load_model(str(base)).model, training(cache=Cache("off")))
    assert whole.prefix == "no: cache.use=off"
    assert whole.forward_flops > 5 * cached.forward_flops and whole.backward_flops == cached.backward_flops


def test_what_is_replayed_costs_too(base, speech, training, monkeypatch):
    target, source = (read_manifest(speech[f"{name}_validation"])[0] for name in ("high", "low"))
    # Each run takes one second, so times are numbers of steps.
    monkeypatch.setattr("adapt.training.dry_run._timed", lambda run, device: (1.0, run()))
    alone, replayed = (
        dry_run(
            chosen(base, "last 2"),
            load_model(str(base)).model,
            replace(training(), splits=Splits(tuple(target), source_train=tuple(source)), replay=replay),
        )[0]
        for replay in (0, "all")
    )
    assert replayed.epoch_seconds > 1.5 * alone.epoch_seconds  # eight examples more than eight
    held = [float(one.prefix.split()[-2]) for one in (alone, replayed)]
    assert held[1] == pytest.approx(2 * held[0], rel=0.2)


def test_lora_is_left_out_where_a_model_cannot_have_it(base, training, monkeypatch):
    def refused(model, data):
        raise InputError("no site")

    chosen_ = chosen(base, "last 2")
    assert [one.name for one in dry_run(chosen_, load_model(str(base)).model, training())] == WAYS
    monkeypatch.setattr("adapt.training.dry_run.lora", refused)
    assert [one.name for one in dry_run(chosen_, load_model(str(base)).model, training())] == WAYS[:2]


@pytest.mark.parametrize("family", ["hf_ctc", "hf_speech_seq2seq", "hf_translation"])
def test_every_family_prints_a_table(innertune, request, speech, language, capsys, tmp_path, family):
    given = {"hf_ctc": "wav2vec2", "hf_speech_seq2seq": "whisper", "hf_translation": "marian"}[family]
    data = language if family == "hf_translation" else {"train": speech["low_validation"], "test": speech["low_test"]}
    kind = ["data=pairs"] if family == "hf_translation" else ["data=manifest", "loader.batch_seconds=4"]
    kind += ["model.language=de"] if family == "hf_speech_seq2seq" else []
    upper = {"hf_ctc": "net.lm_head"}.get(family, "'*.decoder.layers.1*'")
    run = innertune(
        "adapt", f"model={family}", f"model.pretrained={request.getfixturevalue(given)}", *kind,
        *(f"data.{part}={data[part]}" for part in ("train", "test")), "tuning=layers", f"tuning.layers={upper}",
        f"output={tmp_path / 'run'}", "dry_run=true",
    )  # fmt: skip
    text = capsys.readouterr().out
    for word in ("this tuning", "full fine-tuning", "GFLOPs backward", "optimizer state", "total time", " layers, "):
        assert word in text
    assert not run.exists()


def test_a_grouped_convolution_counts_as_what_it_computes():
    """Each gradient multiplies what the forward pass does; torch's own count of the weight's is `groups` times it."""
    x, grouped = torch.randn(2, 8, 20, requires_grad=True), nn.Conv1d(8, 12, 3, groups=4, padding=1)
    with counted_flops() as counter:
        y = grouped(x)
        forward = counter.get_total_flops()
        y.sum().backward()
    assert forward == 2 * 2 * 12 * 20 * 2 * 3 and counter.get_total_flops() == 3 * forward
    with FlopCounterMode(display=False) as theirs:
        grouped(x).sum().backward()
    assert theirs.get_total_flops() == (2 + 4) * forward
    whole, x = nn.Conv1d(8, 12, 3, stride=2), x.detach()  # without an input gradient
    with counted_flops() as counter:
        F.relu(whole(x)).sum().backward()
    with FlopCounterMode(display=False) as theirs:
        F.relu(whole(x)).sum().backward()
    assert counter.get_total_flops() == theirs.get_total_flops() > 0


def test_durations_in_words():
    assert [duration(seconds) for seconds in (0.25, 90, 600, 36_000)] == ["0.25 s", "90 s", "10 min", "10 h"]
