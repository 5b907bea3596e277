"""Similarity of layers: the invariances of each method, what it detects, and its errors."""

import copy
from dataclasses import replace

import pytest
import soundfile
import torch

from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.data.pairs import read_pairs_file
from adapt.errors import InputError
from adapt.introspect.sampling import Evenly, reads_text
from adapt.introspect.similarity.cca import Covariance, procrustes, pwcca, svcca
from adapt.introspect.similarity.cka import CKA, centred_grams
from adapt.introspect.similarity.rsa import rsa
from adapt.introspect.similarity.similarity import Similarity, similarity
from adapt.models.checkpoint import load_model
from interventions.moments import Moments


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cka(*rows, block=128, batch=None):
    aligned = CKA(block)
    for start in range(0, len(rows[0]), batch or len(rows[0])):
        aligned.update([own[start : start + (batch or len(own))] for own in rows])
    return aligned.result()


def by_covariance(method, x, y, **options):
    moments = Moments(x.shape[1] + y.shape[1])
    moments.update(torch.cat([x, y], dim=1))
    n, all_of = x.shape[1], moments.covariance
    ends = Covariance(all_of[:n, :n], len(x)), Covariance(all_of[n:, n:], len(x))
    return method(*ends, all_of[:n, n:], **options)


def rotation(size, seed=3):
    return torch.linalg.qr(noise(size, size, seed=seed))[0]


def hsic(x, y):
    """Equation 5 of Song et al. (2012), computed directly."""
    n, ones = len(x), torch.ones(len(x), dtype=torch.float64)
    k, ll = x.double() @ x.double().T, y.double() @ y.double().T
    k, ll = k.fill_diagonal_(0), ll.fill_diagonal_(0)
    found = (k @ ll).trace() + ones @ k @ ones * (ones @ ll @ ones) / ((n - 1) * (n - 2))
    return (found - 2 / (n - 2) * ones @ k @ ll @ ones) / (n * (n - 3))


@pytest.mark.parametrize("n", [4, 5, 40])
def test_cka_equals_the_debiased_estimate_of_the_paper(n):
    x, y = noise(n, 7) + 3, noise(n, 9, seed=1) @ noise(9, 9, seed=2) - 5
    y[:, :7] += x
    found = cka(x, y)
    assert found[0, 1] == pytest.approx(float(hsic(x, y) / (hsic(x, x) * hsic(y, y)).sqrt()), abs=1e-5)
    both = centred_grams([x, y])
    assert both.prod(0).sum() / (n * (n - 3)) == pytest.approx(float(hsic(x, y)), rel=1e-4)


@pytest.mark.parametrize("method", [procrustes, svcca, pwcca])
def test_similarity_is_invariant_to_rotation_shift_and_scale(method):
    x = noise(400, 12) * torch.linspace(0.5, 2, 12)
    y = 3 * x @ rotation(12) + 7
    other = x + noise(400, 12, seed=9)
    assert by_covariance(method, x, x) == pytest.approx(1, abs=1e-6)
    assert by_covariance(method, x, y) == pytest.approx(1, abs=1e-5)
    assert by_covariance(method, x, other) < 0.98
    assert by_covariance(method, x, other @ rotation(12)) == pytest.approx(by_covariance(method, x, other), abs=1e-5)


def test_cka_is_invariant_to_rotation_shift_and_scale_for_any_block_size():
    x = noise(203, 12) * torch.linspace(0.5, 2, 12)
    found = cka(x, 3 * x @ rotation(12) + 7, x + noise(203, 12, seed=9), block=50)
    torch.testing.assert_close(found[:2, :2], torch.ones(2, 2, dtype=torch.float64), atol=1e-5, rtol=0)
    assert 0.2 < found[0, 2] < 0.9 and found[1, 2] == pytest.approx(float(found[0, 2]), abs=1e-5)
    stretched = x.clone()
    stretched[:, 0] *= 20
    assert cka(x, stretched)[0, 1] < 0.6  # not invariant to other linear maps


def test_cka_of_independent_noise_is_about_0_unlike_the_biased_estimate():
    """With fewer rows than units, the biased estimate finds all layers similar."""
    found = torch.stack([cka(noise(60, 200, seed=2 * n), noise(60, 200, seed=2 * n + 1))[0, 1] for n in range(20)])
    assert found.mean().abs() < 0.03 and found.min() < 0 < found.max()
    x, y = (own - own.mean(0) for own in (noise(60, 200, seed=0), noise(60, 200, seed=1)))
    assert (y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()) > 0.5


def test_cka_of_blocks_equals_that_of_all_rows_on_average():
    x = noise(4000, 10)
    y = x @ noise(10, 10, seed=4) + 2 * noise(4000, 10, seed=5)
    assert cka(x, y, block=16)[0, 1] == pytest.approx(float(cka(x, y, block=4000)[0, 1]), abs=0.01)


def test_the_sizes_of_batches_change_nothing():
    x, y = noise(101, 5), noise(101, 6, seed=1)
    all_at_once, one_by_one = cka(x, y, block=10), cka(x, y, block=10, batch=1)
    torch.testing.assert_close(all_at_once, one_by_one, atol=1e-12, rtol=0)


def test_a_dead_layer_gives_no_nan():
    x, dead = noise(30, 5), torch.full((30, 4), 0.1) * 3
    assert cka(x, dead).tolist() == [[pytest.approx(1), 0], [0, 0]]
    for method in (procrustes, svcca, pwcca):
        assert by_covariance(method, x, dead) == 0


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="needs at least 4 rows; got 3"):
        cka(noise(3, 5), noise(3, 5))
    with pytest.raises(ValueError, match="at least 4 rows; got 3"):
        CKA(3)
    with pytest.raises(ValueError, match="need at least 48 rows; got 40"):
        by_covariance(pwcca, noise(40, 12), noise(40, 12, seed=1))


def test_canonical_correlations_find_shared_directions_and_projections_weight_them():
    shared, own, other = noise(4000, 3), noise(4000, 3, seed=1), noise(4000, 3, seed=2)
    x, y = torch.cat([shared, own], 1), torch.cat([shared @ rotation(3), other], 1)
    assert by_covariance(svcca, x, y) == pytest.approx(0.5, abs=0.05)
    loud = torch.cat([10 * shared, own], 1)
    assert by_covariance(svcca, loud, y, keep=1.0) == pytest.approx(0.5, abs=0.05)
    assert by_covariance(pwcca, loud, y) > 0.85 > 0.2 > by_covariance(pwcca, torch.cat([0.1 * shared, own], 1), y)


def test_steps_are_evenly_spaced():
    pick = Evenly(torch.tensor([2, 3, 0, 1]))
    places, times = pick(None, torch.tensor([10, 3, 0, 7]))
    assert places.tolist() == [0, 0, 1, 1, 1, 3] and times.tolist() == [2, 7, 0, 1, 2, 3]
    assert pick(None, torch.tensor([20, 3, 0, 7]))[1].tolist() == [5, 15, 0, 1, 2, 3]


@pytest.fixture(scope="module")
def examples(speech, tmp_path_factory):
    """Utterances of different lengths."""
    folder, cut = tmp_path_factory.mktemp("cut"), []
    for number, example in enumerate(read_manifest(speech["low_test"])[0]):
        samples, rate = soundfile.read(example.audio_filepath, dtype="float32")
        path = folder / f"{number}.wav"
        soundfile.write(path, samples[: len(samples) - 800 * number], rate)
        length, text = len(samples) / rate - 0.05 * number, "abcde"[number % 5] * (1 + number % 2) + "ec"[number % 2]
        cut.append(replace(example, audio_filepath=path, text=text, duration=length))
    return cut


@pytest.fixture(scope="module")
def given(base, wav2vec2, whisper, marian, language, examples):
    pairs = read_pairs_file(language["test"])[0]
    return {"wav2letter": (base, examples), "wav2vec2": (wav2vec2, examples), "whisper": (whisper, examples),
            "marian": (marian, pairs)}  # fmt: skip


FAMILIES = ("wav2letter", "wav2vec2", "whisper", "marian")


@pytest.mark.parametrize("method", ["cka", "procrustes"])
@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_batches_change_nothing(given, family, method):
    path, examples = given[family]
    model = load_model(str(path)).model
    together, alone = (
        similarity(model, examples, Loader(seconds, tokens), method=method)
        for seconds, tokens in ((1000.0, 100_000), (0.0, 1))
    )
    torch.testing.assert_close(together.matrix, alone.matrix, atol=2e-4, rtol=0)
    assert together.rows == together.columns == tuple(site.name for site in model.sites)
    torch.testing.assert_close(together.matrix.diagonal(), torch.ones(len(model.sites)).double(), atol=1e-6, rtol=0)
    assert together.matrix.isfinite().all() and together.matrix.min() < 0.9
    decodes = family in ("whisper", "marian")
    assert together.sample_by == ("example" if decodes else "step")
    assert {reads_text(model, site) for site in model.sites} == ({False, True} if decodes else {False})
    assert together.count == (len(examples) if decodes else 8 * len(examples))


@pytest.mark.parametrize("family", ["wav2letter", "marian"])
def test_two_models(given, family, tmp_path):
    path, examples = given[family]
    before = load_model(str(path)).model
    sites = [site for site in before.sites if not reads_text(before, site)]
    after = copy.deepcopy(before)
    with torch.no_grad():
        weight = after.get_submodule(sites[3].name).weight
        weight.copy_(noise(*weight.shape) * weight.std())
    same = similarity(before, examples, Loader(), other=copy.deepcopy(before), sites=sites)
    torch.testing.assert_close(same.matrix, similarity(before, examples, Loader(), sites=sites).matrix)
    changed = similarity(before, examples, Loader(), other=after, sites=sites)
    diagonal = changed.matrix.diagonal()
    assert diagonal[:3].min() > 1 - 1e-6 and diagonal[3] < 0.99
    assert changed.between(sites[3].name, sites[3].name) == diagonal[3]
    changed.save(tmp_path)
    read = Similarity.load(tmp_path)
    assert (
        torch.equal(read.matrix, changed.matrix) and read.rows == changed.rows and read.sample_by == changed.sample_by
    )
    with pytest.raises(KeyError, match="not compared"):
        read.between("nowhere", sites[0].name)


def test_svcca_of_a_model_with_itself_and_errors(given):
    path, examples = given["wav2letter"]
    model = load_model(str(path)).model
    found = similarity(model, examples, Loader(), sites=model.sites[:3], method="svcca", steps=40)
    assert found.matrix.diagonal().min() > 1 - 1e-6 and found.matrix.min() < 0.999
    with pytest.raises(InputError, match="method=svcca.*rows; got 12"):
        similarity(model, examples, Loader(), method="svcca", sample_by="example")
    for wrong in ({"method": "cca"}, {"sample_by": "frame"}, {"steps": 0}):
        with pytest.raises(InputError, match="method must be one of cka"):
            similarity(model, examples, Loader(), **wrong)


def test_rsa_of_speakers(given):
    """A rotation of the units does not change the distances between groups."""
    path, examples = given["wav2letter"]
    model = load_model(str(path)).model
    talkers = [replace(own, speaker=f"s{number % 5}") for number, own in enumerate(examples * 2)]
    found = rsa(model, talkers, Loader(), "speaker", sites=model.sites[:4])
    assert found.method == "rsa" and found.count == 5 and found.sample_by == "group"
    torch.testing.assert_close(found.matrix.diagonal(), torch.ones(4).double())
    torch.testing.assert_close(found.matrix, found.matrix.T)
    turned, first = copy.deepcopy(model), model.sites[0]
    with torch.no_grad():
        conv = turned.get_submodule(first.name)
        turn = rotation(first.units)
        conv.weight.copy_((turn @ conv.weight.flatten(1)).view_as(conv.weight))
        conv.bias.copy_(turn @ conv.bias)
    assert rsa(model, talkers, Loader(), "speaker", turned, [first]).matrix.item() == pytest.approx(1, abs=1e-3)
    with pytest.raises(InputError, match="needs at least 4 groups; 'speaker' has s0, s1"):
        rsa(model, [replace(own, speaker=f"s{n % 2}") for n, own in enumerate(examples)], Loader(), "speaker")
