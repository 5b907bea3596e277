"""Profiles find planted neurons, never count padding, add up over halves, and work for every model family."""

import gc
import weakref
from dataclasses import replace

import pytest
import soundfile
import torch
from small_hf import save_ctc, save_speech2text
from small_mt import save_translation
from tone_speech import RATE, tones

import adapt.introspect.profiles.read as read_profiles_module
from adapt.data.example import Phoneme
from adapt.data.loader import Loader
from adapt.data.manifest import Utterance
from adapt.data.pairs import read_pairs_file
from adapt.introspect.profiles.fitter import ProfilesFitter, fold_of
from adapt.introspect.profiles.groupings import groupings
from adapt.introspect.profiles.profiles import Profiles
from adapt.introspect.profiles.read import read_profiles
from adapt.models.checkpoint import load_model
from interventions.bits import changed_bits
from interventions.files import FileError
from interventions.sites import Site

SPOKEN = ["abc de", "cab", "ec dabba", "bead", "ad ace", "deb cab be", "ebb", "cede ad", "aabb ccdd", "de ba"]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Utterances of different lengths, with the times of their tones as phonemes."""
    folder, made = tmp_path_factory.mktemp("spoken"), []
    for number, text in enumerate(SPOKEN):
        samples = tones(text)
        soundfile.write(folder / f"{number}.wav", samples, RATE)
        times = [(letter, 0.12 * n, 0.12 * (n + 1)) for n, letter in enumerate(text) if letter != " "]
        phonemes = tuple(Phoneme(*one) for one in times)
        made.append(
            Utterance(folder / f"{number}.wav", text, len(samples) / RATE, accent="xy"[number % 2], phonemes=phonemes)
        )
    return made


@pytest.fixture
def model(base):
    return load_model(str(base)).model


def profile(model, examples, keys=("phoneme",), loader=None, **options):
    groups = groupings(model, examples, keys)
    return read_profiles(model, examples, loader or Loader(), groups, **options)


def plant(model, unit, letter, outgoing=True):
    """Make a unit of the first layer respond to one tone; without `outgoing`, nothing reads it."""
    conv, following = (model.get_submodule(f"net.acoustic_model.conv{n}") for n in (0, 1))
    samples = torch.from_numpy(tones("abcde")).unsqueeze(0)
    features, _ = model.frontend(samples, torch.tensor([samples.shape[1]]))
    first = 12 * "abcde".index(letter)  # frames of 10 ms, tones of 120 ms
    with torch.no_grad():
        conv.weight[unit] = 0
        conv.weight[unit, int(features[0, :, first + 2 : first + 10].mean(1).argmax()), 23:25] = 1
        if not outgoing:
            following.weight[:, unit] = 0


@pytest.mark.parametrize("letter", ["a", "d"])
def test_a_neuron_selective_for_one_phoneme_is_found(model, spoken, letter):
    plant(model, 7, letter)
    profiles = profile(model, spoken)
    first = model.sites[0]
    scores = profiles.contrast(f"phoneme:{letter}")
    assert (first.name, 7) in scores.top(1, per_site=True)
    assert all(
        float(profiles.contrast(f"phoneme:{other}")[first][7]) < 0.5 * float(scores[first][7])
        for other in "abcde" if other != letter
    )  # fmt: skip
    nap = profiles.nap(first, "phoneme")
    assert int(nap[:, 7].argmax()) == profiles.groups_at(first, "phoneme").index(f"phoneme:{letter}")


def test_adjusted_figures_ignore_neurons_that_nothing_reads(model, spoken):
    """Two neurons respond in the same way; nothing reads one of them."""
    plant(model, 7, "b")
    plant(model, 8, "b", outgoing=False)
    profiles = profile(model, spoken)
    first = model.sites[0]
    gap, adjusted = (profiles.gap("phoneme:b", "phoneme:e", adjusted=own)[first] for own in (False, True))
    assert float(gap[7]) == pytest.approx(float(gap[8]), rel=1e-4) and gap[7] > 1
    assert adjusted[7] > 0 and adjusted[8] == 0
    for profile_of in (profiles.gradnap, profiles.snap):
        own = profile_of(first, "phoneme")
        assert own[:, 7].abs().max() > 0 and not own[:, 8].any()
    assert profiles.snap(first, "phoneme", min_relevance=0.0).equal(profiles.nap(first, "phoneme"))
    assert float(profiles.relevance(first, "phoneme").max()) == 1


def assert_same(one, other, scale=2e-4):
    """Assert equality up to rounding, which a random network with large activations amplifies."""
    assert (one.sites, one.groups, one.folds) == (other.sites, other.groups, other.folds)
    for site in one.sites:
        for name, total in one.sums[site.name].items():
            wanted = other.sums[site.name][name]
            size = max(1.0, float(wanted.abs().max()))
            torch.testing.assert_close(total, wanted, atol=scale * size, rtol=1e-3, msg=f"{site.name} {name}")


FAMILIES = {
    "wav2letter": ["phoneme", "letter", "aligned_letter", "accent", "correct"],
    "wav2vec2": ["phoneme", "letter", "correct"],
    "SEW": ["phoneme", "letter"],  # run on one utterance at a time
    "whisper": ["phoneme", "token", "predicted_token", "token_class", "accent", "correct"],
    "speech2text": ["phoneme", "token_class", "accent"],
    "marian": ["token", "predicted_token", "token_class", "domain", "correct"],
    "t5": ["token", "token_class"],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_and_padding_is_never_counted(family, base, request, spoken, language, tmp_path):
    """A padded batch gives the same as single examples at every site, and every valid step counts once."""
    if family in ("wav2letter", "wav2vec2", "whisper", "marian"):
        path = base if family == "wav2letter" else request.getfixturevalue(family)
    elif family == "t5":
        path = save_translation(tmp_path / "model", "t5")
    else:
        path = (save_speech2text if family == "speech2text" else save_ctc)(
            tmp_path / "model", *(["SEW"] if family == "SEW" else [])
        )
    model = load_model(str(path)).model
    if family in ("marian", "t5"):
        examples = read_pairs_file(language["test"])[0]
    else:
        # In one of the first six, a unit of the base is so close to 0 that rounding switches its ReLU.
        chosen = spoken[6:12] if family == "wav2letter" else spoken[:6]
        examples = [replace(one, text=one.text.replace(" ", "")[:4]) for one in chosen]
    if family == "whisper":
        from adapt.models.generation import GenerationOptions

        model.set_generation(GenerationOptions(language="de"))
    together, alone = (
        profile(model, examples, FAMILIES[family], Loader(batch_seconds=seconds, batch_tokens=tokens))
        for seconds, tokens in ((100, 1000), (0, 1))
    )
    assert_same(together, alone)
    lengths = torch.tensor([len(model.reader.read(one)) for one in examples])
    tokens = torch.tensor([len(model.encode(one.text)) for one in examples])
    for site in model.sites:
        assert together.steps(site) == int(model.valid_lengths(site, lengths, tokens).sum())
    for key in FAMILIES[family]:
        known = [site for site in model.sites if together.groups_at(site, key)]
        assert known or key == "predicted_token", key  # a random Whisper writes none of the texts' tokens
        # Groups of one key never overlap.
        assert all(
            sum(together.steps(site, group) for group in together.groups_of(key)) <= together.steps(site)
            for site in known
        )
    assert any(float(together.mean(site, ["all"], "gradient").max()) > 0 for site in model.sites)


def test_means_equal_a_computation_by_hand(model, spoken):
    """For one utterance: activation, absolute gradient and their product, over the steps of a phoneme."""
    example = spoken[2]
    site = model.sites[4]
    profiles = profile(model, [example], sites=[site])
    audio = model.reader.read(example).unsqueeze(0)
    kept = []

    def hook(module, inputs, output):
        kept.extend([output.detach().clone(), torch.zeros_like(output, requires_grad=True)])
        return output + kept[1]

    scores = []
    handles = [
        model.get_submodule(site.name).register_forward_hook(hook),
        model.get_submodule(model.head).register_forward_hook(lambda *parts: scores.append(parts[2])),
    ]
    model.eval()(audio, torch.tensor([audio.shape[1]]))
    scores[0].amax(1).sum().backward()
    for handle in handles:
        handle.remove()
    x, gradient = kept[0][0].T.double(), kept[1].grad[0].T.double()
    middles = audio.shape[1] / RATE / 2 + (torch.arange(len(x)) - (len(x) - 1) / 2) * 0.02
    for letter in "abc":
        inside = torch.zeros(len(x), dtype=torch.bool)
        for phoneme in example.phonemes:
            inside |= (phoneme.symbol == letter) & (middles >= phoneme.start) & (middles < phoneme.end)
        group = [f"phoneme:{letter}"]
        assert profiles.steps(site, group[0]) == int(inside.sum())
        if inside.any():
            for what, wanted in (("activation", x), ("gradient", gradient.abs()), ("product", x * gradient)):
                mean = profiles.mean(site, group, what)[0]
                torch.testing.assert_close(mean, wanted[inside].mean(0), atol=1e-4, rtol=1e-4)


def test_halves_add_up_to_the_whole(model, spoken, tmp_path):
    keys = ["phoneme", "letter", "accent"]
    groups = groupings(model, spoken, ["phoneme", "letter"])
    halves = [read_profiles(model, half, Loader(), groups) for half in (spoken[:4], spoken[4:])]
    assert_same(halves[0] + halves[1], read_profiles(model, spoken, Loader(), groups))
    # Also if each half has groups that the other does not have.
    few = [profile(model, half, keys) for half in ([spoken[1]], [spoken[3]])]
    both = few[0] + few[1]
    whole = profile(model, [spoken[1], spoken[3]], keys)
    assert set(both.groups) == set(whole.groups) and set(few[0].groups) != set(whole.groups)
    for group in whole.groups:
        assert both.steps(model.sites[0], group) == whole.steps(model.sites[0], group)
    with pytest.raises(ValueError, match="Profiles of different sites cannot be added"):
        halves[0] + profile(model, spoken, sites=model.sites[:2])


def test_saved_and_loaded(model, spoken, tmp_path):
    profiles = profile(model, spoken, ["phoneme", "accent"])
    profiles.save(tmp_path / "profiles.safetensors", model="a base")
    again = Profiles.load(tmp_path / "profiles.safetensors")
    assert_same(again, profiles, scale=0)
    assert again.contrast("phoneme:a") == profiles.contrast("phoneme:a")
    (tmp_path / "broken.safetensors").write_bytes((tmp_path / "profiles.safetensors").read_bytes()[:1000])
    with pytest.raises(FileError, match="not a complete safetensors file"):
        Profiles.load(tmp_path / "broken.safetensors")


def test_the_model_is_not_changed(model, spoken):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainable = [parameter.requires_grad for parameter in model.parameters()]
    profile(model, spoken)
    assert model.training and trainable == [parameter.requires_grad for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(changed_bits(before[name], value).any() for name, value in model.state_dict().items())


@pytest.mark.parametrize("family", ["base", "marian"])
def test_a_batch_is_freed_once_it_is_summed(family, request, spoken, language, monkeypatch):
    """Hooks on a graph that hold the trace, which holds the graph, would never be freed."""
    model = load_model(str(request.getfixturevalue(family))).model
    examples = read_pairs_file(language["test"])[0] if family == "marian" else spoken
    traces, run = [], read_profiles_module.forward

    def forward(*given):
        found = run(*given)
        traces.append(weakref.ref(found[0]))
        return found

    monkeypatch.setattr(read_profiles_module, "forward", forward)
    profile(model, examples, ["correct"], Loader(batch_seconds=2, batch_tokens=40))
    gc.collect()
    assert len(traces) > 2 and all(trace() is None for trace in traces)


def test_infinite_activations_are_named(model, spoken):
    with torch.no_grad():
        model.get_submodule("net.acoustic_model.conv2").bias[3] = float("inf")
    with pytest.raises(ValueError, match="conv2': the sum of activation is not finite"):
        profile(model, spoken)


def test_folds_depend_on_the_example_alone(spoken):
    folds = [fold_of(one) for one in spoken]
    assert folds == [fold_of(replace(one, where="elsewhere", accent="z")) for one in spoken]
    assert len(set(folds)) > 3 and all(0 <= fold < 16 for fold in folds)


SITE = Site("layer", -1, 3, ())


def small(rows):
    """Profiles of a few steps: (group, activation of three units)."""
    groups = list(dict.fromkeys(group for group, _ in rows))
    fitter = ProfilesFitter([SITE], ["all", *groups], folds=2)
    for number, (group, values) in enumerate(rows):
        x = torch.tensor([[values]])
        members = torch.zeros(1, 1 + len(groups), 1)
        members[0, [0, 1 + groups.index(group)]] = 1
        chosen = fitter.membership(members, torch.tensor([number % 2]))
        fitter.update(SITE, chosen, x, torch.tensor([[[1.0, -2.0, 0.5]]]))
    return fitter.fit()


def test_figures_of_a_few_steps_equal_those_by_hand():
    profiles = small([("g:a", [1.0, 5.0, 2.0]), ("g:a", [3.0, 5.0, 2.0]), ("g:b", [10.0, 5.0, 1.0]),
                      ("g:b", [12.0, 5.0, 3.0]), ("g:b", [11.0, 5.0, 2.0])])  # fmt: skip
    assert profiles.keys == ("g",) and profiles.groups_of("g") == ("g:a", "g:b")
    assert profiles.mean(SITE, ["g:a", "g:b"]).tolist() == [[2, 5, 2], [11, 5, 2]]
    assert profiles.nap(SITE, "g").tolist() == [[-4.5, 0, 0], [4.5, 0, 0]]
    grand = (2 * 2 + 3 * 11) / 5
    assert profiles.nap(SITE, "g", "steps")[0].tolist() == pytest.approx([2 - grand, 0, 0])
    assert profiles.relevance(SITE, "g").tolist() == [[0.5, 1, 0.25]] * 2
    assert profiles.gradnap(SITE, "g").tolist() == [[-2.25, 0, 0], [2.25, 0, 0]]
    within = ((1 + 1 + 1 + 0 + 1) / 5) ** 0.5  # squared distances from each group's own mean
    assert profiles.contrast("g:b")[SITE].tolist() == pytest.approx([9 / within, 0, 0])
    assert profiles.contrast("g:a", "g:b")[SITE][0].item() == pytest.approx(-9 / within)
    assert profiles.gap("g:a", "g:b", adjusted=True)[SITE][0].item() == pytest.approx(9 / within * 0.5)
    torch.testing.assert_close(profiles.distances(SITE, "g"), torch.tensor([[0.0, 2], [2, 0]], dtype=torch.float64))
    assert profiles.tree(SITE, "g").merges == ((0, 1, 2.0),)
    assert profiles.without(0).steps(SITE) + profiles.without(1).steps(SITE) == profiles.pooled().steps(SITE) == 5


def test_unknown_groups_keys_and_sites_are_named():
    profiles = small([("g:a", [1.0, 5.0, 2.0]), ("h:b", [3.0, 5.0, 2.0])])
    with pytest.raises(ValueError, match="no group 'g:c'. There are, among others: g:a"):
        profiles.contrast("g:c")
    with pytest.raises(ValueError, match="There are no profiles by 'x'. Possible keys: g, h"):
        profiles.nap(SITE, "x")
    with pytest.raises(ValueError, match="There is no site where both 'g:a' and another group have steps"):
        profiles.contrast("g:a")
    with pytest.raises(KeyError, match="'nowhere' is not among the sites: layer"):
        profiles.steps("nowhere")
