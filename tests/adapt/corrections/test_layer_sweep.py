"""Choosing the layer of corrections by trying: the rule, the candidates, and a sweep as a user meets it."""

import json
import logging
from dataclasses import replace

import pytest

from adapt.corrections.layer_sweep import LayerTrial, choose_layer, sweep_layers
from adapt.corrections.layers import candidate_layers, correction_layer, evenly_spaced
from adapt.data.loader import Loader
from adapt.data.synthetic.domains import domains
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples

USUAL = LayerTrial("usual", True, 10, 0.40, 0.98)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([LayerTrial("better", False, 10, 0.39, 0.98)], "better"),
        ([LayerTrial("as good", False, 10, 0.40, 1.0)], "usual"),
        ([LayerTrial("fixes one less", False, 9, 0.39, 0.97)], "fixes one less"),
        ([LayerTrial("fixes too few", False, 8, 0.10, 1.0)], "usual"),
        ([LayerTrial("changes others", False, 10, 0.10, 0.96)], "usual"),
        ([LayerTrial("second", False, 10, 0.38, 1.0), LayerTrial("best", False, 10, 0.37, 0.97)], "best"),
    ],
)
def test_the_best_of_those_that_fix_and_spare_is_chosen(others, expected):
    for tried in ([USUAL, *others], [*others, USUAL]):
        assert choose_layer(tried).site == expected


def test_where_none_spares_enough_it_is_the_one_that_spares_most():
    harmful = [
        replace(USUAL, unchanged=0.9),
        LayerTrial("less", False, 10, 0.5, 0.95),
        LayerTrial("few", False, 3, 0.5, 1.0),
    ]
    assert choose_layer(harmful).site == "less"
    assert choose_layer([LayerTrial("alike", False, 10, 0.40, 0.9), replace(USUAL, unchanged=0.9)]).default


def test_of_some_metrics_more_is_better():
    tried = [
        replace(USUAL, after=50.0),
        LayerTrial("more", False, 10, 60.0, 1.0),
        LayerTrial("less", False, 10, 40.0, 1.0),
    ]
    assert choose_layer(tried, higher=True).site == "more"


@pytest.mark.parametrize("count", [1, 4, 6, 11, 24])
def test_what_is_tried_goes_from_first_to_last_with_the_usual_one_in_it(count):
    for keep in range(count):
        places = evenly_spaced(range(count), 6, keep)
        assert keep in places and places == sorted(set(places)) and len(places) == min(count, 6)
        assert (places[0], places[-1]) == (0, count - 1)


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("wav2vec2", ["projection", "0.feed_forward.output_dense", "1.feed_forward.output_dense"]),
        ("whisper", ["0.self_attn.out_proj", "1.self_attn.out_proj", "1.encoder_attn.out_proj", "1.fc2"]),
        ("marian", ["0.self_attn.out_proj", "1.self_attn.out_proj", "1.encoder_attn.out_proj", "1.fc2"]),
    ],
)
def test_each_familys_candidates(request, family, names):
    model = load_model(str(request.getfixturevalue(family))).model
    layers = candidate_layers(model)
    assert correction_layer(model) in layers
    assert [layer.site.name.endswith(name) for layer, name in zip(layers, names, strict=True)] == [True] * len(names)
    chosen = candidate_layers(model, ["*.1.*out*"])
    assert correction_layer(model) in chosen and len(chosen) < len(model.sites)
    with pytest.raises(InputError, match=r"site=\*nowhere matches no site"):
        candidate_layers(model, ["*.1.*out*", "*nowhere"])


@pytest.mark.slow
def test_a_sweep_measures_and_leaves_the_model_as_it_was():
    model = load_model("weather-en-de").model
    model.set_translation(replace(model.translation_options, max_tokens=48))
    given = domains(train=0, validation=0, test=0, source_test=16, source_train=80)
    corrections = [
        replace(pair, target=pair.target.replace("morgen", "am Tag danach").replace("heute", "an diesem Tag"))
        for pair in domains(train=0, validation=0, test=0, source_test=0, source_train=400).source_train[200:]
        if "morgen" in pair.target or "heute" in pair.target
    ][:8]
    layers = candidate_layers(model, ["*.decoder.layers.1.encoder_attn.out_proj"])
    bare = decode_examples(model, model.task, given.source_test, Loader())
    found = sweep_layers(model, corrections, given.source_train, layers)
    assert decode_examples(model, model.task, given.source_test, Loader()) == bare
    assert [one.site for one in found.trials] == [layer.site.name for layer in layers] and len(layers) == 2
    assert 1 <= found.corrections <= 4 and found.others == 4 and found.protected == 40
    assert sum(one.default for one in found.trials) == 1 and found.chosen in found.trials and found.metric.higher
    assert max(one.fixed for one in found.trials) >= 1 and all(0 <= one.unchanged <= 1 for one in found.trials)
    assert sweep_layers(model, corrections, given.source_train, layers) == found
    with pytest.raises(InputError, match="needs at least 4 corrections .* There are 3"):
        sweep_layers(model, corrections[:3], given.source_train, layers)
    right = [replace(pair, target=text) for pair, text in zip(given.source_test[:4], bare[:4], strict=True)]
    with pytest.raises(InputError, match="the model's answers are right"):
        sweep_layers(model, right, given.source_train, layers)


def test_corrections_are_made_at_the_layer_that_a_sweep_chose(base, speech, innertune, caplog, tmp_path):
    rows = [json.loads(line) for line in speech["high_train"].read_text().splitlines()[:8]]
    for row in rows:
        row["audio_filepath"] = str(speech["high_train"].parent / row["audio_filepath"])
    file, few = tmp_path / "corrections.jsonl", tmp_path / "few.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    few.write_text("\n".join(map(json.dumps, rows[:2])) + "\n")
    store = tmp_path / "corrections.db"
    options = [f"model.pretrained={base}", f"corrections={store}", f"protected={speech['low_test']}", "strength=30"]
    for more, message in (
        (
            [f"audio={rows[0]['audio_filepath']}", "text=a", "site=sweep"],
            "compares layers on many corrections. Give file=",
        ),
        ([f"file={few}", "site=sweep"], "needs at least 4 corrections .* There are 2"),
        ([f"file={file}", "site=['*nowhere']"], "matches no site that can hold corrections"),
    ):
        with pytest.raises(InputError, match=message):
            innertune("correct", *options, *more)
        assert not store.exists()
    caplog.clear()
    with caplog.at_level(logging.INFO):
        innertune("correct", *options, f"file={file}", "site=['*.conv4']")
    said = "\n".join(record.getMessage() for record in caplog.records)
    (chosen,) = [line.split()[0] for line in said.splitlines() if line.endswith("chosen")]
    assert "corrections at each of 2 layers; WER of 4 other utterances" in said and said.count("default") >= 1
    assert f"stores corrections in {store}, at {chosen}." in said and "8 corrections: " in said
    with pytest.raises(InputError, match=f"has corrections already, at '{chosen}'. Leave out the site"):
        innertune("correct", *options, f"file={file}", "site=sweep")
