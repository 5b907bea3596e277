"""A cached encoder gives what the encoder gives, runs once per input, and never where its output would differ."""

import copy
import threading
from dataclasses import replace

import pytest
import torch
from small_hf import save_speech_encoder_decoder
from tone_speech import write_tones

from adapt.data.loader import Loader, collate
from adapt.data.manifest import read_manifest
from adapt.data.pairs import Pair
from adapt.models.checkpoint import load_model
from adapt.models.encoder_cache import cached_encoder
from adapt.models.eval_mode import eval_mode
from adapt.models.inference import decode_examples
from adapt.training.module import AdaptationModule
from interventions.intervene import intervene
from interventions.sites import site_at
from interventions.steer import Steer


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return read_manifest(write_tones(tmp_path_factory.mktemp("tones"), "tones", 6))[0]


def counting(model):
    """Return a list that grows whenever a module inside the encoder runs."""
    calls = []
    norm = next(one for one in model.net.get_encoder().modules() if "LayerNorm" in type(one).__name__)
    original = norm.forward
    norm.forward = lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs)
    return calls


@pytest.mark.parametrize("family", ["whisper", "marian", "bert"])
def test_the_results_are_the_same_and_the_encoder_runs_once(request, family, tones, tmp_path):
    folder = {
        "whisper": lambda: request.getfixturevalue("whisper"),
        "marian": lambda: request.getfixturevalue("marian"),
        "bert": lambda: save_speech_encoder_decoder(tmp_path / "bert", decoder="Bert"),
    }[family]()
    model = load_model(str(folder)).model
    if family == "marian":  # beams repeat the encoder's output
        model.set_translation(replace(model.translation_options, beams=2))
    examples = tones if model.reads_audio else [Pair(f"one two {word}", "eins zwei") for word in ("a", "b", "c")]
    batches = [collate([(one, model.reader.read(one))]) for one in examples]

    def losses():
        return [float(model.task.loss(model, batch)) for batch in batches]

    with eval_mode(model), torch.no_grad():
        plain = losses(), decode_examples(model, model.task, examples, Loader())
        calls = counting(model)
        with cached_encoder(model):
            cached = losses(), decode_examples(model, model.task, examples, Loader())
            first = len(calls)
            for _ in range(2):
                assert decode_examples(model, model.task, examples, Loader()) == plain[1]
            assert losses() == plain[0]
        assert len(calls) == first
        assert cached == plain
        with cached_encoder(model):  # a later block finds them again
            assert losses() == plain[0]
        assert len(calls) == first
        assert losses() == plain[0] and len(calls) > first
    assert "forward" not in vars(model.net.get_encoder())


@torch.no_grad()
def test_only_the_latest_batch_is_kept_on_request(whisper, tones):
    model = load_model(str(whisper)).model
    one, other = (collate([(tone, model.reader.read(tone)) for tone in part]) for part in (tones[:3], tones[3:]))
    with eval_mode(model):
        plain = [float(model.task.loss(model, batch)) for batch in (one, other)], model.task.decode(model, other)
        calls = counting(model)
        with cached_encoder(model, keep=False):
            losses = [float(model.task.loss(model, batch)) for batch in (one, other)]
            two = len(calls)
            assert (losses, model.task.decode(model, other)) == plain and len(calls) == two
            assert float(model.task.loss(model, one)) == plain[0][0] and len(calls) > two
        before = len(calls)
        with cached_encoder(model, keep=False):
            assert float(model.task.loss(model, one)) == plain[0][0] and len(calls) > before


def test_a_validation_step_runs_the_encoder_once(whisper, tones):
    model = load_model(str(whisper)).model
    module = AdaptationModule(model, model.task, lambda groups: torch.optim.SGD(groups, lr=0.0)).eval()
    batch = collate([(tone, model.reader.read(tone)) for tone in tones])
    with torch.no_grad():
        model.task.loss(model, batch)
        calls = counting(model)
        model.task.loss(model, batch)
        once = len(calls)
        module.validation_step(batch, 0)
    assert once and len(calls) == 2 * once and len(module.validated[0][2]) == len(tones)


def test_whatever_would_change_the_output_is_respected(whisper, tones):
    model = load_model(str(whisper)).model
    batch = collate([(tones[0], model.reader.read(tones[0]))])
    site = site_at(model, "net.model.encoder.layers.0.fc1")

    def loss():
        return float(model.task.loss(model, batch))

    with eval_mode(model), torch.no_grad(), cached_encoder(model):
        before = loss()
        with intervene(model, Steer(site, torch.ones(site.units), 5.0)):
            steered = loss()
        assert steered != before and loss() == before
        weight = model.net.model.encoder.layers[0].fc1.weight
        weight.mul_(2)
        changed = loss()
        assert changed != before
        key = model.net.model.decoder.layers[0].encoder_attn.k_proj.weight
        key.mul_(2)
        assert loss() != changed
        key.div_(2)
        weight.div_(2)
        assert loss() == before
        with torch.autocast("cpu", torch.bfloat16):
            assert loss() != before
    model.train()
    model.net.config.dropout, model.net.model.encoder.dropout = 0.5, 0.5
    with torch.no_grad(), cached_encoder(model):
        assert loss() != loss()
    # A copy that is made in a block is a model of its own.
    model.eval()
    with torch.no_grad(), cached_encoder(model):
        now, other = loss(), copy.deepcopy(model)
        other.net.model.encoder.layers[0].fc1.weight.mul_(2)
        assert float(other.task.loss(other, batch)) != now and loss() == now


def test_new_statistics_make_new_outputs(whisper, tones):
    class Statistics(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("running_var", torch.ones(1))

        def forward(self, x):
            return x / self.running_var.sqrt()

    model = load_model(str(whisper)).model
    encoder = model.net.model.encoder
    encoder.layer_norm = torch.nn.Sequential(encoder.layer_norm, Statistics())
    batch = collate([(tones[0], model.reader.read(tones[0]))])
    with eval_mode(model), torch.no_grad(), cached_encoder(model):
        before = float(model.task.loss(model, batch))
        encoder.layer_norm[1].running_var.fill_(4.0)
        assert float(model.task.loss(model, batch)) != before


def test_gradients_reach_the_decoder_only(whisper, tones):
    model = load_model(str(whisper)).model
    batch = collate([(tones[0], model.reader.read(tones[0]))])
    site = site_at(model, "net.model.decoder.layers.1.self_attn.out_proj")
    slopes = []
    for cache in (False, True):
        delta = torch.zeros(len(model.target(tones[0])), site.units, requires_grad=True)
        with eval_mode(model), intervene(model, Steer(site, delta, 1.0)):
            if cache:
                with cached_encoder(model), torch.inference_mode():
                    model.task.decode(model, batch)  # what it keeps can be used for gradients
                with cached_encoder(model):
                    slopes.append(torch.autograd.grad(model.task.loss(model, batch), delta)[0])
            else:
                slopes.append(torch.autograd.grad(model.task.loss(model, batch), delta)[0])
    assert torch.equal(*slopes) and slopes[0].any()


def test_the_least_recently_used_are_dropped(whisper, tones, monkeypatch):
    model = load_model(str(whisper)).model
    monkeypatch.setattr("adapt.models.encoder_cache.BUDGET", 2 * 100 * 32 * 4)  # two outputs of 100 steps
    batches = [collate([(one, model.reader.read(one))]) for one in tones[:3]]
    calls = counting(model)
    with eval_mode(model), torch.no_grad(), cached_encoder(model):
        for number, runs in [(0, 1), (1, 2), (0, 2), (2, 3), (0, 3), (1, 4)]:
            model.task.loss(model, batches[number])
            assert len(calls) == runs


@pytest.mark.slow
def test_threads_share_it(whisper, tones):
    model = load_model(str(whisper)).model
    with eval_mode(model), torch.no_grad():
        batches = [collate([(one, model.reader.read(one))]) for one in tones]
        plain = [float(model.task.loss(model, batch)) for batch in batches]
        wrong = []

        def run(number):
            with torch.no_grad():
                for _ in range(5):
                    with cached_encoder(model):
                        if float(model.task.loss(model, batches[number])) != plain[number]:
                            wrong.append(number)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong and "forward" not in vars(model.net.get_encoder())
