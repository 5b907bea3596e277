"""Files of profiles hold what has steps and nothing else, and files of the first form are read."""

import torch

from adapt.introspect.profiles.fitter import ProfilesFitter
from adapt.introspect.profiles.profiles import Profiles
from interventions.files import site_to_json, write_tensors
from interventions.sites import Site

SITE = Site("layer", -1, 500, ())
GROUPS = ["all", *(f"g:{n}" for n in range(20))]


def profiles(folds=16, examples=8):
    draw = torch.Generator().manual_seed(0)
    fitter = ProfilesFitter([SITE], GROUPS, folds)
    for example in range(examples):
        members = torch.zeros(1, len(GROUPS), 4)
        members[:, 0] = 1
        members[:, 1 + example % 3] = 1  # the other groups have no steps
        x = torch.randn(1, 4, SITE.units, generator=draw)
        fitter.update(SITE, fitter.membership(members, torch.tensor([example % folds])), x, x.abs())
    return fitter.fit()


def same(one, other):
    assert one.sums.keys() == other.sums.keys()
    for site, sums in one.sums.items():
        assert sums.keys() == other.sums[site].keys()
        assert all(torch.equal(total, other.sums[site][name]) for name, total in sums.items())
    return True


def test_a_file_is_read_without_loss_and_is_small(tmp_path):
    for folds in (16, 1):
        written = profiles(folds)
        written.save(tmp_path / "p.safetensors")
        assert same(Profiles.load(tmp_path / "p.safetensors"), written)
        filled_cells = (8 + 8) if folds > 1 else 0
        assert (tmp_path / "p.safetensors").stat().st_size < SITE.units * (4 * 24 + 4 * filled_cells) + 6000
    assert profiles(1).sums["layer"].keys() == {"steps", "activation", "gradient", "square", "product"}


def test_a_file_of_the_first_form_is_read(tmp_path):
    """It had every sum of each fold, in 64 bits."""
    now = profiles(folds=2)
    parts = [fold_only(now, fold) for fold in range(2)]
    tensors = {f"0.{name}": torch.cat([part[name] for part in parts]) for name in parts[0]}
    header = {"sites": [site_to_json(SITE)], "groups": GROUPS, "folds": 2, "windows": {}}
    write_tensors(tmp_path / "old.safetensors", "profiles", header, tensors)
    old = Profiles.load(tmp_path / "old.safetensors")
    assert old.sums["layer"].keys() == now.sums["layer"].keys()
    for name, total in old.sums["layer"].items():
        torch.testing.assert_close(total.double(), now.sums["layer"][name].double(), rtol=1e-5, atol=1e-5, msg=name)
    both = old + now
    assert both.steps(SITE) == 2 * now.steps(SITE) and both.folds_with(SITE, "all") == 2


def fold_only(whole, fold):
    sums = whole.sums["layer"]
    share = (sums["steps"][fold] / sums["steps"].sum(0).clamp_min(1))[None]
    return {
        "steps": sums["steps"][fold : fold + 1],
        "activation": sums["fold_activation"][fold : fold + 1].double(),
        "gradient": sums["gradient"].double() * share[..., None, None],
        "square": sums["square"] * share[..., None],
        "product": sums["product"].double() * share[..., None],
    }


def test_memory_is_a_fraction_of_what_every_sum_by_fold_takes():
    taken = sum(total.nbytes for total in profiles().sums["layer"].values())
    assert taken < 0.2 * 16 * len(GROUPS) * SITE.units * 4 * 8
