"""Scores find planted neurons, do not depend on the batches, and leave the model unchanged."""

import copy

import pytest
import soundfile
import torch
from tone_speech import RATE, tones

from adapt.data.loader import Loader
from adapt.data.manifest import Utterance, read_manifest
from adapt.data.pairs import read_pairs
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.introspect.activations import read_activations, valid_lengths
from adapt.introspect.scores import MEASURES, change, random, rgn, weight
from adapt.models.checkpoint import load_model
from adapt.models.inference import eval_mode
from adapt.tuning.selection import tunable
from interventions.ablate import Ablate
from interventions.intervene import intervene
from interventions.neurons import Neurons
from interventions.reduce import Mean

FAMILIES = ("base", "wav2vec2", "whisper", "marian")
GRADIENTS = ("rgn", "fisher", "gradient_gap", "ablation")


@pytest.fixture(scope="module")
def recogniser(base):
    return load_model(str(base)).model


@pytest.fixture(scope="module")
def sample(speech):
    low, high = (read_manifest(speech[f"{accent}_test"])[0][:6] for accent in ("low", "high"))
    return TuningData(low, high, Loader())


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Utterances of different lengths: first those of the target, then those of the source."""
    folder, made = tmp_path_factory.mktemp("uneven"), []
    for number, text in enumerate(["abcab cab", "ab", "ac ca", "bcd", "ea da be", "e"]):
        soundfile.write(folder / f"{number}.wav", tones(text, 1 + number / 40), RATE)
        made.append(Utterance(folder / f"{number}.wav", text, duration=0.12 * len(text)))
    return made


def conv(model, number):
    return next(site for site in model.sites if site.name.endswith(f"conv{number}"))


def state(model):
    return (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        [(module.training, len(module._forward_hooks)) for module in model.modules()],
        [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()],
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_batches_change_nothing_and_the_model_is_unchanged(family, request, uneven, language):
    model = load_model(str(request.getfixturevalue(family)), None).model
    if family == "whisper":
        model = model.with_header(model.header() | {"language": "en"})
    examples = read_pairs(test=str(language["test"])).test[:6] if family == "marian" else uneven
    model.train()
    next(model.net.modules()).eval()
    next(model.parameters()).requires_grad_(False)
    before, sites, draws = state(model), tunable(model), torch.get_rng_state()
    for name, measure in MEASURES.items():
        together, alone, again = (
            measure(model, TuningData(examples[:3], examples[3:], loader), sites)
            for loader in (Loader(100.0, 1000), Loader(0.0, 1), Loader(100.0, 1000))
        )
        assert together == again and together.sites == tuple(sites), name
        largest = max(float(together[site].max()) for site in sites)
        assert largest > 0, name
        for site in sites:
            torch.testing.assert_close(alone[site], together[site], rtol=1e-3, atol=1e-4 * largest, msg=name)
    after = state(model)
    assert before[1:] == after[1:] and torch.equal(draws, torch.get_rng_state())
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize(("number", "unit"), [(1, 5), (8, 30)])
def test_the_neuron_that_carries_the_loss_has_the_highest_score(recogniser, sample, name, number, unit):
    """The outputs of all other neurons of its layer are nearly ignored by the next layer."""
    model = copy.deepcopy(recogniser)
    site = conv(model, number)
    with torch.no_grad():
        reading = model.get_submodule(conv(model, number + 1).name).weight
        reading[:, torch.arange(site.units) != unit] *= 1e-3
    scores = MEASURES[name](model, sample, [site])
    assert scores.top(1, "site")[site] == (unit,)
    assert scores[site][unit] > 5 * scores[site].sort().values[-2]


@pytest.mark.parametrize("name", ["rgn", "fisher", "ablation"])
def test_a_harmful_neuron_has_the_highest_score(recogniser, sample, name):
    """An output unit that is too likely: everywhere, or for ablation only at blanks, so that its output varies."""
    model = copy.deepcopy(recogniser)
    site = model.sites[-1]
    with torch.no_grad():
        module = model.get_submodule(site.name)
        if name == "ablation":
            module.weight[2], module.bias[2] = 8 * module.weight[model.blank], 8 * module.bias[model.blank]
        else:
            module.bias[2] += 12
    # What it takes from the blank also appears in the gradient of the blank.
    assert 2 in MEASURES[name](model, sample, tunable(model)).top(2, "site")[site]


def test_a_neuron_that_differs_between_source_and_target_has_the_highest_score(recogniser, sample):
    """It reads the neuron of the first layer whose mean differs most between source and target.

    All other neurons read the one whose mean differs least. The first layer itself cannot have such a neuron, because
    features have the same mean in every utterance.
    """
    model = copy.deepcopy(recogniser)
    site = conv(model, 1)
    module = model.get_submodule(site.name)
    spoken = {}
    for part, examples in (("target", sample.target), ("source", sample.source)):
        batch = next(iter(sample.loader.evaluation(examples, model.reader)))
        handle = module.register_forward_pre_hook(
            lambda _, inputs, part=part: spoken.__setitem__(part, inputs[0].transpose(0, 1).flatten(1))
        )
        with torch.no_grad(), eval_mode(model):
            model(batch.inputs, batch.lengths)
        handle.remove()
    apart = (spoken["target"].mean(1) - spoken["source"].mean(1)).abs() / torch.cat([*spoken.values()], 1).std(1)
    middle = module.weight.shape[2] // 2
    with torch.no_grad():
        module.weight.zero_()
        module.weight[:, apart.argmin(), middle] = 1.0
        module.weight[7] = 0.0
        module.weight[7, apart.argmax(), middle] = 1.0
    scores = MEASURES["activation_gap"](model, sample, [site])
    assert scores.top(1)[site] == (7,) and scores[site][7] > 5 * scores[site].sort().values[-2]
    # Scaling by two does not change the number of standard deviations.
    with torch.no_grad():
        module.weight[3] *= 100
    torch.testing.assert_close(
        MEASURES["activation_gap"](model, sample, [site])[site], scores[site], rtol=1e-3, atol=1e-5
    )


def test_activation_gap_equals_a_direct_computation(recogniser, sample):
    site = conv(recogniser, 2)
    rows = []
    for examples in (sample.target, sample.source):
        own = []
        read_activations(recogniser, examples, sample.loader, [site], lambda _, x, own=own: own.append(x.double()))
        rows.append(torch.cat(own))
    one, other = rows
    spread = ((one.var(0, correction=0) + other.var(0, correction=0)) / 2).sqrt()
    expected = ((one.mean(0) - other.mean(0)).abs() / spread).float()
    torch.testing.assert_close(MEASURES["activation_gap"](recogniser, sample, [site])[site].float(), expected)


@pytest.mark.parametrize("family", ["whisper", "marian"])
def test_gradients_equal_a_direct_computation_without_padding(family, request, uneven, language):
    """Whisper pads all audio to one window."""
    model = load_model(str(request.getfixturevalue(family))).model
    model = model.with_header(model.header() | {"language": "en"}) if family == "whisper" else model
    examples = read_pairs(test=str(language["test"])).test[:4] if family == "marian" else uneven[:4]
    sites = [site for site in model.sites if site.name.endswith("fc1")]
    assert {site.part for site in sites} == {"encoder", "decoder"}
    kept = {}

    def keep(name):
        def hook(module, inputs, output):
            output.retain_grad()
            kept[name] = output

        return hook

    handles = [model.get_submodule(site.name).register_forward_hook(keep(site.name)) for site in sites]
    rows = {site.name: [] for site in sites}
    for batch in Loader(0.0, 1).evaluation(examples, model.reader):
        with eval_mode(model):
            model.task.loss(model, batch).backward()
        steps = valid_lengths(model, batch)
        for site in sites:
            own = slice(0, int(steps(site)))
            rows[site.name].append([t[0, own].double() for t in (kept[site.name].detach(), kept[site.name].grad)])
    for handle in handles:
        handle.remove()
    found = MEASURES["ablation"](model, TuningData(examples, (), Loader()), sites)
    gap = MEASURES["gradient_gap"](model, TuningData(examples[:2], examples[2:], Loader()), sites)
    for site in sites:
        mean = torch.cat([x for x, _ in rows[site.name]]).mean(0)
        effect = sum(((mean - x) * gradient).sum(0) for x, gradient in rows[site.name]) / len(examples)
        torch.testing.assert_close(found[site].double(), effect.abs(), rtol=1e-4, atol=1e-7)
        names = [
            example.name for batch in Loader(0.0, 1).evaluation(examples, model.reader) for example in batch.examples
        ]
        target = [names.index(example.name) for example in examples[:2]]
        parts = [[rows[site.name][n] for n in range(4) if (n in target) == own] for own in (True, False)]
        means = [torch.cat([x for x, _ in part]).mean(0) for part in parts]
        relevance = sum(gradient.abs().sum(0) for _, gradient in parts[0]) / 2
        expected = (means[0] - means[1]).abs() * relevance
        torch.testing.assert_close(gap[site].double(), expected, rtol=1e-3, atol=1e-6 * float(expected.max()))
    if family == "whisper":
        short = rows[sites[0].name][-1][0]
        assert len(short) < kept[sites[0].name].shape[1]


def test_changed_weights_have_the_highest_scores(recogniser):
    other = copy.deepcopy(recogniser)
    site = conv(recogniser, 4)
    with torch.no_grad():
        other.get_submodule(site.name).weight[[3, 9]] += 0.1
        other.get_submodule(site.name).bias[3] += 0.1
    scores = change(recogniser, other, tunable(recogniser))
    assert scores.top(2)[site] == (3, 9) and scores[site][3] > scores[site][9] > 0
    assert sum(int((scores[own] > 0).sum()) for own in scores.sites) == 2
    with pytest.raises(InputError, match=r"no parameter 'net\.acoustic_model\.conv0\.weight' of the same shape"):
        change(recogniser, load_model("us-english").model, tunable(recogniser))


def test_a_large_neuron_has_the_highest_score_at_any_scale_of_its_layer(recogniser):
    model = copy.deepcopy(recogniser)
    with torch.no_grad():
        model.get_submodule(conv(model, 3).name).weight[6] *= 10
        for kind in ("weight", "bias"):
            getattr(model.get_submodule(conv(model, 5).name), kind).mul_(1000)
    before, after = weight(recogniser, None, tunable(recogniser)), weight(model, None, tunable(model))
    assert after.top(1)[conv(model, 3)] == (6,)
    torch.testing.assert_close(before[conv(model, 5)], after[conv(model, 5)])
    for site in after.sites:
        assert float(after[site].square().mean()) == pytest.approx(1)


def test_rescaled_layers_have_the_same_fisher_and_ablation(recogniser, sample):
    """Dividing a layer by ten and multiplying the next one changes neither a ReLU network nor these scores."""
    model, scaled = copy.deepcopy(recogniser), copy.deepcopy(recogniser)
    first, second = conv(model, 9), conv(model, 10)
    for own in (model, scaled):  # without the norm, which would undo the scaling
        own.net.acoustic_model.norm9 = torch.nn.Identity()
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(scaled.get_submodule(first.name), name).div_(10)
        scaled.get_submodule(second.name).weight.mul_(10)
    for name in ("fisher", "ablation"):
        one, other = (MEASURES[name](own, sample, [first])[first] for own in (model, scaled))
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-9, msg=name)


def test_relative_gradient_norms_of_neurons_give_that_of_the_layer(recogniser, sample):
    """They also equal the result of one backward pass over all examples."""
    from adapt.tuning.surgical import relative_gradients

    site = conv(recogniser, 10)  # a layer without a norm
    scores = rgn(recogniser, sample, [site])
    whole = relative_gradients(recogniser, sample)[site.name]
    assert float(scores[site].square().mean().sqrt()) == pytest.approx(whole, rel=1e-5)
    model = copy.deepcopy(recogniser).eval()
    (batch,) = Loader(100.0).evaluation(sample.target, model.reader)
    model.task.loss(model, batch).backward()
    module = model.get_submodule(site.name)
    gradient = torch.cat([module.weight.grad.flatten(), module.bias.grad]).norm()
    size = torch.cat([module.weight.flatten(), module.bias]).norm()
    assert whole == pytest.approx((gradient / size.detach()).item(), rel=1e-4)


def test_estimated_ablation_ranks_neurons_like_real_ablation(recogniser, sample):
    """On speech that the model has not learned, because gradients vanish where the loss is close to 0."""
    sample = TuningData(sample.source, sample.target, sample.loader)
    sites = [conv(recogniser, number) for number in (1, 5, 7, 9)]
    estimate, mean = MEASURES["ablation"](recogniser, sample, sites), Mean()
    read_activations(recogniser, sample.target, sample.loader, sites, mean)

    def loss(*edits):
        (batch,) = Loader(100.0).evaluation(sample.target, recogniser.reader)
        with eval_mode(recogniser), torch.no_grad(), intervene(recogniser, *edits):
            return float(recogniser.task.loss(recogniser, batch))

    bare, pairs = loss(), []
    for site in sites:
        for unit in range(0, site.units, 3):
            real = loss(Ablate(Neurons({site: [unit]}), "mean", mean.result()))
            pairs.append((float(estimate[site][unit]), abs(real - bare)))
    ranks = torch.tensor(pairs).T.argsort().argsort().double()
    assert float(torch.corrcoef(ranks)[0, 1]) > 0.8


def test_random_scores_depend_on_the_seed_only(recogniser):
    sites = tunable(recogniser)
    assert random(sites, 1) == random(sites, 1) != random(sites, 2)


def test_errors(recogniser, sample, uneven):
    for name in ("activation_gap", "gradient_gap"):
        with pytest.raises(InputError, match=r"no training examples of the source. Give them as source_train"):
            MEASURES[name](recogniser, TuningData(sample.target, (), sample.loader), recogniser.sites)
    long = Utterance(uneven[1].audio_filepath, "abcde" * 20, where="a.jsonl:3")
    with pytest.raises(InputError, match=r"a\.jsonl:3: the loss is inf"):
        rgn(recogniser, TuningData([long], (), sample.loader), recogniser.sites)
