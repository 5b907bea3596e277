"""Windows aligned in time: where they are cut, how they are shifted, and what is averaged."""

import pytest
import torch
from tone_speech import RATE

from adapt.data.example import Phoneme
from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.errors import InputError
from adapt.introspect.profiles.groups import groupings
from adapt.introspect.profiles.windows import _middles, align, read_windows
from adapt.models.checkpoint import load_model


def test_the_step_that_matters_most_comes_to_the_middle():
    x = torch.arange(1.0, 6).view(1, 5, 1).repeat(3, 1, 2)
    gradient = torch.full((3, 5, 2), 0.1)
    gradient[0, 4], gradient[1, 1, 0] = -3, 2  # the size counts, and the mean over neurons
    shifted, moved = align(x, gradient)
    assert shifted[..., 0].tolist() == [[3, 4, 5, 0, 0], [0, 1, 2, 3, 4], [1, 2, 3, 4, 5]]
    assert moved[0, 2].tolist() == [-3, -3] and moved[1, 2].tolist() == [2, pytest.approx(0.1)]
    assert not moved[0, 3:].any() and not moved[1, 0].any()


def test_the_middles_of_runs():
    assert list(_middles([-1, 0, 0, 0, 1, -1, -1, 1, 1])) == [2, 4, 7]
    assert list(_middles([])) == list(_middles([-1, -1])) == []


@pytest.fixture(scope="module")
def spoken(speech):
    """Tone speech with the times of its tones."""
    from dataclasses import replace

    return [
        replace(one, phonemes=tuple(Phoneme(letter, 0.12 * n, 0.12 * (n + 1)) for n, letter in enumerate(one.text)
                                    if letter != " "))
        for one in read_manifest(speech["low_test"])[0][:5]
    ]  # fmt: skip


def test_a_window_around_each_phoneme(base, spoken):
    """One for each, as long as it should be, with what matters most in its middle; a silent unit says nothing."""
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
        assert profiles.steps(site) == count - doubled == sum(profiles.steps(site, g) for g in profiles.of("phoneme"))
        assert profiles.windows[site.name] == int(model.valid_lengths(site, torch.tensor([RATE // 2])))
        seen = profiles.seen(site, "phoneme")
        in_time = profiles.gradnap(site, "phoneme", time=True)
        assert in_time.shape == (len(seen), profiles.windows[site.name], site.units) and in_time.isfinite().all()
        relevance = profiles.mean(site, ["all"], "gradient", time=True)[0].mean(-1)
        assert int(relevance.argmax()) == profiles.windows[site.name] // 2
    first = model.sites[0]
    assert not profiles.nap(first, "phoneme", time=True)[..., 3].any()
    torch.testing.assert_close(
        profiles.mean(first, ["all"], time=True).mean(1), profiles.mean(first, ["all"]), atol=1e-6, rtol=1e-5
    )


def test_one_by_one_as_together(base, wav2vec2, spoken):
    for path in (base, wav2vec2):
        model = load_model(str(path)).model
        groups = groupings(model, spoken, ["phoneme", "letter"])
        made = [read_windows(model, spoken[:2], Loader(batch_seconds=s), groups, 0.4, folds=4) for s in (20, 0.1)]
        for site in model.sites:
            for name, total in made[0].sums[site.name].items():
                size = max(1.0, float(total.abs().max()))
                torch.testing.assert_close(total, made[1].sums[site.name][name], atol=2e-4 * size, rtol=1e-3)


def test_what_has_no_windows(base, marian, spoken):
    model = load_model(str(base)).model
    groups = groupings(model, spoken, ["phoneme"])
    with pytest.raises(InputError, match="measure.window=0.001: lasts"):
        read_windows(model, spoken, Loader(), groups, 0.001)
    with pytest.raises(InputError, match="measure.window=-1: is no time"):
        read_windows(model, spoken, Loader(), groups, -1)
    with pytest.raises(InputError, match="name at least one key"):
        read_windows(model, spoken, Loader(), groups[:1], 0.5)
    with pytest.raises(InputError, match="what a CTC model hears"):
        read_windows(load_model(str(marian)).model, spoken, Loader(), groups, 0.5)
