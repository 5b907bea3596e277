"""`innertune introspect`: the files of a measure, and their use in other commands."""

import json
import re
from dataclasses import replace

import pytest
import torch
from tone_speech import write_tones

from adapt.data.loader import Loader
from adapt.data.manifest import Phoneme, read_manifest, write_manifest
from adapt.errors import InputError
from adapt.introspect.profiles.profiles import Profiles
from adapt.introspect.similarity.rsa import rsa
from adapt.introspect.similarity.similarity import Similarity
from adapt.models.checkpoint import load_model
from interventions.neurons import Scores
from interventions.sites import choose_sites


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Two accents with phonemes: a target and a source test set."""
    folder, made = tmp_path_factory.mktemp("spoken"), []
    for accent, shift, seed in (("high", 1.25, 5), ("low", 1.0, 6)):
        utterances = [
            replace(one, phonemes=tuple(Phoneme(letter, 0.12 * n, 0.12 * (n + 1)) for n, letter in
                                        enumerate(one.text) if letter != " "))
            for one in read_manifest(write_tones(folder, accent, 8, shift, seed, accent=accent))[0]
        ]  # fmt: skip
        write_manifest(folder / f"{accent}.jsonl", utterances)
        made.append(folder / f"{accent}.jsonl")
    return ["data=manifest", f"data.test={made[0]}", f"data.source_test={made[1]}"]


@pytest.fixture(scope="module")
def run(innertune, base, spoken, tmp_path_factory):
    return innertune(
        "introspect", f"model.pretrained={base}", *spoken, "measure.min_steps=5",
        "measure.scores=[phoneme:a,[phoneme:a,phoneme:e]]", "measure.groups=[phoneme,letter,accent,set]",
        f"output={tmp_path_factory.mktemp('runs') / 'profiles'}",
    )  # fmt: skip


def test_files_say_the_same(run, base):
    profiles = Profiles.load(run / "profiles.safetensors")
    stored = json.loads((run / "profiles.json").read_text())
    metrics = json.loads((run / "metrics.json").read_text())
    assert profiles.keys == ("phoneme", "letter", "accent", "set")
    assert metrics["neurons"] == sum(site.units for site in load_model(str(base)).model.sites)
    assert metrics["examples"] == 16 and metrics["steps"] == {s.name: profiles.steps(s) for s in profiles.sites}
    own = stored["top_neurons"]["phoneme"]["phoneme:a"]
    site = profiles.sites[4]
    best = own[site.name][0]
    contrast = profiles.contrast("phoneme:a")[site]
    assert int(contrast.argmax()) == best["unit"] and float(contrast.max()) == pytest.approx(best["contrast"])
    low, high = best["interval"]
    assert low < best["contrast"] < high and 0 <= best["relevance"] <= 1
    assert [n["contrast"] for n in own[site.name]] == sorted((n["contrast"] for n in own[site.name]), reverse=True)
    assert sorted(stored["dendrogram_order"]["phoneme"][site.name]) == sorted(profiles.groups_at(site, "phoneme"))
    explained = profiles.explained_variance("phoneme")
    assert stored["explained_variance"]["phoneme"][site.name] == pytest.approx(float(explained[site].mean()))
    assert all(0 <= float(own.min()) <= float(own.max()) <= 1 for own in (explained[s] for s in explained.sites))


def test_scores_choose_neurons_for_other_commands(run, innertune, base, spoken, tmp_path):
    profiles = Profiles.load(run / "profiles.safetensors")
    files = {path.stem for path in (run / "scores").iterdir()}
    gaps = {f"gap-{key}{ending}" for key in ("accent", "set") for ending in ("", "-adjusted")}
    assert files == gaps | {"phoneme-a", "phoneme-a-phoneme-e"}
    assert Scores.load(run / "scores" / "phoneme-a.safetensors") == profiles.contrast("phoneme:a")
    gap = Scores.load(run / "scores" / "gap-set-adjusted.safetensors")
    assert gap == profiles.gap("set:target", "set:source", adjusted=True)
    same = Scores.load(run / "scores" / "gap-accent-adjusted.safetensors")  # here the sets are the accents
    assert all(torch.allclose(gap[site], same[site]) for site in gap.sites)
    swept = innertune(
        "evaluate", f"model.pretrained={base}", spoken[1], "intervention=ablate", "intervention.sizes=[4]",
        f"intervention.choose={run / 'scores' / 'gap-set-adjusted.safetensors'}", f"output={tmp_path / 'run'}",
    )  # fmt: skip
    assert json.loads((swept / "metrics.json").read_text())["points"][0]["value"] == 4


def test_the_page_stands_alone(run):
    page = (run / "profiles.html").read_text()
    assert len(re.findall(r'<svg class="heat"', page)) == 4 * 11 and "<script" not in page
    assert "http" not in page.replace("http-equiv", "") and "src=" not in page.replace("img-src", "")
    assert page.count("data:image/png;base64,") > 2 * 4 * 11 and "img-src data:" in page
    assert "<code>conv6</code>" in page
    assert "By phoneme" in page and "By letter" in page and "nan" not in re.sub(r"base64,[^\"]*", "", page).lower()
    assert len(page) < 2e6


@pytest.mark.parametrize("family", ["wav2vec2", "whisper", "marian"])
def test_every_family(innertune, request, spoken, language, tmp_path, family):
    data = ["data=pairs", f"data.test={language['test']}"] if family == "marian" else spoken
    kind = {"whisper": ["model=hf_speech_seq2seq", "model.language=de"]}.get(family, [])
    run = innertune(
        "introspect", *kind, f"model.pretrained={request.getfixturevalue(family)}", *data, "measure.min_steps=2",
        "measure.sites='*layers.1*'", f"output={tmp_path / 'run'}",
    )  # fmt: skip
    groups = json.loads((run / "metrics.json").read_text())["groups"]
    wanted = {"wav2vec2": {"phoneme", "letter", "accent"}, "whisper": {"phoneme", "token_class", "token", "accent"},
              "marian": {"token_class", "token", "domain"}}  # fmt: skip
    assert set(groups) == wanted[family]
    assert "<svg" in (run / "profiles.html").read_text()


def test_windows(innertune, base, spoken, tmp_path):
    run = innertune(
        "introspect", f"model.pretrained={base}", *spoken[:2], "measure.window=0.4", "measure.groups=phoneme",
        "measure.sites='*.conv[36]'", "measure.min_steps=3", f"output={tmp_path / 'run'}",
    )  # fmt: skip
    profiles = Profiles.load(run / "profiles.safetensors")
    assert set(profiles.windows.values()) == {20} and profiles.folds == 1
    told = json.loads((run / "profiles.json").read_text())["top_neurons"]["phoneme"]
    assert all(n["interval"] is None for own in told.values() for rows in own.values() for n in rows)
    assert "aligned windows" in (run / "profiles.html").read_text()


def test_what_does_not_fit_is_named(innertune, base, spoken, tmp_path):
    for options, says in (
        (["measure.groups=[age]"], "No example has 'age'"),
        (["measure.sites=nothing"], "sites: No site matches 'nothing'"),
        (["measure.examples=[tests]"], "there is no split 'tests'. Choose from train"),
        (["measure.examples=[validation]"], "nothing to read: the data have no examples in validation"),
        (["measure.scores=[phoneme:q]"], "scores: There is no group 'phoneme:q'"),
        (["measure.scores=[[a,b,c]]"], "expected a group or a pair of groups"),
        (["measure.folds=0"], "folds must be a whole number of at least 1"),
        (["measure.max_groups=0"], "max_groups must be a whole number of at least 1"),
    ):
        with pytest.raises(InputError, match=says):
            innertune("introspect", f"model.pretrained={base}", *spoken, f"output={tmp_path / 'run'}", *options)
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_rsa_by_command(innertune, base, spoken, tmp_path):
    run = innertune(
        "introspect", f"model.pretrained={base}", *spoken, "measure=similarity", "measure.method=rsa",
        "measure.sites='*.conv[2-5]'", f"output={tmp_path / 'run'}",
    )  # fmt: skip
    found = Similarity.load(run)
    model, examples = load_model(str(base)).model, [read_manifest(one.partition("=")[2])[0] for one in spoken[1:]]
    sites = choose_sites(model.sites, "*.conv[2-5]")
    here = rsa(model, [*examples[0], *examples[1]], Loader(), "phoneme", sites=sites)
    assert found.method == "rsa" and found.rows == here.rows and torch.equal(found.matrix, here.matrix)
    told = json.loads((run / "metrics.json").read_text())
    assert (told["method"], told["sample_by"], told["count"]) == ("rsa", "group", 5)
    assert "distances between all pairs of groups" in " ".join((run / "similarity.html").read_text().split())
