"""Every measure rejects options that do not fit, before it reads anything."""

import pytest

from adapt.errors import InputError

ERRORS = {
    "measure=similarity measure.steps=two": "measure.steps must be a whole number",
    "measure=similarity measure.steps=1.5": "measure.steps must be a whole number",
    "measure=similarity measure.steps=0": "steps must be a whole number of at least 1",
    "measure=similarity measure.sites=3": "measure.sites must be a name or a list of names",
    "measure=similarity measure.method=rv": "method must be one of cka",
    "measure=similarity measure.method=rsa": "phoneme",
    "measure=similarity measure.target=phoneme": "target=phoneme is only for method=rsa",
    "measure=similarity measure.method=rsa measure.sample_by=step": "sample_by=step does not apply to method=rsa",
    "measure=similarity measure.method=rsa measure.target=speaker": "needs at least 4 groups",
    "measure=similarity measure.method=rsa measure.max_per_group=1": "max_per_group must be a whole number",
    "measure=weights": "not an adaptation that names its base",
    "measure=weights measure.level=2": "level must be a number between 0 and 1",
    "measure=weights measure.level=x": "measure.level must be a number",
    "measure=probes measure.targets=[]": "targets must name at least one target",
    "measure=probes measure.held_out=x": "measure.held_out must be a number",
    "measure=probes measure.held_out=1": "held_out must be a number above 0 and below 1",
    "measure=probes measure.max_per_class=2.5": "measure.max_per_class must be a whole number",
    "measure=probes measure.seed=x": "measure.seed must be a whole number",
    "measure=probes +measure.depth=1": "method=linear has the options strength, mix",
    "measure=topography measure.max_groups=0": "max_groups must be a whole number of at least 1",
    "measure=topography measure.min_steps=x": "measure.min_steps must be a whole number",
    "measure=topography measure.groups=[letter,accent]": "groups must be one key",
    "measure=attribution measure.neurons=maybe": "measure.neurons must be true or false",
    "measure=bias measure.min_examples=3": "min_examples must be a whole number of at least 8",
    "measure=bias measure.max_groups=1": "max_groups must be a whole number of at least 2",
    "measure=bias measure.false_discovery_rate=2": "false_discovery_rate must be a share between 0 and 1",
    "measure=bias measure.resample=word": "resample must be speaker, example",
    "measure=bias measure.confirm=maybe": "measure.confirm must be true or false",
    "measure=bias measure.content=3": "measure.content must be a name or a list of names or null, got 3",
    "measure=profiles measure.window=x": "measure.window must be a number or null",
    "measure=profiles measure.min_steps=true": "measure.min_steps must be a whole number",
    "measure=profiles measure.groups=3": "measure.groups must be a name or a list",
    "measure=profiles measure.groups=[]": "groups must name at least one key",
    "measure=profiles measure.scores=3": "scores must be a list of groups",
}


@pytest.mark.parametrize("options", ERRORS)
def test_options_that_do_not_fit_are_rejected(innertune, base, speech, tmp_path, options):
    data = ["data=manifest", f"data.test={speech['high_test']}", f"data.source_test={speech['low_test']}"]
    with pytest.raises(InputError, match=ERRORS[options]):
        innertune("introspect", f"model.pretrained={base}", *data, *options.split(), f"output={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("measure", ["probes", "topography"])
def test_a_reference_model_of_another_architecture_is_rejected(innertune, base, wav2vec2, speech, tmp_path, measure):
    with pytest.raises(InputError, match="reference_model: .* has none of these sites"):
        innertune(
            "introspect", f"model.pretrained={base}", f"measure={measure}", f"measure.reference_model={wav2vec2}",
            "data=manifest", f"data.test={speech['high_test']}", f"output={tmp_path / 'run'}",
        )  # fmt: skip


def test_a_reference_model_with_another_input_is_rejected(innertune, base, marian, speech, tmp_path):
    with pytest.raises(InputError, match=f"reference_model: '{marian}' reads text, and '{base}' reads audio"):
        innertune(
            "introspect", f"model.pretrained={base}", "measure=similarity", f"measure.reference_model={marian}",
            "data=manifest", f"data.test={speech['high_test']}", f"output={tmp_path / 'run'}",
        )  # fmt: skip
