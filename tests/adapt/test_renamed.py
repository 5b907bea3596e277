"""Old names of options: the command line answers with the new ones, and saved configs are translated."""

import pytest

from adapt.commands.show import config_folder
from adapt.renamed import RENAMED, old_keys, old_names, translate


@pytest.fixture
def conf(tmp_path):
    """Commands and groups as they are once every option has its new name."""
    for name, keys in {
        "adapt": "compare_neurons audio_clips", "choose": "top per_site", "base": "seed",
        "tuning/neurons": "top per_site", "tuning/mix": "parts", "penalty/ewc": "strength",
        "penalty/l2sp": "strength", "measure/bias": "min_examples", "measure/profiles": "min_steps",
        "measure/similarity": "sample_by",
    }.items():  # fmt: skip
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{key}: 1\n" for key in keys.split()))
    return tmp_path


@pytest.mark.parametrize(("command", "overrides", "answer"), [
    ("adapt", ["inside=0"], "inside is now called compare_neurons."),
    ("adapt", ["seed=1", "++inside=0", "~players"],
     "inside is now called compare_neurons. players is now called audio_clips."),
    ("adapt", ["keep=ewc,l2sp", "-m"], "keep is now called penalty."),
    ("adapt", ["+keep@keep=ewc", "keep.strength=1"],
     "keep is now called penalty. keep.strength is now called penalty.strength."),
    ("adapt", ["tuning=neurons", "tuning.amount=0.1"], "tuning.amount is now called tuning.top."),
    ("adapt", ["+tuning@tuning.parts.rows=neurons", "tuning=mix", "tuning.parts.rows.amount=0.1"],
     "tuning.parts.rows.amount is now called tuning.parts.rows.top."),
    ("choose", ["per=site"], "per=site is now per_site=true."),
    ("choose", ["per=null,site"], "per=null,site is now per_site=false,true."),
    ("choose", ["per=3"], "per is now called per_site, and is true or false."),
    ("introspect", ["measure=bias", "measure.least=9"], "measure.least is now called measure.min_examples."),
    ("introspect", ["measure=profiles", "measure.least=9"], "measure.least is now called measure.min_steps."),
    ("introspect", ["measure.least=9"],
     "measure.least is now called measure.min_examples (bias) or measure.min_steps (profiles, topography)."),
    ("introspect", ["measure=similarity", "measure.per=step"], "measure.per is now called measure.sample_by."),
])  # fmt: skip
def test_an_old_name_is_answered_with_the_new_one(conf, command, overrides, answer):
    assert old_names(command, overrides, conf) == answer


@pytest.mark.parametrize(("command", "overrides"), [
    ("adapt", ["top=1", "seed=1", "tuning=neurons", "tuning.top=1", "--config-dir", "inside"]),
    ("evaluate", ["inside=0", "keep=ewc", "per=site"]),  # never were options of this command
    ("adapt", ["tuning=mine", "tuning.amount=3"]),  # the user's own choice has the user's own options
    ("introspect", ["measure=probes,mine", "measure.least=3"]),
])  # fmt: skip
def test_other_names_are_left_to_hydra(conf, command, overrides):
    assert old_names(command, overrides, conf) is None


def test_a_name_that_is_in_use_is_not_an_old_one(conf):
    (conf / "adapt.yaml").write_text("inside: 3\n")
    assert old_names("adapt", ["inside=0"], conf) is None


def test_old_names_in_a_users_experiment_or_in_a_dict_are_found(conf):
    ours = {"_target_": "adapt.tuning.neurons.neurons", "amount": 0.1}
    assert old_keys("adapt", {"tuning": ours}, conf) == "tuning.amount is now called tuning.top."
    assert old_keys("adapt", {"tuning": ours | {"_target_": "mine.neurons"}}, conf) is None
    assert old_keys("adapt", {"inside": 0, "seed": 0}, conf) == "inside is now called compare_neurons."
    measure = {"_target_": "adapt.introspect.bias.measure.bias", "least": 3}
    assert old_keys("introspect", {"measure": measure}, conf) == "measure.least is now called measure.min_examples."


def test_a_saved_config_is_translated():
    now = {"penalty.strength": 1, "top": 0.1, "per_site": True, "measure.min_steps": 3, "weights": None, "seed": 0}
    before = {"keep.strength": 1, "amount": 0.1, "per": "site", "measure.least": 3, "weights": None, "seed": 0}
    assert translate(before, now) == now
    assert translate({"per": None}, now) == {"per_site": False}
    assert translate({"unknown": 3}, now) == {"unknown": 3}


@pytest.mark.parametrize("renamed", RENAMED, ids=lambda renamed: f"{renamed.old} {'-'.join(renamed.choices)}")
def test_the_shipped_options_have_the_new_names(renamed):
    """Each command composes with the new name, and answers the old one."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    group = renamed.old.partition(".")[0]
    for command in renamed.commands:
        for choice in renamed.choices or (
            "neurons" if group == "tuning" else "ablate" if group == "intervention" else "",
        ):
            chosen = [f"{group}={choice}"] if choice else []
            chosen += ["+tuning@tuning.parts.x=neurons"] if "*" in renamed.old else []
            answer = old_names(command, [*chosen, f"{renamed.old.replace('*', 'x')}=3"], config_folder())
            assert answer is not None
            with initialize_config_dir(str(config_folder()), version_base="1.3"):
                cfg = compose(command, chosen if "*" not in renamed.old else ["tuning=mix", chosen[-1]])
            assert OmegaConf.select(cfg, renamed.new.replace("*", "x"), default="none") != "none", renamed
