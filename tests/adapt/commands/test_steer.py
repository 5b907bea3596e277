"""`innertune steer`: vectors are right, evaluated on both groups, and can be used from their file."""

import json

import pytest
import torch

from adapt.errors import InputError
from adapt.evaluation.steering import steer
from adapt.evaluation.steering_fit import fit_vectors, two_groups
from adapt.evaluation.steering_result import SteeringResult
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples
from adapt.report.sweep import write_sweep
from interventions.intervene import intervene
from interventions.store import describe, load


@pytest.fixture(scope="module")
def both(speech, tmp_path_factory):
    """Manifests with both accents of the tone speech in each."""
    folder = tmp_path_factory.mktemp("both")
    made = {}
    for part in ("train", "validation", "test"):
        lines = [speech[f"{accent}_{part}"].read_text().splitlines()[:8] for accent in ("high", "low")]
        rows = [json.loads(line) for group in lines for line in group]
        for row, accent in zip(rows, ["high"] * 8 + ["low"] * 8, strict=True):
            row["audio_filepath"] = str(speech[f"{accent}_{part}"].parent / row["audio_filepath"])
        made[part] = folder / f"{part}.jsonl"
        made[part].write_text("\n".join(map(json.dumps, rows)) + "\n")
    return [f"data.{part}={path}" for part, path in made.items()]


@pytest.fixture(scope="module")
def steered(innertune, base, both, tmp_path_factory):
    return innertune(
        "steer", f"model.pretrained={base}", "data=manifest", *both, "coefficients=[0.5,2,-1]",
        "sites='*.conv[35]'", "controls=2", f"output={tmp_path_factory.mktemp('runs') / 'steer'}",
    )  # fmt: skip


def test_writes_vectors_figures_and_a_page(steered, base):
    metrics = json.loads((steered / "metrics.json").read_text())
    settings = {(p["chart"], p["line"], p["value"]) for p in metrics["points"]}
    sites = ("net.acoustic_model.conv3", "net.acoustic_model.conv5")
    lines = [f"{group}{ending}" for group in ("high", "low") for ending in ("", ", random 0", ", random 1")]
    assert settings == {(site, line, value) for site in sites for line in lines for value in (0.5, 2.0, -1.0)}
    assert {p["line"] for p in metrics["points"] if p["control"]} == {line for line in lines if "random" in line}
    page = (steered / "steering.html").read_text()
    assert all(site in page for site in sites) and page.count('<svg class="curves"') == 2
    assert "<script" not in page and "http" not in page.replace("http-equiv", "").lower().replace("http://www.w3", "")
    described = describe(steered / "vectors.safetensors")
    assert described["provenance"]["from"] == "high" and described["provenance"]["to"] == "low"
    assert described["model"]["fingerprint"] == load_model(str(base)).fingerprint
    chosen = metrics["chosen"]
    (steer,) = load(steered / "steering.safetensors", load_model(str(base)).fingerprint).values()
    assert (steer.site.name, steer.coefficient) == (chosen["site"], chosen["coefficient"])


def test_the_saved_vector_has_the_measured_effect(steered, base, innertune, both, tmp_path):
    """Another command that loads it finds the same error rate on the same examples."""
    metrics = json.loads((steered / "metrics.json").read_text())
    run = innertune(
        "evaluate", f"model.pretrained={base}", "data=manifest", both[2], "data.group_by=accent", "intervention=saved",
        f"intervention.path={steered / 'vectors.safetensors'}", "intervention.names=[net.acoustic_model.conv3]",
        "intervention.strengths=[0,2]", f"output={tmp_path / 'run'}",
    )  # fmt: skip
    points = {p["value"]: p["quality"] for p in json.loads((run / "metrics.json").read_text())["points"]}
    unmodified = json.loads((run / "metrics.json").read_text())["target"]
    assert points[0.0]["wer"] == unmodified["wer"]
    lines = [json.loads(line) for line in (run / "transcripts.jsonl").read_text().splitlines()]
    texts = [line for line in lines if line.get("intervention") == "interventions, 2"]
    high = [row for row in texts if "/high_" in row["audio_filepath"]]
    judged = load_model(str(base)).model.task.evaluate([r["text"] for r in high], [r["pred_text"] for r in high])
    (point,) = [p for p in metrics["points"] if (p["chart"], p["line"], p["value"]) ==
                ("net.acoustic_model.conv3", "high", 2.0)]  # fmt: skip
    assert judged.values()["cer"] == point["quality"]["cer"]


def test_the_vector_is_the_difference_of_the_means_without_padding(base, speech):
    from adapt.data.loader import Loader
    from adapt.data.manifest import read_manifest

    model = load_model(str(base)).model
    site = model.sites[3]
    groups = tuple(tuple(read_manifest(speech[f"{accent}_test"])[0][:4]) for accent in ("high", "low"))
    found = fit_vectors(model, [site], groups, "mean", Loader(batch_seconds=60))[site]
    means = []
    for group in groups:
        rows = []
        for utterance in group:  # one by one: there is nothing to pad
            seen = []
            handle = model.get_submodule(site.name).register_forward_hook(
                lambda *parts, seen=seen: seen.append(parts[2].clone())
            )
            with torch.no_grad():
                audio = model.reader.read(utterance)
                model(audio.unsqueeze(0), torch.tensor([len(audio)]))
            handle.remove()
            rows.append(seen[0][0].T)
        means.append(torch.cat(rows).mean(0))
    torch.testing.assert_close(found, means[1] - means[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["mean", "probe", "pca"])
def test_every_method_on_a_translation_model(marian, language, innertune, tmp_path, method):
    """Also in the decoder, which reads the references. Domains a and b have the same texts here."""
    rows = [json.loads(line) for line in language["train"].read_text().splitlines()[:6]]
    both = [row | {"domain": domain, "id": None} for domain in ("a", "b") for row in rows]
    for row in both[6:]:
        row["source"] = row["source"][::-1]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, both)))
    (tmp_path / "test.jsonl").write_text(language["test"].read_text())
    run = innertune(
        "steer", "model=hf_translation", f"model.pretrained={marian}", "data=pairs", "group_by=domain",
        f"data.train={tmp_path / 'pairs.jsonl'}", f"data.test={tmp_path / 'test.jsonl'}", "coefficients=[1]",
        "sites=['*encoder.layers.1.fc2','*decoder.layers.0.fc1']", f"method={method}", "unit_length=true",
        f"output={tmp_path / 'run'}",
    )  # fmt: skip
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["chosen"] is None and not (run / "steering.safetensors").exists()  # no validation data
    assert all(norm == pytest.approx(1, abs=1e-5) for norm in metrics["norms"].values()) and len(metrics["norms"]) == 2
    assert {"bleu", "chrf", "ter"} <= metrics["points"][0]["quality"].keys()


def test_a_chosen_vector_can_stay_on_a_model(steered, base, speech):
    from adapt.data.loader import Loader
    from adapt.data.manifest import read_manifest

    loaded = load_model(str(base))
    model, examples = loaded.model, read_manifest(speech["high_test"])[0]
    vectors = load(steered / "vectors.safetensors", loaded.fingerprint)
    before = decode_examples(model, model.task, examples, Loader())
    with intervene(model, *vectors.values()):
        changed = decode_examples(model, model.task, examples, Loader())
    assert changed != before and decode_examples(model, model.task, examples, Loader()) == before


def test_what_does_not_fit_is_named(innertune, base, both, steered, wav2vec2, tmp_path):
    def run(*options):
        innertune("steer", f"model.pretrained={base}", "data=manifest", *both,
                  f"output={tmp_path / 'run'}", *options)  # fmt: skip

    for options, says in (
        (["group_by=age"], "^groups must be two values of 'age'.*got unknown"),
        (["groups=[high,mid]"], "got high, mid. The data have high, low"),
        (["sites=nothing"], "No site matches 'nothing'"),
        (["coefficients=[0]"], "at least one that is not 0"),
        (["coefficients=0"], "at least one that is not 0"),
        (["coefficients=[a]"], "a number or a list of numbers"),
        (["groups=high"], "^groups must be two values of 'accent'.*got high. The data have high, low"),
        (["controls=-1"], "^controls must be a number of random vectors"),
        (["method=guess"], "^method must be one of mean, probe, pca"),
        (["unit_length=3"], "^unit_length must be true or false"),
    ):
        with pytest.raises(InputError, match=says):
            run(*options, "overwrite=true")
    saved = [
        "intervention=saved",
        f"intervention.path={steered / 'vectors.safetensors'}",
        f"output={tmp_path / 'other'}",
    ]
    with pytest.raises(InputError, match="belongs to another model"):
        innertune("evaluate", f"model.pretrained={wav2vec2}", both[2], *saved)
    for names in ("[conv9]", "conv9"):
        with pytest.raises(InputError, match="intervention.names: '.*' has no conv9. It has net.acoustic_model.conv3"):
            innertune("evaluate", f"model.pretrained={base}", both[2], *saved, f"intervention.names={names}")


def test_the_summary_says_if_no_setting_helps(innertune, base, both, tmp_path, caplog):
    caplog.set_level("INFO")
    innertune(
        "steer", f"model.pretrained={base}", "data=manifest", *both, "coefficients=[-1000]", "sites='*.conv5'",
        "groups=[low,high]", f"output={tmp_path / 'run'}",
    )  # fmt: skip
    assert "but none was better than the unmodified model" in caplog.text


def test_groups_that_are_the_same_have_no_vector(base, speech):
    from adapt.data.loader import Loader
    from adapt.data.manifest import read_manifest

    model, examples = load_model(str(base)).model, tuple(read_manifest(speech["low_test"])[0][:3])
    for method, says in (("mean", "the same mean"), ("probe", "method=probe: .*conv0.*"), ("pca", "method=pca: .*")):
        with pytest.raises(InputError, match=says):
            fit_vectors(model, model.sites[:1], (examples, examples), method, Loader())


def test_pca_needs_pairs_of_one_text(base, speech):
    from adapt.data.loader import Loader
    from adapt.data.manifest import read_manifest

    model, examples = load_model(str(base)).model, read_manifest(speech["low_test"])[0]
    by_text = {example.text: example for example in examples}
    texts = sorted(by_text)
    groups = tuple(tuple(by_text[text] for text in half) for half in (texts[:5], texts[5:]))
    with pytest.raises(InputError, match="needs pairs of examples with the same text"):
        fit_vectors(model, [model.sites[0]], groups, "pca", Loader())


def test_two_groups():
    from adapt.data.pairs import Pair

    pairs = [Pair("x", domain=domain) for domain in ("b", "a", "b")]
    assert two_groups(pairs, "domain", None) == ("b", "a") and two_groups(pairs, "domain", ["a", "b"]) == ("a", "b")
    with pytest.raises(InputError, match="^groups must be two .*got a, a"):
        two_groups(pairs, "domain", ["a", "a"])


def test_a_saved_result_is_drawn_again(steered, base, tmp_path):
    result = SteeringResult.load(steered)
    assert result.fingerprint == load_model(str(base)).fingerprint and result.groups == ("high", "low")
    page = (tmp_path / "again.html", result.points, result.metrics, result.example_name, "Title", result.summary())
    write_sweep(*page, "coefficient")
    first, again = (path.read_text() for path in (steered / "steering.html", tmp_path / "again.html"))
    tables = [page.partition("<table>")[2].partition("</table>")[0] for page in (first, again)]
    assert again.count('<svg class="curves"') == 2 and tables[0] == tables[1]
    result.save(tmp_path / "copy")
    assert SteeringResult.load(tmp_path / "copy").figures() == result.figures()
    with pytest.raises(InputError, match="does not hold the result of steering"):
        SteeringResult.load(base)


def test_from_a_notebook_it_is_a_function(base, both):
    from adapt.data.loader import Loader
    from adapt.data.splits import read_splits

    splits = read_splits(**{path.partition("=")[0].removeprefix("data."): path.partition("=")[2] for path in both})
    loaded = load_model(str(base))
    result = steer(loaded, splits, group_by="accent", sites="*.conv3", coefficients=2, controls=0, loader=Loader())
    assert [(point.line, point.value) for point in result.points] == [("high", 2.0), ("low", 2.0)]
    assert result.chosen.site == "net.acoustic_model.conv3" and "coefficient 2" in result.summary()


def test_an_effect_whose_interval_includes_zero_is_called_none(steered):
    result = SteeringResult.load(steered)
    assert result.chosen is not None
    for point in result.points:
        point.difference["wer"] = (-0.01, 0.02)
    text = result.summary()
    assert (
        "has no effect on high (WER " in text
        and "has no effect on low (WER " in text
        and "changes" not in text.split(". A")[0]
    )
    for point in result.points:
        point.difference["wer"] = (0.01, 0.02)
    assert "changes high (WER " in result.summary() and "no effect" not in result.summary()
