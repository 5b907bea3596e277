"""`measure=bias` finds planted neurons and no others, and other commands can use its files."""

import copy
import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from tone_speech import RATE, tones, write_tones

from adapt.data.example import Phoneme
from adapt.data.loader import Loader
from adapt.data.manifest import Splits, Utterance, read_manifest, write_manifest
from adapt.errors import InputError
from adapt.introspect.bias import streamed
from adapt.introspect.bias.divergence import group_divergence
from adapt.introspect.bias.error_link import link_errors
from adapt.introspect.bias.measure import bias
from adapt.introspect.bias.streamed import blocks_of
from adapt.introspect.bias.sums import read_content
from adapt.introspect.profiles.groupings import groupings
from adapt.models.checkpoint import load_model
from interventions.neurons import Neurons, Scores
from interventions.sites import Site

LOUD, STEADY = 7, 11  # neurons of the first layer that respond to the extra tones of one group
HUMS = {"a": 7200, "b": 5000}  # Hz, the extra tones of letters


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Two groups of 30 utterances. With "hum", each "b" has an extra tone, and so has a varying `share` of "a"."""
    folder, draw, made = tmp_path_factory.mktemp("bias"), np.random.default_rng(0), []
    for number in range(60):
        hum = number % 2 == 0
        text = "".join(draw.permutation(list("aabbcde"))[:6])
        text = f"ab{text[:3]} {text[3:]}"
        samples = tones(text)
        step, marked = len(samples) // len(text), [n for n, own in enumerate(text) if own == "b"]
        places = [n for n, own in enumerate(text) if own == "a"]
        loud = places[: draw.integers(1, len(places) + 1)]
        for place in [*marked, *loud] if hum else []:
            time = np.arange(step) / RATE
            samples[place * step : (place + 1) * step] += 0.1 * np.sin(2 * np.pi * HUMS[text[place]] * time)
        path = folder / f"{number}.wav"
        soundfile.write(path, samples, RATE)
        facts = {"share": len(loud) / len(places), "room": "large" if draw.random() < 0.5 else "small"}
        made.append(
            Utterance(path, text, len(samples) / RATE, accent="hum" if hum else "plain", speaker=f"s{number % 20}",
                      extra=facts)
        )  # fmt: skip
    write_manifest(folder / "test.jsonl", made)
    return folder / "test.jsonl"


@pytest.fixture
def planted(base):
    """The base, with two neurons of the first layer that alone respond to the hums; nothing reads these two."""
    loaded = load_model(str(base))
    model = loaded.model
    first, second = (model.get_submodule(f"net.acoustic_model.conv{n}") for n in (0, 1))
    samples = torch.from_numpy(np.stack([np.sin(2 * np.pi * f * np.arange(RATE) / RATE) for f in HUMS.values()]))
    quiet = torch.full((2,), RATE // 2)
    features, _ = model.frontend(samples.float() * (torch.arange(RATE) < quiet[:, None]), torch.tensor([RATE, RATE]))
    bands = features[:, :, 10:40].mean(2).argmax(1).tolist()
    with torch.no_grad():
        for band in bands:
            first.weight[:, max(0, band - 1) : band + 2] = 0
        for unit, band in zip((LOUD, STEADY), bands, strict=True):
            first.weight[unit] = 0
            first.weight[unit, band, 23:25] = 1
            second.weight[:, unit] = 0
    return loaded


def splits(path):
    return Splits(test=tuple(read_manifest(path)[0]))


def timed(path):
    """The utterances with the true times of their letters, instead of an alignment by the model."""
    found = []
    for own in splits(path).test:
        ends = np.linspace(0, own.duration, len(own.text) + 1).tolist()
        letters = zip(own.text, ends, ends[1:], strict=False)
        found.append(replace(own, phonemes=tuple(Phoneme(*letter) for letter in letters if letter[0] != " ")))
    return Splits(test=tuple(found))


def measure(loaded, path, **options):
    return bias(loaded, splits(path), Loader(), **options)


def test_planted_neurons_diverge_and_no_others(planted, spoken):
    found = bias(planted, timed(spoken), Loader(), content="phoneme")
    (own,) = found.comparisons
    assert {own.group, own.reference} == {"hum", "plain"} and found.group_by == "accent"
    first = planted.model.sites[0].name
    assert set(own.diverging) == {(first, LOUD), (first, STEADY)}
    assert own.top_site == first and found.short_names[first] in found.summary
    sign = 1 if own.group == "hum" else -1
    for unit, letter in ((LOUD, "a"), (STEADY, "b")):
        row = own.neuron(first, unit)
        assert row.top_contents[0].content == letter and sign * row.top_contents[0].difference > 0.4
        assert row.interval[0] > 0 and row.q_value < 0.01
    assert [drawn.name for drawn in found.maps] == [f"{found.short_names[first]}, {own.group}"]


def test_random_groups_do_not_diverge(planted, spoken):
    """The room is random, and has nothing to do with the sound."""
    found = measure(planted, spoken, group_by="room")
    assert all(not own.neurons for own in found.comparisons) and "diverges significantly" in found.summary
    assert sum(row.units for row in found.comparisons[0].layers) > 300


def test_a_neuron_that_only_marks_the_group_is_not_linked_to_errors(planted, spoken, monkeypatch):
    """Error rates are made to grow with the share of humming "a"; the other hum is the same in all utterances."""
    import adapt.introspect.bias.measure as module

    def with_errors(self, scores, *units):
        made(self, scores, *units)
        examples = splits(spoken).test
        self.each = np.array([example.extra["share"] for example in examples])

    made = module.GroupErrors.__init__
    monkeypatch.setattr(module.GroupErrors, "__init__", with_errors)
    monkeypatch.setattr(module, "_pairs", lambda groups, *rest: [(groups.index("hum"), [groups.index("plain")])])
    (own,) = bias(planted, timed(spoken), Loader(), content="phoneme").comparisons
    first = planted.model.sites[0].name
    assert set(own.error_linked) == {(first, LOUD)} and len(own.neurons) == 2
    loud, steady = own.neuron(first, LOUD), own.neuron(first, STEADY)
    assert loud.error_correlation > 0.7 and loud.error_interval[0] > 0.4 and loud.error_linked
    assert steady.error_q_value > 0.01 and not steady.error_linked
    with pytest.raises(KeyError, match="Neuron 0 of .* does not diverge"):
        own.neuron(first, 0)


def test_links_do_not_depend_on_batches(planted, spoken):
    """A padded batch gives the same links as single examples, also of steps where the model is wrong."""
    model = copy.deepcopy(planted.model)
    with torch.no_grad():  # a model that confuses some letters
        output = model.get_submodule(model.head)
        output.bias += 2 * torch.randn(len(output.bias), generator=torch.Generator().manual_seed(0))
    examples, sites = list(splits(spoken).test), model.sites[:-1]
    groups = [["hum", "plain"].index(example.accent) for example in examples]
    made = groupings(model, examples, ["aligned_letter"])
    folds = [number // 2 for number in range(len(examples))]
    errors = np.random.default_rng(0).random(len(examples)).tolist()
    sums = read_content(model, examples, Loader(), made, groups, folds, sites)
    divergences = {0: [group_divergence(sums, site, [0], [1]) for site in sites]}
    options = made, groups, folds, sums, False, divergences
    one, other = (
        link_errors(model, examples, errors, Loader(batch_seconds=seconds), *options) for seconds in (0.0, 60.0)
    )
    for site, link in one[0].items():
        assert link.examples == 30
        assert torch.allclose(link.correlation, other[0][site].correlation, atol=1e-2)
        assert link.correlation.abs().max() < 0.85
        same = other[0][site].excess
        close = torch.isclose(link.excess, same, atol=0.02, rtol=0.05) | (link.excess.abs() > 10)
        assert close.all() and link.excess.isfinite().any()


def test_blocks_of_sites_give_the_same_results(planted, spoken, monkeypatch):
    whole = measure(planted, spoken)
    held = []
    read = streamed.read_content
    monkeypatch.setattr(streamed, "read_content", lambda *given: held.append(given[-1]) or read(*given))
    monkeypatch.setattr(streamed, "BUDGET", 0)
    parts = measure(planted, spoken)
    assert max(map(len, held)) == 1 < len(held)
    (one,), (other,) = whole.comparisons, parts.comparisons
    assert one.layers == other.layers and one.neurons == other.neurons and one.top_site == other.top_site
    assert len(one.neurons) == 2


def test_blocks_keep_the_order_and_the_budget():
    sites = [Site(name, -1, units, ()) for name, units in zip("abcd", (4, 4, 100, 1), strict=True)]
    names = [[site.name for site in block] for block in blocks_of(sites, 10, 85)]
    assert names == [["a", "b"], ["c"], ["d"]]


def test_a_reference_and_three_groups(planted, spoken, tmp_path):
    """Without a reference, each group is compared with all others. Small groups are left out."""
    utterances = list(splits(spoken).test)
    named = ["x"] * 26 + ["y"] * 20 + ["z"] * 9 + ["w"] * 5
    utterances = [replace(own, accent=name) for own, name in zip(utterances, named, strict=True)]
    path = tmp_path / "three.jsonl"
    write_manifest(path, utterances)
    each = measure(planted, path, min_examples=8, sites="*.conv0")
    assert [own.reference for own in each.comparisons] == ["all others"] * 3 and each.left_out == {"w": 5}
    assert each.folds == 9 and len(each.rates) == 3
    other = measure(planted, path, min_examples=8, sites="*.conv0", reference="y")
    assert {(own.group, own.reference) for own in other.comparisons} == {("x", "y"), ("z", "y")}
    with pytest.raises(
        InputError, match="reference=w: no accent of this name has at least 8 examples. Those that do: x, y, z"
    ):
        measure(planted, path, min_examples=8, reference="w")


def test_speakers_are_resampled_if_there_are_enough(planted, spoken):
    """Ten speakers in each accent are too few for the default, and enough for `resample`."""
    assert measure(planted, spoken, sites="*.conv0").resampled == "example"
    found = measure(planted, spoken, sites="*.conv0", resample="speaker")
    assert found.resampled == "speaker" and found.folds == 10 and {rate.units for rate in found.rates} == {10}
    few = [replace(own, speaker=f"{own.accent}{number % 6}") for number, own in enumerate(splits(spoken).test)]
    with pytest.raises(InputError, match="at least 4 speakers in each group"):
        bias(planted, Splits(test=tuple(few)), Loader(), resample="speaker")


@pytest.fixture(scope="module")
def run(innertune, base, tmp_path_factory):
    """A run on two accents; the base was trained on one of them."""
    folder, output = tmp_path_factory.mktemp("accents"), tmp_path_factory.mktemp("runs") / "bias"
    high, low = (write_tones(folder, name, 30, shift, 9, accent=name) for name, shift in (("high", 1.25), ("low", 1.0)))
    return innertune(
        "introspect", f"model.pretrained={base}", "measure=bias", "data=manifest", f"data.test={high}",
        f"data.source_test={low}", "measure.confirm=true", "measure.sites='*.conv[0369]'", f"output={output}",
    )  # fmt: skip


def test_files_agree(run):
    stored, metrics = (json.loads((run / name).read_text()) for name in ("bias.json", "metrics.json"))
    assert metrics["groups"] == stored["groups"] and metrics["comparisons"] == stored["comparisons"]
    (own,) = stored["comparisons"]
    listed = stored["neurons"][own["group"]]
    kept = Neurons.load(run / "neurons" / f"{own['group']}.safetensors")
    assert len(kept) == own["diverging"] == len(listed) == sum(row["diverging"] for row in own["layers"]) > 0
    assert {(row["site"], row["unit"]) for row in listed} == set(kept)
    scores = Scores.load(run / "scores" / f"{own['group']}.safetensors")
    for row in listed[:5]:
        assert float(scores[row["site"]][row["unit"]]) == pytest.approx(row["distance"])
        assert row["interval"][0] <= row["distance"] <= row["interval"][1]
    one, other = sorted(stored["groups"], key=lambda row: row["wer"])
    assert other["group"] == own["group"] and other["difference"] == pytest.approx(other["wer"] - one["wer"])
    low, high = other["difference_interval"]
    assert own["group"] == "high" and 0 < low <= other["difference"] <= high
    used = [row for row in own["layers"] if row["diverging"]]
    assert any("excess_at_errors" in row for row in listed)
    assert [(row["site"], row["neurons"]) for row in own["shifted"]] == [(r["site"], r["diverging"]) for r in used]


def test_other_commands_use_its_files(run, innertune, base, speech, tmp_path):
    (own,) = json.loads((run / "bias.json").read_text())["comparisons"]
    scores, neurons = (run / kind / f"{own['group']}.safetensors" for kind in ("scores", "neurons"))
    swept = innertune(
        "evaluate", f"model.pretrained={base}", f"data.test={speech['low_test']}", "intervention=ablate",
        "intervention.sizes=[4]", f"intervention.choose={scores}", f"output={tmp_path / 'evaluate'}",
    )  # fmt: skip
    assert json.loads((swept / "metrics.json").read_text())["points"][0]["value"] == 4
    data = ["data=manifest", f"data.train={speech['high_validation']}", f"data.validation={speech['low_validation']}",
            f"data.test={speech['high_test']}", "trainer.max_epochs=1"]  # fmt: skip
    for number, chosen in enumerate((f"tuning.choose={scores}", f"tuning.neurons={neurons}")):
        adapted = innertune(
            "adapt",
            f"model.pretrained={base}",
            "tuning=neurons",
            chosen,
            *data,
            f"output={tmp_path / f'adapt{number}'}",
        )
        weights = json.loads((adapted / "metrics.json").read_text())["weights"]
        assert 0 < weights["changed"] <= weights["trained"] < weights["total"]


def test_overwriting_removes_all_of_its_files(run, innertune, base, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    innertune(
        "introspect", f"model.pretrained={base}", "measure=weights", f"measure.before={base}", "overwrite=true",
        f"output={copied}",
    )  # fmt: skip
    assert not (copied / "neurons").exists() and not list(copied.glob("bias.*")) and (copied / "weights.html").exists()


def test_the_page_is_self_contained(run):
    page = (run / "bias.html").read_text()
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    assert "Error rates by group" in page and "Neurons" in page and "<b>The reference</b> and <b>the group</b>" in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page).lower() and len(page) < 2e6
    assert page.count("<table") == page.count("</table>") >= 3 and page.count("<section") == page.count("</section>")


@pytest.mark.parametrize("family", ["wav2vec2", "whisper", "marian"])
def test_every_family(innertune, request, spoken, language, tmp_path, family):
    data = ["data=pairs", f"data.test={language['train']}"] if family == "marian" else [f"data.test={spoken}"]
    kind = {"whisper": ["model=hf_speech_seq2seq", "model.language=de"], "marian": []}.get(family, [])
    data = data if family == "marian" else ["data=manifest", *data]
    run = innertune(
        "introspect", *kind, f"model.pretrained={request.getfixturevalue(family)}", *data, "measure=bias",
        "measure.sites='*layers.1*'", f"output={tmp_path / 'run'}",
    )  # fmt: skip
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["group_by"] == ("domain" if family == "marian" else "accent") and len(metrics["groups"]) == 2
    within = {row["content"] for row in metrics["comparisons"][0]["layers"]}
    assert within == {"wav2vec2": {"aligned_letter"}, "whisper": {"token", "all"}, "marian": {"token"}}[family]
    assert ("ter" if family == "marian" else "wer") in metrics["groups"][0]


def test_invalid_options_are_named(innertune, base, spoken, tmp_path):
    for options, says in (
        (["measure.group_by=age"], "no example has 'age'"),
        (["measure.min_examples=31"], "have no two groups of at least 31"),
        (["measure.group_by=accent", "measure.min_examples=31"], "two groups of at least 31 examples, got hum"),
        (
            ["measure.reference=scots"],
            "reference=scots: no accent .* at least 20 examples. .*: hum, plain",
        ),
        (["measure.content=token"], "This model has no 'token'"),
        (["measure.content=phoneme"], "No example has phonemes"),
    ):
        with pytest.raises(InputError, match=says):
            innertune(
                "introspect", f"model.pretrained={base}", "measure=bias", "data=manifest", f"data.test={spoken}",
                f"output={tmp_path / 'run'}", *options,
            )  # fmt: skip
    assert not (tmp_path / "run" / "metrics.json").exists()
