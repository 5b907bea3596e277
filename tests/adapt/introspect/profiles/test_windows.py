"""Windows are cut, shifted in time and averaged as expected."""

import pytest
import torch
from tone_speech import RATE

from adapt.data.example import Phoneme
from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.introspect.profiles.groupings import groupings
from adapt.introspect.profiles.windows import _middles, align, read_windows
from adapt.models.checkpoint import load_model


def test_the_most_salient_step_is_shifted_to_the_middle():
    x = torch.arange(1.0, 6).view(1, 5, 1).repeat(3, 1, 2)
    gradient = torch.full((3, 5, 2), 0.1)
    gradient[0, 4], gradient[1, 1, 0] = -3, 2  # saliency is the mean absolute gradient
    shifted, moved = align(x, gradient)
    assert shifted[..., 0].tolist() == [[3, 4, 5, 0, 0], [0, 1, 2, 3, 4], [1, 2, 3, 4, 5]]
    assert moved[0, 2].tolist() == [-3, -3] and moved[1, 2].tolist() == [2, pytest.approx(0.1)]
    assert not moved[0, 3:].any() and not moved[1, 0].any()


def test_the_middles_of_runs():
    assert list(_middles([-1, 0, 0, 0, 1, -1, -1, 1, 1])) == [2, 4, 7]
    assert list(_middles([])) == list(_middles([-1, -1])) == []


@pytest.fixture(scope="module")
def spoken(speech):
    """Synthetic utterances with the times of their tones."""
    from dataclasses import replace

    return [
        replace(one, phonemes=tuple(Phoneme(letter, 0.12 * n, 0.12 * (n + 1)) for n, letter in enumerate(one.text)
                                    if letter != " "))
        for one in read_manifest(speech["low_test"])[0][:5]
    ]  # fmt: skip


def test_a_window_around_each_phoneme(base, spoken):
    """Each phoneme has a window of the right length with the peak in the middle; a dead unit has a profile of 0."""
    model = load_model(str(base)).model
    conv = model.get_submodule("net.acoustic_model.conv0")
    with torch.no_grad():
        conv.weight[3] = 0
        conv.bias[3] = 0
    groups = groupings(model, spoken, ["phoneme"])
    profiles = read_windows(model, spoken, Loader(), groups, 0.5)
    count = sum(len(one.phonemes) for one in spoken)
    doubled = sum(
        a.symbol == b.symbol and a.end == b.start
        for one in spoken for a, b in zip(one.phonemes, one.phonemes[1:], strict=False)
    )  # fmt: skip
    for site in model.sites:
        assert (
            profiles.steps(site)
            == count - doubled
            == sum(profiles.steps(site, g) for g in profiles.groups_of("phoneme"))
        )
        assert profiles.windows[site.name] == int(model.valid_lengths(site, torch.tensor([RATE // 2])))
        groups_at = profiles.groups_at(site, "phoneme")
        in_time = profiles.gradnap(site, "phoneme", time=True)
        assert in_time.shape == (len(groups_at), profiles.windows[site.name], site.units) and in_time.isfinite().all()
        relevance = profiles.mean(site, ["all"], "gradient", time=True)[0].mean(-1)
        assert int(relevance.argmax()) == profiles.windows[site.name] // 2
    first = model.sites[0]
    assert not profiles.nap(first, "phoneme", time=True)[..., 3].any()
    torch.testing.assert_close(
        profiles.mean(first, ["all"], time=True).mean(1), profiles.mean(first, ["all"]), atol=1e-6, rtol=1e-5
    )


def test_the_batch_size_does_not_matter(base, wav2vec2, spoken):
    for path in (base, wav2vec2):
        model = load_model(str(path)).model
        groups = groupings(model, spoken, ["phoneme", "letter"])
        made = [read_windows(model, spoken[:2], Loader(batch_seconds=s), groups, 0.4, folds=4) for s in (20, 0.1)]
        for site in model.sites:
            for name, total in made[0].sums[site.name].items():
                size = max(1.0, float(total.abs().max()))
                torch.testing.assert_close(total, made[1].sums[site.name][name], atol=2e-4 * size, rtol=1e-3)


def test_windows_that_cannot_be_read_are_refused(base, marian, spoken):
    model = load_model(str(base)).model
    groups = groupings(model, spoken, ["phoneme"])
    with pytest.raises(InputError, match="cannot read a window of 0.001 s: it lasts"):
        read_windows(model, spoken, Loader(), groups, 0.001)
    with pytest.raises(InputError, match="longer than 0 s; got -1 s"):
        read_windows(model, spoken, Loader(), groups, -1)
    with pytest.raises(InputError, match="name at least one key"):
        read_windows(model, spoken, Loader(), groups[:1], 0.5)
    with pytest.raises(InputError, match="audio of CTC models"):
        read_windows(load_model(str(marian)).model, spoken, Loader(), groups, 0.5)
