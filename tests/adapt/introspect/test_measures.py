"""Every measure names what it cannot do, in a sentence, before it has read anything."""

import pytest

from adapt.errors import InputError

ASKED = {
    "measure=similarity measure.steps=two": "measure.steps must be a whole number",
    "measure=similarity measure.steps=1.5": "measure.steps must be a whole number",
    "measure=similarity measure.steps=0": "measure.steps is a number of at least 1",
    "measure=similarity measure.sites=3": "measure.sites must be a name or a list of names",
    "measure=similarity measure.method=rv": "Expected method cka",
    "measure=similarity measure.method=rsa": "phoneme",
    "measure=similarity measure.target=phoneme": "measure.target=phoneme is for measure.method=rsa",
    "measure=similarity measure.method=rsa measure.per=step": "measure.per=step is for other methods",
    "measure=similarity measure.method=rsa measure.target=speaker": "needs 4 of them",
    "measure=similarity measure.method=rsa measure.most=1": "measure.most is a number of at least 2",
    "measure=weights": "no adaptation that names its base",
    "measure=weights measure.level=2": "measure.level is a share",
    "measure=weights measure.level=x": "measure.level must be a number",
    "measure=probes measure.targets=[]": "measure.targets names one or more",
    "measure=probes measure.held_out=x": "measure.held_out must be a number",
    "measure=probes measure.held_out=1": "measure.held_out is a share",
    "measure=probes measure.most=2.5": "measure.most must be a whole number",
    "measure=probes measure.seed=x": "measure.seed must be a whole number",
    "measure=probes +measure.depth=1": "method=linear has strength, mix",
    "measure=topography measure.most=0": "measure.most is a number of at least 1",
    "measure=topography measure.least=x": "measure.least must be a whole number",
    "measure=topography measure.groups=[letter,accent]": "measure.groups is one key here",
    "measure=attribution measure.neurons=maybe": "measure.neurons must be true or false",
    "measure=bias measure.least=3": "measure.least is a number of at least 8",
    "measure=bias measure.most=1": "measure.most is a number of at least 2",
    "measure=bias measure.false_discoveries=2": "measure.false_discoveries is a share between 0 and 1",
    "measure=bias measure.resample=word": "measure.resample must be speaker, example",
    "measure=bias measure.confirm=maybe": "measure.confirm must be true or false",
    "measure=bias measure.content=3": "measure.content must be a name or a list of names or null, got 3",
    "measure=profiles measure.window=x": "measure.window must be a number or null",
    "measure=profiles measure.least=true": "measure.least must be a whole number",
    "measure=profiles measure.groups=3": "measure.groups must be a name or a list",
    "measure=profiles measure.groups=[]": "measure.groups names one key or more",
    "measure=profiles measure.scores=3": "measure.scores must be a name or a list",
}


@pytest.mark.parametrize("asked", ASKED)
def test_what_cannot_be_asked(innertune, base, speech, tmp_path, asked):
    data = ["data=manifest", f"data.test={speech['high_test']}", f"data.source_test={speech['low_test']}"]
    with pytest.raises(InputError, match=ASKED[asked]):
        innertune("introspect", f"model.pretrained={base}", *data, *asked.split(), f"output={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("measure", ["probes", "topography"])
def test_a_model_of_another_kind_is_named(innertune, base, wav2vec2, speech, tmp_path, measure):
    with pytest.raises(InputError, match="measure.against: .* has none of these sites"):
        innertune(
            "introspect", f"model.pretrained={base}", f"measure={measure}", f"measure.against={wav2vec2}",
            "data=manifest", f"data.test={speech['high_test']}", f"output={tmp_path / 'run'}",
        )  # fmt: skip


def test_layers_that_read_audio_and_text_are_not_compared(innertune, base, marian, speech, tmp_path):
    with pytest.raises(InputError, match=f"measure.against: '{marian}' reads text, and '{base}' reads audio"):
        innertune(
            "introspect", f"model.pretrained={base}", "measure=similarity", f"measure.against={marian}",
            "data=manifest", f"data.test={speech['high_test']}", f"output={tmp_path / 'run'}",
        )  # fmt: skip
