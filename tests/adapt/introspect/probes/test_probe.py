"""Probing models: what is read where, what is held out, what a control task says, and what is refused."""

from dataclasses import replace

import pytest
import torch
from small_mt import LETTERS
from tone_speech import timed

from adapt.data.loader import Batch, Loader
from adapt.data.manifest import Utterance, read_manifest
from adapt.data.pairs import read_pairs_file
from adapt.errors import InputError
from adapt.introspect.probes.probe import METHODS, Probe, probe
from adapt.introspect.probes.target import Target, make_target, read_target, sites_of, step_at
from adapt.introspect.sampling import reads_text
from adapt.models.checkpoint import load_model
from interventions.capture import capture
from interventions.files import FileError

FAMILIES = ("wav2letter", "wav2vec2", "whisper", "marian")


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def examples(speech):
    return read_timed(speech, 24)


def read_timed(speech, count):
    """Utterances with the times of their letters, `count` of each of two accents, by eight speakers."""
    return [
        replace(example, speaker=f"{accent}{number % 4}")
        for accent in ("low", "high")
        for number, example in enumerate(timed(read_manifest(speech[f"{accent}_train"])[0][:count]))
    ]


@pytest.fixture(scope="module")
def pairs(language):
    return read_pairs_file(language["train"])[0]


@pytest.fixture(scope="module")
def models(base, wav2vec2, whisper, marian):
    paths = dict(zip(FAMILIES, (base, wav2vec2, whisper, marian), strict=True))
    return {name: load_model(str(path)).model for name, path in paths.items()}


@pytest.mark.parametrize("method", METHODS)
def test_a_trained_recogniser_knows_the_letters_and_shuffled_ones_not(models, examples, speech, method, tmp_path):
    model = models["wav2letter"]
    found = probe(model, examples, Loader(), "phoneme", method, sites=model.sites[7:])
    assert found.classes == tuple("abcde") and found.trained + found.tested == 24 * 2 * 6
    assert [row.site for row in found.rows] == [site.name for site in model.sites[7:]]
    for row in found.rows:
        assert row.interval[0] <= row.accuracy <= row.interval[1] and row.selectivity == row.accuracy - row.control
    # One unit for each of five letters is less than all of them together.
    assert max(row.accuracy for row in found.rows) > (0.75 if method in ("linear", "gaussian") else 0.45)
    # Chance is as near as there are examples: of 180 letters that are held out, .17 is more than five errors off.
    shuffled = [replace(own, phonemes=_shuffled(own.phonemes, n)) for n, own in enumerate(read_timed(speech, 60))]
    lost = probe(model, shuffled, Loader(), "phoneme", method, sites=model.sites[7:])
    assert all(abs(row.accuracy - lost.chance) < 0.17 and abs(row.selectivity) < 0.17 for row in lost.rows)
    found.save(tmp_path)
    read = Probe.load(tmp_path)
    assert read.scores == found.scores and read.rows == found.rows and read.by_class == found.by_class
    assert (read.classes, read.chance, read.trained) == (found.classes, 0.2, found.trained)


def _shuffled(said, seed):
    drawn = torch.randint(5, (len(said),), generator=torch.Generator().manual_seed(seed)).tolist()
    return tuple(replace(own, symbol="abcde"[letter]) for own, letter in zip(said, drawn, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_unit_that_is_made_to_carry_the_accent_is_on_top(models, examples, method, monkeypatch):
    """Planted in what is read of the model, so that nothing but the path from there to the scores is in question."""
    from adapt.introspect.probes import probe as module

    model = models["wav2letter"]

    def read(*given):
        rows = read_target(*given)
        labels = given[3].labels
        rows[model.sites[2].name] = noise(*rows[model.sites[2].name].shape)
        rows[model.sites[2].name][:, 5] = 3.0 * labels + 0.3 * noise(len(labels))
        return rows

    monkeypatch.setattr(module, "read_target", read)
    found = probe(model, examples, Loader(), "accent", method, sites=model.sites[1:4], split_by="speaker")
    assert found.scores.top(1, per_site=True)[model.sites[2]] == (5,)
    assert all(int(scores[model.sites[2]].argmax()) == 5 for scores in found.by_class.values())
    assert found.rows[1].accuracy > 0.8 and found.classes == ("high", "low")


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_and_batches_change_nothing(models, examples, pairs, family):
    model, own = models[family], pairs if family == "marian" else examples[:24]
    names = ("domain", "token") if family == "marian" else ("speaker", "phoneme") + ("token",) * (family == "whisper")
    for name in names:
        target = make_target(model, own, name)
        sites = sites_of(model, target)
        together, alone = (
            read_target(model, own, Loader(*size), target, sites) for size in ((1000.0, 10_000), (0.0, 1))
        )
        assert set(together) == {site.name for site in sites}
        for site in sites:
            assert together[site.name].shape == (len(target), site.units)
            scale = max(1.0, float(alone[site.name].abs().max()))
            torch.testing.assert_close(together[site.name], alone[site.name], atol=1e-4 * scale, rtol=1e-3)
        if name == "token":
            assert all(reads_text(model, site) for site in sites) and len(sites) < len(model.sites)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_probed(models, examples, pairs, family):
    model, own = models[family], pairs if family == "marian" else examples
    target = "token" if family in ("whisper", "marian") else "phoneme"
    found = probe(model, own, Loader(), target, "probeless", controls=1)
    assert found.scores.sites == tuple(site for site in model.sites if target == "phoneme" or reads_text(model, site))
    assert max(row.accuracy for row in found.rows) > 1.5 * found.chance


def test_a_decoder_knows_the_token_that_it_has_read(models, pairs):
    """A control that is drawn for the token before is learned by a decoder, and says so."""
    model = models["marian"]
    found = probe(model, pairs, Loader(), "token", "linear", sites=model.sites[-8:], controls=1)
    assert set(found.classes) <= {*LETTERS, *(f"▁{letter}" for letter in LETTERS), "▁"}
    assert max(row.control for row in found.rows) > 2 * found.chance


@pytest.mark.parametrize("family", FAMILIES[:3])
def test_a_step_is_read_where_in_the_audio_it_is(models, tmp_path, family):
    """A short sound in silence: what moves at a convolution moves around the step that stands for its time."""
    model, rate = models[family], models[family].sample_rate
    (first, *_), sound = model.sites, torch.zeros(rate)
    for middle in (0.3, 0.5, 0.7):  # away from the ends, where windows are cut: Wav2Letter's lasts half a second
        heard = sound.clone()
        heard[int((middle - 0.01) * rate) : int((middle + 0.01) * rate)] = noise(int(0.02 * rate))[: int(0.02 * rate)]
        batch = Batch(torch.stack([sound, heard]), torch.tensor([rate, rate]), [Utterance(tmp_path, "ab")] * 2)
        with torch.no_grad(), capture(model.eval(), first) as acts:
            model.task.loss(model, batch)
        steps = int(model.valid_lengths(first, batch.lengths, torch.tensor([1, 1]))[0])
        still, moved = acts[first][:, :steps]
        strength = (moved - still).square().sum(1)
        strength = strength * (strength > 0.3 * strength.max())
        found = float((strength * torch.arange(steps)).sum() / strength.sum())
        wanted = step_at(torch.tensor([middle]), torch.tensor([1.0]), torch.tensor([steps]), first.step.length)
        assert found == pytest.approx(float(wanted), abs=max(2.0, 0.01 / first.step.length))


def test_times_and_steps():
    steps, duration = torch.tensor([50]), torch.tensor([1.0])
    assert step_at(torch.tensor([0.5]), duration, steps, 0.02).item() == pytest.approx(24.5)
    assert step_at(torch.tensor([0.01]), duration, steps, 0.02).item() == pytest.approx(0.0, abs=1e-4)


def test_no_example_and_no_speaker_is_on_both_sides(models, examples):
    from adapt.introspect.probes.probe import _split

    for name, by in (("phoneme", "example"), ("phoneme", "speaker"), ("accent", "example"), ("accent", "speaker")):
        target = make_target(models["wav2letter"], examples, name)
        target, groups, test = _split(target, examples, by, 0.25, 0)
        assert len(groups) == len(test) == len(target)
        inside, outside = set(groups[test.numpy()]), set(groups[~test.numpy()])
        assert inside and outside and not inside & outside
        assert (
            set(target.labels[test].tolist()) == set(target.labels[~test].tolist()) == set(range(len(target.classes)))
        )
        assert 0.1 < float(test.float().mean()) < 0.4


def test_a_control_has_one_label_a_type_and_the_classes_shares():
    types = tuple(f"t{number % 30}" for number in range(600))
    target = Target("x", ("a", "b", "c"), torch.arange(600) % 3, torch.arange(600), types)
    drawn = target.control(0)
    assert len({(kind, label) for kind, label in zip(types, drawn.tolist(), strict=True)}) == 30
    assert torch.bincount(drawn).tolist() == [200, 200, 200]
    assert torch.equal(drawn, target.control(0)) and not torch.equal(drawn, target.control(1))


def test_speakers_are_the_types_of_an_accents_control_only_where_there_are_enough(models, examples):
    assert len(set(make_target(models["wav2letter"], examples, "accent").types)) == 8
    assert len(set(make_target(models["wav2letter"], examples, "speaker").types)) == len(examples)


def test_classes_are_capped_evenly_and_rare_ones_left_out(models, examples):
    rare = [replace(own, accent="rare") if number < 3 else own for number, own in enumerate(examples)]
    target = make_target(models["wav2letter"], [*rare, *rare], "accent", most=10)
    assert target.classes == ("high", "low", "rare") and torch.bincount(target.labels).tolist() == [10, 10, 6]
    assert make_target(models["wav2letter"], rare, "accent").classes == ("high", "low")


def test_what_cannot_be_probed_is_refused(models, examples, pairs, tmp_path):
    model = models["wav2letter"]
    bare = [replace(own, phonemes=()) for own in examples]
    for given, name, said in (
        (bare, "phoneme", "two classes of 'phoneme' or more.*there is none"),
        (examples, "microphone", "two classes of 'microphone'"),
        (examples, "token", "models with a decoder, and this one has none"),
    ):
        with pytest.raises(InputError, match=said):
            probe(model, given, Loader(), name)
    with pytest.raises(InputError, match="Split by accent, fewer than two classes"):
        probe(model, examples, Loader(), "accent", split_by="accent")
    with pytest.raises(InputError, match="Expected method linear, probeless"):
        probe(model, examples, Loader(), method="svm")
    with pytest.raises(InputError, match="method=linear has strength, mix; got penalty"):
        probe(model, examples, Loader(), penalty=1.0)
    encoder = [site for site in models["marian"].sites if not reads_text(models["marian"], site)]
    with pytest.raises(InputError, match="'token' is read at steps of a decoder's tokens"):
        probe(models["marian"], pairs, Loader(), "token", sites=encoder)
    probe(model, examples, Loader(), "accent", "probeless", sites=model.sites[:1]).save(tmp_path)
    (tmp_path / "probe.json").write_text("{}")
    with pytest.raises(FileError, match="not the table of a probe"):
        Probe.load(tmp_path)
