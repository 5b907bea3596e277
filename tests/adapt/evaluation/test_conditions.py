"""The conditions of an evaluation: the right neurons, controls of the same size, an unmodified model afterwards."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from tone_speech import write_tones

from adapt.data.loader import Loader
from adapt.data.manifest import Splits, Utterance, read_manifest
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.evaluation.conditions import ablate, saved
from adapt.evaluation.sweep import measure
from adapt.introspect.scores import MEASURES
from adapt.metrics import error_rates
from adapt.models.checkpoint import load_model
from adapt.tuning.neurons import neurons
from interventions.neurons import Scores
from interventions.rows import merge_rows
from interventions.steer import Steer
from interventions.store import save


@pytest.fixture(scope="module")
def loaded(base):
    return load_model(str(base))


def test_neurons_are_those_with_the_longest_weights_and_controls_are_as_many_of_each_site(loaded):
    conditions = ablate(loaded, Splits(), Loader(), sites="*.conv[0-3]", sizes=[0.05, 7], controls=2)
    assert [(condition.line, condition.value) for condition in conditions] == [
        (line, value) for line in ("top by weight", "random 0", "random 1") for value in (6, 7)
    ]
    norms = {}
    for number in range(4):
        conv = loaded.model.get_submodule(f"net.acoustic_model.conv{number}")
        sizes = torch.cat([conv.weight.flatten(1), conv.bias[:, None]], 1).norm(dim=1)
        sizes = sizes / sizes.square().mean().sqrt()  # relative to their layer
        norms |= {(f"net.acoustic_model.conv{number}", unit): size.item() for unit, size in enumerate(sizes)}
    own = conditions[1].interventions[0].neurons
    assert set(own) == set(sorted(norms, key=norms.get)[-7:])
    for control in (conditions[3], conditions[5]):
        assert [len(units) for units in control.interventions[0].neurons.units] == [len(units) for units in own.units]
        assert set(control.interventions[0].neurons) != set(own)


def test_the_output_layer_is_left_out_unless_it_is_all_there_is(loaded):
    output = loaded.model.sites[-1].name
    (condition,) = ablate(loaded, Splits(), Loader(), sizes=[1.0], controls=0)
    assert output not in {site for site, _ in condition.interventions[0].neurons}
    (condition,) = ablate(loaded, Splits(), Loader(), sites=output, sizes=[1.0], controls=0)
    assert {site for site, _ in condition.interventions[0].neurons} == {output}


@pytest.mark.parametrize("to", ["mean", "resample"])
def test_means_are_of_the_data_without_padding(loaded, speech, to):
    examples = tuple(read_manifest(speech["low_validation"])[0])
    with pytest.raises(InputError, match=f"^to={to} is measured on validation or training examples"):
        ablate(loaded, Splits(), Loader(), to=to)
    wide, narrow = (
        ablate(loaded, Splits(validation=examples), Loader(batch_seconds=seconds), sites="*.conv3", to=to, controls=0)[
            0
        ]
        for seconds in (100.0, 0.1)
    )
    one, other = (condition.interventions[0].reference["net.acoustic_model.conv3"] for condition in (wide, narrow))
    assert one.shape == other.shape and one.abs().sum() > 0
    if to == "mean":
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_scores_from_a_file(loaded, tmp_path):
    site = loaded.model.sites[2]
    Scores({site: torch.arange(site.units).float()}).save(tmp_path / "mine.safetensors")
    options = {"choose": str(tmp_path / "mine.safetensors"), "sizes": [2], "controls": 0}
    (top,) = ablate(loaded, Splits(), Loader(), **options)
    (bottom,) = ablate(loaded, Splits(), Loader(), **options, order="bottom")
    assert list(top.interventions[0].neurons) == [(site.name, site.units - 2), (site.name, site.units - 1)]
    assert list(bottom.interventions[0].neurons) == [(site.name, 0), (site.name, 1)]
    assert top.line == "top by mine"
    for options, says in (
        ({"choose": "gone.safetensors"}, "^choose=gone.safetensors: .*no such measure"),
        ({"sizes": [1.5]}, "^sizes.*1.5"),
        ({"sizes": "many"}, "^sizes must be a number or a list of numbers, got 'many'"),
        ({"order": "middle"}, "^order must be one of top, bottom; got 'middle'"),
        ({"to": "one"}, "^to must be one of zero, mean, resample; got 'one'"),
        ({"controls": -1}, "^controls must be a number of controls"),
        ({"sites": "none"}, "^sites: No site matches 'none'"),
        ({"choose": str(tmp_path / "mine.safetensors"), "sites": "*.conv5"}, "No site matches"),
        ({"choose": "rgn"}, "^choose=rgn is measured on training examples"),
    ):
        with pytest.raises(InputError, match=says):
            ablate(loaded, Splits(), Loader(), **options)


def test_every_measure_chooses_the_same_neurons_everywhere(loaded, speech):
    """In ablations, tunings and `innertune choose`."""
    parts = [tuple(read_manifest(speech[f"{accent}_validation"])[0][:3]) for accent in ("low", "high")]
    splits = Splits(train=parts[0], source_train=parts[1])
    for name in ("random", *MEASURES):
        options = {"choose": name, "sites": "*.conv[0-3]", "seed": 3}
        (condition,) = ablate(loaded, splits, Loader(), sizes=[6], controls=0, examples=2, **options)
        model = copy.deepcopy(loaded.model)
        neurons(model, top=6, examples=2, data=TuningData(*parts, Loader()), **options)
        rows = {name.removesuffix(".weight"): units for name, units in merge_rows(model).items() if "weight" in name}
        trained = {(site, unit) for site, units in rows.items() for unit in units}
        assert trained == set(condition.interventions[0].neurons)


def test_a_single_amount_is_a_list_of_one_and_a_files_name_makes_no_control(loaded, tmp_path):
    site = loaded.model.sites[2]
    Scores({site: torch.arange(site.units).float()}).save(tmp_path / "random.safetensors")
    conditions = ablate(loaded, Splits(), Loader(), sizes=3, choose=str(tmp_path / "random.safetensors"))
    assert [(condition.line, condition.value, condition.control) for condition in conditions] == [
        ("top by random", 3, False), ("random 0", 3, True)
    ]  # fmt: skip


def test_files_that_are_on_together_may_name_the_same_site(loaded, tmp_path):
    site, paths = loaded.model.sites[2], []
    for number in range(2):
        paths.append(str(tmp_path / f"{number}.safetensors"))
        save(paths[-1], {site.name: Steer(site, torch.eye(site.units)[number])}, loaded.fingerprint)
    both, strong, control, other = saved(
        loaded, Splits(), Loader(), paths, names=site.name, strengths=[1, 2], controls=1
    )
    assert [one.vector.argmax().item() for one in both.interventions] == [0, 1] and not both.control
    assert [one.strength for one in strong.interventions] == [2, 2]
    first, second = (one.vector for one in control.interventions)
    assert control.control and not torch.equal(first, second)  # different draws, each of its own length
    assert first.norm() == pytest.approx(1) and second.norm() == pytest.approx(1)
    assert torch.equal(other.interventions[0].vector, first)
    (one,) = saved(loaded, Splits(), Loader(), paths[0], strengths=3)
    assert one.value == 3.0


def test_sites_that_another_model_has_are_named(loaded, tmp_path):
    site, path = loaded.model.sites[2], str(tmp_path / "a.safetensors")
    for wrong, says in (
        (replace(site, name="net.encoder.fc1"), "a.safetensors: The model has no module 'net.encoder.fc1'"),
        (replace(site, units=3), "interventions, 1: .*conv2' returned .*expected a batch with 3 units"),
    ):
        save(path, [Steer(wrong, torch.ones(wrong.units))], "another")
        with pytest.raises(InputError, match=says):
            (condition,) = saved(loaded, Splits(), Loader(), path, any_model=True)
            examples = [Utterance(write_tones(tmp_path, "x", 1).parent / "x" / "000.wav", "abc")]
            measure(
                loaded.model,
                condition.interventions,
                examples,
                error_rates(["a"], ["b"]),
                Loader(),
                "target",
                condition.line,
                condition.value,
            )


def test_the_summary_is_of_one_set_and_its_control(innertune, base, speech, tmp_path):
    """The best of target and source together would always be on the easier set."""
    run = innertune(
        "evaluate", f"model.pretrained={base}", f"data.test={speech['high_test']}", "intervention=ablate",
        f"data.source_test={speech['low_test']}", "intervention.sizes=[0.02,0.05]", f"output={tmp_path / 'run'}",
    )  # fmt: skip
    points = json.loads((run / "metrics.json").read_text())["points"]
    target = [p["quality"]["wer"] for p in points if p["chart"] == "target" and not p["control"]]
    page = (run / "sweep.html").read_text()
    assert "On the target set, the unmodified model" in page and f"has {100 * min(target):.1f}" in page
    assert "chosen on the same 12 examples" in page and "; the control has" in page


def test_a_sweep_is_drawn_and_leaves_the_model_as_it_was(innertune, base, speech, tmp_path):
    run = innertune(
        "evaluate", f"model.pretrained={base}", f"data.test={speech['low_test']}", "intervention=ablate",
        "intervention.sizes=[0.02,1.0]", f"output={tmp_path / 'run'}",
    )  # fmt: skip
    metrics = json.loads((run / "metrics.json").read_text())
    by_line = {(p["line"], p["value"]): p["quality"]["wer"] for p in metrics["points"]}
    assert len(by_line) == 4 and {p["control"] for p in metrics["points"]} == {True, False}
    everything = [wer for (line, value), wer in by_line.items() if value > 100]
    assert (
        len(set(everything)) == 1 and everything[0] > metrics["target"]["wer"]
    )  # all are ablated, and nothing is left
    page = (run / "sweep.html").read_text()
    assert page.count('<svg class="curves"') == 1 and "number of neurons" in page and "top by weight" in page
    plain = innertune(
        "evaluate", f"model.pretrained={base}", f"data.test={speech['low_test']}", f"output={tmp_path / 'plain'}"
    )
    assert json.loads((plain / "metrics.json").read_text())["target"]["wer"] == metrics["target"]["wer"]
    assert not (plain / "sweep.html").exists()
    innertune(
        "evaluate", f"model.pretrained={base}", f"data.test={speech['low_test']}", f"output={run}", "overwrite=true"
    )
    assert not (run / "sweep.html").exists()  # it belonged to the run that was overwritten
