"""The Lightning module: the learning rate's course, what stays frozen, and losses that are no numbers."""

import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from adapt.data.audio import AudioReader
from adapt.data.loader import Loader, collate
from adapt.data.manifest import Utterance
from adapt.errors import InputError
from adapt.models.labels import Labels
from adapt.models.task import recognition
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from adapt.training.module import AdaptationModule, learning_rate_factor
from interventions.bits import changed_bits
from interventions.freeze import freeze_all_but

SCHEDULES = ["constant", "linear", "cosine"]


def small():
    torch.manual_seed(0)
    return Wav2LetterCTC(Wav2LetterShape("log_mel", 13, 8, 12, "batch"), Labels.of(" ab"))


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)


def batch(where=""):
    draw = torch.Generator().manual_seed(0)
    return collate(
        [
            (Utterance(f"{n}.wav", text, where=where), torch.randn(3000, generator=draw))
            for n, text in enumerate(["ab", "b a"])
        ]
    )


@torch.no_grad()
def test_a_validation_step_runs_the_network_once_and_measures_what_two_passes_measure():
    module = AdaptationModule(small().eval(), recognition, adamw).eval()
    calls = []
    module.model.register_forward_hook(lambda *_: calls.append(1))
    module.validation_step(batch(), 0)
    ((loss, references, hypotheses),) = module.validated
    assert len(calls) == 1 and references == ["ab", "b a"]
    assert loss == float(recognition.loss(module.model, batch()))
    assert hypotheses == recognition.comparable(batch().examples, recognition.decode(module.model, batch()))


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(steps=st.integers(1, 500), warmup=st.floats(0, 0.99))
def test_the_factor_is_a_share_and_rises_then_falls(schedule, steps, warmup):
    course = [learning_rate_factor(step, steps, schedule, warmup) for step in range(steps + 1)]
    assert all(0 <= factor <= 1 for factor in course) and course[0] > 0
    top = max(range(len(course)), key=lambda step: (course[step], -step))
    assert course[: top + 1] == sorted(set(course[: top + 1]))
    assert course[top:] == sorted(course[top:], reverse=True)
    assert abs(top - warmup * steps) <= 1


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(steps=st.integers(20, 500), warmup=st.sampled_from([0.0, 0.1, 0.5]))
def test_the_ends_of_the_course(schedule, steps, warmup):
    last = learning_rate_factor(steps, steps, schedule, warmup)
    assert last == (1.0 if schedule == "constant" else pytest.approx(0.0, abs=1e-12))
    assert max(learning_rate_factor(step, steps, schedule, warmup) for step in range(steps)) > 0.9
    if warmup == 0:
        assert learning_rate_factor(0, steps, schedule, warmup) == 1.0


def test_halfway_down():
    assert learning_rate_factor(60, 100, "linear", 0.2) == pytest.approx(0.5)
    assert learning_rate_factor(60, 100, "cosine", 0.2) == pytest.approx(0.5)
    assert learning_rate_factor(40, 100, "cosine", 0.2) > learning_rate_factor(40, 100, "linear", 0.2)


@pytest.mark.parametrize(
    ("schedule", "warmup", "message"),
    [
        ("step", 0.1, "schedule must be one of constant, linear, cosine"),
        ("cosine", 1.0, "warmup must be a share"),
        ("linear", -0.1, "warmup must be a share"),
        ("cosine", float("nan"), "warmup must be a share"),
    ],
)
def test_another_schedule_is_refused(schedule, warmup, message):
    with pytest.raises(InputError, match=message):
        AdaptationModule(small(), recognition, adamw, schedule, warmup)


def test_frozen_parts_stay_in_eval_mode():
    model = small()
    head = model.layers[-1].name
    freeze_all_but(model, [f"{head}.weight", f"{head}.bias"])
    module = AdaptationModule(model, recognition, adamw)
    for _ in range(2):
        module.train()
        assert module.training and model.training and model.get_submodule(head).training
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
        assert len(norms) == 10 and not any(norm.training for norm in norms)
        module.eval()
        assert not any(m.training for m in module.modules())


def test_each_parameter_that_trains_is_given_to_the_optimizer_once_whatever_its_value():
    """Who tells parameters by their values takes all new norms for one."""
    model = small()
    norms = {name: own for name, own in model.named_parameters() if "norm" in name}
    assert any(torch.equal(norms[name], own) for name, own in norms.items() for name in norms if norms[name] is not own)
    freeze_all_but(model, norms)
    first = next(iter(norms))
    module = AdaptationModule(model, recognition, adamw, rates={first: 0.5})
    module._trainer = SimpleNamespace(estimated_stepping_batches=10)
    groups = module.configure_optimizers()["optimizer"].param_groups
    held = [id(own) for group in groups for own in group["params"]]
    assert len(groups) == 2 and sorted(held) == sorted(map(id, norms.values()))
    assert groups[0]["params"][0] is norms[first] and groups[0]["lr"] == 0.5 * groups[1]["lr"]


def test_training_steps_change_what_trains_and_nothing_else():
    model = small()
    chosen = [name for name, _ in model.named_parameters() if "10" in name or "norm9" in name]
    freeze_all_but(model, chosen)
    module = AdaptationModule(model, recognition, adamw)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = adamw([p for p in model.parameters() if p.requires_grad])
    for number in range(3):
        module.train()
        optimizer.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's, on logging without a trainer
            module.training_step(batch(), number).backward()
        optimizer.step()
    after = model.state_dict()
    changed = {name for name in before if changed_bits(before[name], after[name]).any()}
    prefix = "net.acoustic_model.norm9"
    statistics = {f"{prefix}.{kind}" for kind in ("running_mean", "running_var", "num_batches_tracked")}
    assert changed == {*chosen, *statistics}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("where", "named"), [("train.jsonl:7", "train.jsonl:7"), ("", "0.wav")])
def test_a_loss_that_is_no_number_names_the_utterances(value, where, named):
    broken = replace(recognition, loss=lambda model, batch: torch.tensor(value))
    module = AdaptationModule(small(), broken, adamw)
    with pytest.raises(InputError, match=f"batch 5 .*{named}"):
        module.training_step(batch(where), 4)


def test_a_text_too_long_for_its_audio_is_such_a_loss():
    module = AdaptationModule(small(), recognition, adamw)
    long = batch()
    long.examples[0] = Utterance("long.wav", "ab" * 100)
    with pytest.raises(InputError, match="long.wav"):
        module.training_step(long, 0)


def test_every_epoch_has_batches_of_its_own(tmp_path):
    """Lightning calls `set_epoch` only on a loader's sampler, or on the sampler of its batch sampler."""
    draw = np.random.default_rng(0)
    utterances = []
    for number in range(8):
        soundfile.write(tmp_path / f"{number}.wav", draw.normal(0, 0.1, 1600 + 40 * number), 16_000)
        utterances.append(Utterance(tmp_path / f"{number}.wav", "a", duration=0.1 + 0.0025 * number))
    heard = []

    def loss(model, batch):
        heard.append([u.audio_filepath.name for u in batch.examples])
        return recognition.loss(model, batch)

    module = AdaptationModule(small(), replace(recognition, loss=loss), adamw)
    loader = Loader(batch_seconds=0.25).training(utterances, AudioReader(16_000))
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, use_distributed_sampler=False, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader)
    expected = []
    for epoch in range(2):
        loader.batch_sampler.set_epoch(epoch)
        expected += [[f"{number}.wav" for number, _ in batch] for batch in loader.batch_sampler]
    assert heard == expected
    assert heard[: len(heard) // 2] != heard[len(heard) // 2 :]
