"""Probes of models: the rows they read, the held-out examples, the control task, and errors."""

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
    """`count` utterances with letter times for each of two accents, by eight speakers."""
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
def test_a_trained_recogniser_encodes_letters_but_not_shuffled_ones(models, examples, speech, method, tmp_path):
    model = models["wav2letter"]
    found = probe(model, examples, Loader(), "phoneme", method, sites=model.sites[7:])
    assert found.classes == tuple("abcde") and found.trained + found.tested == 24 * 2 * 6
    assert [row.site for row in found.rows] == [site.name for site in model.sites[7:]]
    for row in found.rows:
        assert row.interval[0] <= row.accuracy <= row.interval[1] and row.selectivity == row.accuracy - row.control
    # These methods use one unit for each of five letters, and do worse than those that use all units.
    assert max(row.accuracy for row in found.rows) > (0.75 if method in ("linear", "gaussian") else 0.45)
    # The tolerance around chance fits the number of held-out letters, 180.
    shuffled = [replace(own, phonemes=_shuffled(own.phonemes, n)) for n, own in enumerate(read_timed(speech, 60))]
    lost = probe(model, shuffled, Loader(), "phoneme", method, sites=model.sites[7:])
    assert all(abs(row.accuracy - lost.chance) < 0.17 and abs(row.selectivity) < 0.17 for row in lost.rows)
    found.save(tmp_path)
    read = Probe.load(tmp_path)
    assert read.scores == found.scores and read.rows == found.rows and read.by_class == found.by_class
    assert (read.classes, read.chance, read.trained) == (found.classes, 0.2, found.trained)


def _shuffled(phonemes, seed):
    drawn = torch.randint(5, (len(phonemes),), generator=torch.Generator().manual_seed(seed)).tolist()
    return tuple(replace(own, symbol="abcde"[letter]) for own, letter in zip(phonemes, drawn, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_accent_unit_has_the_highest_score(models, examples, method, monkeypatch):
    """The unit is planted in the activations, so the test covers only the path from there to the scores."""
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


def test_the_control_task_of_tokens_is_learned_by_a_decoder(models, pairs):
    """Its labels depend on the previous token, which the decoder has read."""
    model = models["marian"]
    found = probe(model, pairs, Loader(), "token", "linear", sites=model.sites[-8:], controls=1)
    assert set(found.classes) <= {*LETTERS, *(f"▁{letter}" for letter in LETTERS), "▁"}
    assert max(row.control for row in found.rows) > 2 * found.chance


@pytest.mark.parametrize("family", FAMILIES[:3])
def test_a_time_maps_to_the_step_at_that_time(models, tmp_path, family):
    """A short sound in silence changes the activations around the step of its time."""
    model, rate = models[family], models[family].sample_rate
    (first, *_), sound = model.sites, torch.zeros(rate)
    for middle in (0.3, 0.5, 0.7):  # away from the ends, where the windows of Wav2Letter (half a second) are cut
        shifted = sound.clone()
        shifted[int((middle - 0.01) * rate) : int((middle + 0.01) * rate)] = noise(int(0.02 * rate))[: int(0.02 * rate)]
        batch = Batch(torch.stack([sound, shifted]), torch.tensor([rate, rate]), [Utterance(tmp_path, "ab")] * 2)
        with torch.no_grad(), capture(model.eval(), first) as acts:
            model.task.loss(model, batch)
        steps = int(model.valid_lengths(first, batch.lengths, torch.tensor([1, 1]))[0])
        silence, with_sound = acts[first][:, :steps]
        strength = (with_sound - silence).square().sum(1)
        strength = strength * (strength > 0.3 * strength.max())
        found = float((strength * torch.arange(steps)).sum() / strength.sum())
        wanted = step_at(torch.tensor([middle]), torch.tensor([1.0]), torch.tensor([steps]), first.step.length)
        assert found == pytest.approx(float(wanted), abs=max(2.0, 0.01 / first.step.length))


def test_times_and_steps():
    steps, duration = torch.tensor([50]), torch.tensor([1.0])
    assert step_at(torch.tensor([0.5]), duration, steps, 0.02).item() == pytest.approx(24.5)
    assert step_at(torch.tensor([0.01]), duration, steps, 0.02).item() == pytest.approx(0.0, abs=1e-4)


def test_no_example_and_no_speaker_is_in_both_sets(models, examples):
    from adapt.introspect.probes.held_out import split_rows

    for name, by in (("phoneme", "example"), ("phoneme", "speaker"), ("accent", "example"), ("accent", "speaker")):
        target = make_target(models["wav2letter"], examples, name)
        target, groups, test = split_rows(target, examples, by, 0.25, 0)
        assert len(groups) == len(test) == len(target)
        inside, outside = set(groups[test.numpy()]), set(groups[~test.numpy()])
        assert inside and outside and not inside & outside
        assert (
            set(target.labels[test].tolist()) == set(target.labels[~test].tolist()) == set(range(len(target.classes)))
        )
        assert 0.1 < float(test.float().mean()) < 0.4


def test_a_control_task_has_one_label_per_type_and_the_shares_of_the_classes():
    types = tuple(f"t{number % 30}" for number in range(600))
    target = Target("x", ("a", "b", "c"), torch.arange(600) % 3, torch.arange(600), types)
    drawn = target.control(0)
    assert len({(kind, label) for kind, label in zip(types, drawn.tolist(), strict=True)}) == 30
    assert torch.bincount(drawn).tolist() == [200, 200, 200]
    assert torch.equal(drawn, target.control(0)) and not torch.equal(drawn, target.control(1))


def test_speakers_are_the_types_of_a_control_task_only_if_there_are_enough(models, examples):
    assert len(set(make_target(models["wav2letter"], examples, "accent").types)) == 8
    assert len(set(make_target(models["wav2letter"], examples, "speaker").types)) == len(examples)


def test_classes_are_capped_and_rare_ones_are_left_out(models, examples):
    rare = [replace(own, accent="rare") if number < 3 else own for number, own in enumerate(examples)]
    target = make_target(models["wav2letter"], [*rare, *rare], "accent", max_per_class=10)
    assert target.classes == ("high", "low", "rare") and torch.bincount(target.labels).tolist() == [10, 10, 6]
    assert make_target(models["wav2letter"], rare, "accent").classes == ("high", "low")


def test_errors(models, examples, pairs, tmp_path):
    model = models["wav2letter"]
    without = [replace(own, phonemes=()) for own in examples]
    for inputs, name, message in (
        (without, "phoneme", "two classes of 'phoneme'.*with enough: none"),
        (examples, "microphone", "two classes of 'microphone'"),
        (examples, "token", "a model with a decoder, and this one has none"),
    ):
        with pytest.raises(InputError, match=message):
            probe(model, inputs, Loader(), name)
    with pytest.raises(InputError, match="After the split by accent, fewer than two classes"):
        probe(model, examples, Loader(), "accent", split_by="accent")
    with pytest.raises(InputError, match="method must be one of linear, probeless"):
        probe(model, examples, Loader(), method="svm")
    with pytest.raises(InputError, match="method=linear has the options strength, mix; got penalty"):
        probe(model, examples, Loader(), penalty=1.0)
    encoder = [site for site in models["marian"].sites if not reads_text(models["marian"], site)]
    with pytest.raises(InputError, match="'token' is read at steps in a decoder's tokens"):
        probe(models["marian"], pairs, Loader(), "token", sites=encoder)
    probe(model, examples, Loader(), "accent", "probeless", sites=model.sites[:1]).save(tmp_path)
    (tmp_path / "probe.json").write_text("{}")
    with pytest.raises(FileError, match="not the table of a probe"):
        Probe.load(tmp_path)
