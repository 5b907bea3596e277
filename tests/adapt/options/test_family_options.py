"""Options of a model's family are taken by every command that loads the model."""

import json

import pytest
import yaml
from tone_speech import write_tones

from adapt.build import build
from adapt.cli import COMMANDS
from adapt.commands.show import config_folder
from adapt.errors import InputError
from adapt.options.read import read_options

CONF = config_folder()
LOADING = [
    command
    for command in sorted(set(COMMANDS) - {"show"})
    if any("model" in entry for entry in yaml.safe_load((CONF / f"{command}.yaml").read_text())["defaults"])
]
OPTIONS = {
    "whisper": ["model.normalise=true", "model.beams=2", "model.language=de", "model.task=translate"],
    "marian": ["model.prefix=>>deu<< ", "model.beams=2", "model.max_tokens=9", "model.tokenize=char"],
    "wav2vec2": ["model.mask_time_prob=0.1"],
}


def model_of(command, *words):
    from hydra import compose, initialize_config_dir

    options, _ = read_options(command, words, CONF)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return build(compose(command, options).model).model


@pytest.mark.parametrize("command", LOADING)
@pytest.mark.parametrize("family", sorted(OPTIONS))
def test_every_command_loads_a_model_with_the_options_of_its_family(command, family, request):
    model = model_of(command, f"model.pretrained={request.getfixturevalue(family)}", *OPTIONS[family])
    if family == "whisper":
        used = model.generation_options
        assert (used.normalise, used.beams, used.language, used.task) == (True, 2, "de", "translate")
    elif family == "marian":
        used = model.translation_options
        assert (used.prefix, used.beams, used.max_tokens, used.tokenize) == (">>deu<< ", 2, 9, "char")


@pytest.mark.parametrize("command", LOADING)
def test_an_option_of_another_family_is_refused_with_a_sentence(command, marian, base):
    with pytest.raises(InputError, match=r"model\.normalise=True: '.*' is a model of the family hf_translation, which"):
        model_of(command, f"model.pretrained={marian}", "model.normalise=true")
    if command not in ("adapt", "pretrain"):
        with pytest.raises(InputError, match=r"the family wav2letter, which has no such option\. Its options: labels"):
            model_of(command, f"model.pretrained={base}", "model.beams=2")


def test_answers_follow_the_options(whisper, innertune, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    manifest = write_tones(tmp_path, "test", 2, seed=0)
    words = [f"model={whisper}", "model.normalise=true", "model.language=de"]
    innertune("transcribe", *read_options("transcribe", [*words, f"audio={manifest}"], CONF)[0])
    texts = [line.partition("\t")[2] for line in capsys.readouterr().out.splitlines()]
    assert len(texts) == 2 and all(text == text.lower() for text in texts)
    words += [f"test={manifest}", "output=evaluated"]
    run = innertune("evaluate", *read_options("evaluate", words, CONF)[0])
    assert [json.loads(line)["pred_text"] for line in (run / "transcripts.jsonl").read_text().splitlines()] == texts
    pair = [f"before={whisper}", f"after={whisper}", "language=de", "model.normalise=true", f"test={manifest}"]
    compared = innertune("compare", *read_options("compare", [*pair, "output=compared"], CONF)[0])
    assert json.loads((compared / "card.json").read_text())["model"]["generation"]["normalise"] is True
    with pytest.raises(InputError, match=r"prefix=a: '.*' has no such option\. Its options: language, task"):
        innertune("compare", *read_options("compare", [*pair, "model.prefix=a", "output=other"], CONF)[0])


def test_two_manifests_for_one_option(base, speech, innertune, tmp_path):
    both = f"data.test=[{speech['low_test']},{speech['high_test']}]"
    words = read_options("evaluate", [f"model={base}", both, f"output={tmp_path}"], CONF)[0]
    with pytest.raises(InputError, match=r"^data\.test must be one manifest, a \.jsonl file; got a list of 2\. Join"):
        innertune("evaluate", *words)
