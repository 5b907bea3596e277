"""Interventions on the framework's own models: while they train, transcribe and decode."""

from pathlib import Path

import pytest
import torch
from small_hf import save_ctc

from adapt.data.loader import Batch
from adapt.data.manifest import Utterance
from adapt.models.checkpoint import load_model
from adapt.models.labels import Labels
from adapt.models.wav2letter import Wav2LetterCTC, Wav2LetterShape
from adapt.training.module import AdaptationModule
from interventions.ablate import Ablate
from interventions.capture import capture
from interventions.clamp import Set
from interventions.intervene import Edits, intervene
from interventions.neurons import Neurons
from interventions.scope import PROMPT, Scope
from interventions.sites import choose_sites
from interventions.steer import Steer


def own(sites, pattern):
    return choose_sites(sites, pattern)[0]


def wav2letter():
    torch.manual_seed(0)
    shape = Wav2LetterShape(features="log_mel", n_features=20, inner=12, big=16, normalisation="layer")
    return Wav2LetterCTC(shape, Labels.of("abcde")).eval()


AUDIO = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)).clamp(-1, 1) * 0.1
LENGTHS = torch.tensor([16000, 9000])


@torch.no_grad()
def test_padding_is_never_seen_and_never_edited():
    model = wav2letter()
    site = own(model.sites, "*conv3")
    lengths = lambda site: model.valid_lengths(site, LENGTHS)  # noqa: E731
    with capture(model, site, lengths=lengths) as acts, capture(model, site) as everything:
        model(AUDIO, LENGTHS)
    steps = model.valid_lengths(site, LENGTHS)
    assert len(acts[site]) == int(steps.sum()) < everything[site].shape[0] * everything[site].shape[1]
    put = Set(Neurons({site: [0]}), 9.0)
    with intervene(model, put, lengths=lengths), capture(model, site) as after:
        model(AUDIO, LENGTHS)
    assert [int((row[:, 0] == 9).sum()) for row in after[site]] == steps.tolist()


def test_seconds_of_an_utterance():
    model = wav2letter()
    site = own(model.sites, "*conv5")
    put = Set(Neurons.every(site), 9.0, scope=Scope(seconds=(0.2, 0.5)))
    with torch.no_grad(), intervene(model, put), capture(model, site) as acts:
        model(AUDIO, LENGTHS)
    begins = torch.arange(acts[site].shape[1]) * site.step.length
    assert torch.equal((acts[site][0] == 9).all(-1), (begins >= 0.2 - 1e-6) & (begins < 0.5 - 1e-6))


def test_a_vector_is_trained_by_the_module_while_the_model_rests():
    model = wav2letter().requires_grad_(False)
    before = {name: p.clone() for name, p in model.named_parameters()}
    site = own(model.sites, "*conv4")
    steer = Steer(site, torch.zeros(site.units, requires_grad=True))
    texts = [Utterance(Path("x.wav"), "abc"), Utterance(Path("y.wav"), "de")]
    batch = Batch(AUDIO, LENGTHS, texts)
    optimizer = torch.optim.Adam(steer.parameters(), lr=0.05)
    module = AdaptationModule(model, model.task, torch.optim.Adam)
    module.log = lambda *_, **__: None
    losses = []
    edits = Edits(model)
    edits.add(steer)
    module.train()
    for step in range(8):
        loss = module.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    edits.check()
    edits.clear()
    assert losses[-1] < losses[0] and steer.vector.abs().sum() > 0
    assert all(torch.equal(before[name], p) and not p.requires_grad for name, p in model.named_parameters())


@torch.no_grad()
def test_whisper_writes_something_else_when_its_encoder_is_steered(whisper):
    model = load_model(str(whisper)).model
    site, late = own(model.sites, "*encoder*.fc2"), own(model.sites, "*decoder.layers.1.fc1")
    plain = model.generate(AUDIO, LENGTHS)
    with intervene(model, Steer(site, torch.full((site.units,), 5.0).cumsum(0), scope=Scope(PROMPT))):
        steered = model.generate(AUDIO, LENGTHS)
    with intervene(model, Ablate(Neurons.every(late))):
        ablated = model.generate(AUDIO, LENGTHS)
    assert steered != plain and ablated != plain and model.generate(AUDIO, LENGTHS) == plain


@pytest.mark.parametrize("rate", [0.5])
def test_layerdrop_is_no_missing_run(tmp_path, rate):
    model = load_model(str(save_ctc(tmp_path / "model", layerdrop=rate))).model
    site = own(model.sites, "*layers.1.feed_forward.output_dense")
    with intervene(model, Steer(site, torch.zeros(site.units), 1.0)):
        model.train()
        for seed in range(12):
            torch.manual_seed(seed)
            model(AUDIO, LENGTHS)
        model.eval()
        model(AUDIO, LENGTHS)
