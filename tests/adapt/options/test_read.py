"""Options are understood or refused: none is ignored."""

import json
from pathlib import Path

import pytest
import yaml
from tone_speech import RATE, tones

from adapt.cli import COMMANDS
from adapt.commands.show import config_folder
from adapt.errors import InputError
from adapt.options.guesses import all_guesses
from adapt.options.kinds import kind_of
from adapt.options.known import TRAINER_GIVEN
from adapt.options.read import read_options

CONF = config_folder()
WITH_OPTIONS = sorted(set(COMMANDS) - {"show"})
GROUPS = [
    ("adapt", path.parent.name, path.stem)
    for group in ("augment", "data", "logger", "model", "penalty", "topographic", "trainer", "tuning")
    for path in sorted((CONF / group).glob("*.yaml"))
] + [
    (command, group, path.stem)
    for command, group in (("evaluate", "intervention"), ("introspect", "measure"))
    for path in sorted((CONF / group).glob("*.yaml"))
]

# Options that Hydra reads: numbers, switches, choices of a few words, keys of the data, and lists of these.
NAMES = """
action blend data.source_validation data.utterances density dtype factor forget group_by groups intervention.order
intervention.part intervention.to measure.baseline statistics weights format timestamps labels normalise written_like
test_time measure.targets curve learning_rate more minutes number criterion units decoding
measure.content measure.examples measure.group_by measure.groups measure.layout measure.method measure.part
measure.resample measure.sample_by measure.split_by measure.target measure.window method model.beams model.big
model.features model.inner model.layerdrop model.mask_time_prob model.max_tokens model.n_features model.normalisation
model.normalise model.task check monitor on_error part patience rates replay schedule split split_by strength
measure.steps topographic.start checkpoint_every
device mask seconds trainer.accelerator trainer.precision trainer.strategy warmup
tuning.layers tuning.method tuning.minutes tuning.options tuning.weight_share unfreeze weight_share
"""


def options(command, *words):
    return read_options(command, words, CONF)[0]


def notes(command, *words):
    return read_options(command, words, CONF)[1]


def refusal(command, *words):
    with pytest.raises(InputError) as caught:
        read_options(command, words, CONF)
    return str(caught.value)


@pytest.mark.parametrize("command", WITH_OPTIONS)
@pytest.mark.parametrize("sign", ["", "+", "++", "~"])
def test_a_key_that_nothing_reads_is_refused_in_every_command(command, sign):
    for key in ("bogus", "bogus.nested"):
        assert refusal(command, f"{sign}{key}=1").startswith(f"There is no option {key}.")
    for node in [name for name, value in yaml.safe_load((CONF / f"{command}.yaml").read_text()).items() if value == {}]:
        assert f"There is no option {node}.bogus" in refusal(command, f"{sign}{node}.bogus=1")


@pytest.mark.slow
@pytest.mark.parametrize(("command", "group", "choice"), GROUPS)
def test_a_key_that_nothing_reads_is_refused_within_every_choice(command, group, choice):
    if (group, choice) == ("measure", "probes"):
        return  # takes the options of its method, and checks them
    for word in (f"{group}.bogus=1", f"+{group}.bogus=1", f"++{group}.bogus.deeper=1", f"{group}={{bogus: 1}}"):
        assert refusal(command, f"{group}={choice}", word).startswith(f"There is no option {group}.bogus")


@pytest.mark.parametrize("node", ["loader", "optimizer", "trainer", "cache"])
def test_a_key_that_nothing_reads_is_refused_within_nodes(node):
    assert refusal("adapt", f"+{node}.bogus=1").startswith(f"There is no option {node}.bogus")


@pytest.mark.parametrize(
    ("command", "word", "near"),
    [
        ("adapt", "+optimizer.lrx=1", "optimizer.lr"),
        ("adapt", "trainer.max_epoch=1", "trainer.max_epochs"),
        ("adapt", "tunning=head", None),
        ("adapt", "warmpu=0.1", "warmup"),
        ("adapt", "loader.batch_second=3", "loader.batch_seconds"),
        ("evaluate", "model.lnguage=de", "model.language"),
        ("evaluate", "data.tset=a.jsonl", "data.test"),
        ("steer", "coeficients=[1]", "coefficients"),
        ("introspect", "measure.example=test", "measure.examples"),
        ("transcribe", "audi=a.wav", "audio"),
        ("translate", "txt=a", "text"),
        ("export", "otput=a", "output"),
    ],
)
def test_the_near_option_is_named(command, word, near):
    message = refusal(command, word)
    assert near is None or f"Did you mean {near}" in message


def test_an_option_of_another_choice_names_the_choice():
    assert "It is an option of tuning=bias, layers, lora, norm, peft." in refusal("adapt", "tuning.layers=3")
    assert "with augment=none. It is an option of augment=spec" in refusal("adapt", "augment.time_masks=3")
    assert refusal("evaluate", "+tuning=head").startswith("There is no option tuning")
    assert "innertune evaluate has no choice of tuning" in refusal("evaluate", "tuning=head")
    assert refusal("adapt", "tuning=lorra") == (
        "There is no tuning=lorra. Did you mean tuning=lora? Choices: auto, bias, full, head, layers, lora, mix, "
        "neurons, norm, peft, surgical."
    )


@pytest.mark.slow
def test_what_a_function_takes_may_be_given_with_or_without_a_plus():
    for sign in ("", "+", "++"):
        assert options("adapt", f"{sign}trainer.limit_train_batches=3") == ["++trainer.limit_train_batches=3"]
        assert options("adapt", f"{sign}optimizer.amsgrad=true") == ["++optimizer.amsgrad=true"]
        assert options("transcribe", f"{sign}loader.workers=2") == ["++loader.workers=2"]
        assert options("adapt", f"{sign}seed=3") == ["seed=3"]
    assert (
        options("adapt", "optimizer._target_=torch.optim.SGD", "optimizer.momentum=0.9")[1]
        == "++optimizer.momentum=0.9"
    )
    assert options("adapt", "tuning=lora", "tuning.options.init_lora_weights=gaussian")[1].startswith(
        "++tuning.options"
    )
    assert options("adapt", "rates={a: 1}", "+rates.head=0.1") == ["rates={a: 1}", "++rates.head=0.1"]
    assert options("adapt", "hydra.verbose=true", "~trainer.gradient_clip_val") == [
        "hydra.verbose=true",
        "~trainer.gradient_clip_val",
    ]
    assert (
        options("adapt", "tuning=mix", "+tuning@tuning.parts.rows=neurons", "tuning.parts.rows.top=0.1")[-1]
        == "tuning.parts.rows.top=0.1"
    )
    assert refusal("adapt", "~seed") == "innertune adapt reads seed, so it cannot be left out. Give a value."


@pytest.mark.parametrize("group", ["tuning", "model", "penalty", "data", "trainer"])
def test_a_group_cannot_be_left_out(group):
    assert f"innertune adapt reads {group}, so it cannot be left out. Give one of " in refusal("adapt", f"~{group}")


@pytest.mark.slow
def test_what_a_command_gives_the_trainer_itself_is_refused():
    for name in TRAINER_GIVEN:
        assert "sets trainer." in refusal("adapt", f"+trainer.{name}=false")
    source = (Path(__file__).parents[3] / "adapt" / "training" / "fit.py").read_text()
    call = source.partition("trainer = made_trainer(")[2].partition("\n    )")[0]
    assert {line.strip().partition("=")[0] for line in call.splitlines() if "=" in line} == TRAINER_GIVEN


@pytest.mark.parametrize(
    ("command", "given", "meant"),
    [
        ("adapt", "lr=0.1", "optimizer.lr=0.1"),
        ("adapt", "learning_rate=0.1", "optimizer.lr=0.1"),
        ("adapt", "+lr=0.1", "optimizer.lr=0.1"),
        ("pretrain", "epochs=3", "trainer.max_epochs=3"),
        ("adapt", "batch_size=4", "loader.batch_size=4"),
        ("adapt", "num_epochs=3", "trainer.max_epochs=3"),
        ("adapt", "output_dir=x", 'output="x"'),
        ("adapt", "precision=16-mixed", "++trainer.precision=16-mixed"),
        ("evaluate", "test=a.jsonl", 'data.test="a.jsonl"'),
        ("evaluate", "beams=3", "++model.beams=3"),
        ("transcribe", "language=de", '++model.language="de"'),
        ("translate", "prefix=>>deu<< ", '++model.prefix=">>deu<< "'),
        ("evaluate", "group_by=accent", "data.group_by=accent"),
        ("transcribe", "model=us-english", 'model.pretrained="us-english"'),
        ("attack", "model=us-english", 'model.pretrained="us-english"'),
        ("transcribe", "model=./my model", 'model.pretrained="./my model"'),
        ("translate", "model=Helsinki-NLP/opus", 'model.pretrained="Helsinki-NLP/opus"'),
        ("transcribe", "file=a.wav", 'audio="a.wav"'),
        ("adapt", "early_stopping=3", "patience=3"),
        ("adapt", "max_epochs=3", "trainer.max_epochs=3"),
        ("transcribe", "checkpoint=x", 'model.pretrained="x"'),
    ],
)
def test_guessed_names_are_understood_and_said(command, given, meant):
    assert options(command, given) == [meant]
    (note,) = notes(command, given)
    assert note.startswith(f"{given.lstrip('+')} stands for ") and note.endswith(f"={given.partition('=')[2]}.")


@pytest.mark.parametrize("name", ["val", "dev", "valid", "validation", "data.val", "eval"])
def test_names_of_the_validation_data(name):
    assert options("adapt", "train=a.jsonl", f"{name}=b.jsonl")[-1] == 'data.validation="b.jsonl"'


def test_a_file_is_no_choice_of_data():
    assert options("evaluate", "data=my test.jsonl") == ['data.test="my test.jsonl"']
    assert refusal("adapt", "data=x/train.jsonl").startswith(
        "data=x/train.jsonl: give files by data.train=x/train.jsonl"
    )
    assert refusal("adapt", "data=manifst").startswith("There is no data=manifst. Did you mean data=manifest?")
    assert refusal("adapt", "optimizer=sgd") == (
        "optimizer has options of its own: optimizer.lr, optimizer.weight_decay. Give one of these."
    )


def test_guesses_that_need_an_answer():
    assert options("adapt", "learning-rate=0.1") == options("adapt", "LR=0.1") == ["optimizer.lr=0.1"]
    assert options("adapt", "Seed=3") == ["seed=3"]
    assert "device=cuda" in refusal("adapt", "gpu=1")
    assert "tuning=layers" in refusal("adapt", "layers=3")
    assert "Give the full name" in refusal("adapt", "tuning=lora", "topographic=grid", "strength=1", "penalty=l2sp")
    assert refusal("adapt", "--lr=0.1") == "There is no '--lr'. Options are written without dashes: lr=0.1."
    assert "Did you mean audio=a.wav?" in refusal("transcribe", "a.wav")
    assert "innertune compare has no choice of model" in refusal("compare", "model=us-english")


@pytest.mark.slow
def test_every_guess_stands_for_an_option_that_some_command_has():
    names = {name for ours in all_guesses().values() for name in ours}
    commands = (("adapt", "data=manifest", "tuning=lora"), ("transcribe",), ("translate",), ("correct",), ("compare",))
    assert len(names) > 20 and len(all_guesses()) > 80
    for name in names:
        taken = 0
        for command, *more in commands:
            try:
                taken += options(command, *more, f"{name}=1")[-1].lstrip("+").startswith(f"{name}=")
            except InputError:
                continue
        assert taken, name


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    speech = {"audio_filepath": "a.wav", "text": "a"}
    Path("speech.jsonl").write_text(json.dumps(speech) + "\n")
    Path("pairs.jsonl").write_text(json.dumps({"source": "a", "target": "b"}) + "\n")
    Path("pairs.tsv").write_text("source\ttarget\na\tb\n")
    Path("a.en").write_text("a\n")
    Path("a.de").write_text("b\n")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("words", "choice"),
    [
        (["adapt", "data.train=speech.jsonl"], "manifest"),
        (["adapt", "train=speech.jsonl", "test=speech.jsonl"], "manifest"),
        (["adapt", "data.train=pairs.jsonl"], "pairs"),
        (["adapt", "data.train=pairs.tsv"], "pairs"),
        (["adapt", "data.train=[a.en,a.de]"], "pairs"),
        (["adapt", "data.train=missing.jsonl"], "manifest"),
        (["adapt", "data.train=missing.jsonl", "model.pretrained=weather-en-de"], "pairs"),
        (["adapt", "data.train=missing.jsonl", "model=hf_translation"], "pairs"),
        (["evaluate", "data.test=pairs.jsonl"], "pairs"),
        (["evaluate", "data.test=[a.en,a.de]"], "pairs"),
        (["evaluate", "data.test=missing", "model=weather-en-de"], "pairs"),
        (["introspect", "data.test=speech.jsonl"], "manifest"),
        (["compare", "before=weather-en-de", "after=x", "data.test=y"], "pairs"),
        (["choose", "data.train=speech.jsonl"], "manifest"),
        (["steer", "data.train=speech.jsonl", "data.test=speech.jsonl"], "manifest"),
        (["adapt", "data.train=600"], None),
        (["adapt", "data=accents", "data.train=3"], None),
        (["evaluate", "data.test=speech.jsonl"], None),
        (["adapt", "data=manifest", "data.train=pairs.jsonl"], None),
        (["adapt", "-m", "data.train=10,20"], None),
        (["adapt", "experiment=us_to_scottish", "data.train=10"], None),
    ],
)
def test_data_of_one_s_own_choose_how_they_are_read(words, choice):
    command, *given = words
    found = [word for word in options(command, *given) if word.startswith("data=") and word not in given]
    assert found == ([f"data={choice}"] if choice else [])
    said = [note for note in notes(command, *given) if note.startswith("data=")]
    assert len(said) == (1 if choice else 0)


@pytest.mark.slow
def test_a_model_of_another_family_is_loaded_by_its_own(whisper, marian, wav2vec2, base):
    for path in (whisper, marian, wav2vec2, "weather-en-de"):
        for command in ("adapt", "pretrain"):
            assert options(command, f"model.pretrained={path}")[0] == "model=pretrained"
    assert options("adapt", f"model.pretrained={base}")[0] != "model=pretrained"
    assert options("adapt", "model=hf_ctc", f"model.pretrained={wav2vec2}")[0] == "model=hf_ctc"


def test_the_user_s_own_files_are_checked_too(tmp_path):
    folder = tmp_path / "conf"
    (folder / "experiment").mkdir(parents=True)
    own = folder / "experiment" / "mine.yaml"
    words = ["--config-dir", str(folder), "experiment=mine"]
    own.write_text("# @package _global_\nmy_lr: 0.1\noptimizer:\n  lr: ${my_lr}\n  amsgrad: true\n")
    assert options("adapt", *words, "my_lr=0.2") == [*words[:2], "experiment=mine", "my_lr=0.2"]
    own.write_text("# @package _global_\nlearning_rate: 0.1\n")
    assert refusal("adapt", *words).startswith("There is no option learning_rate.")
    own.write_text("# @package _global_\noptimizer:\n  lrx: 0.1\n")
    assert refusal("adapt", *words).startswith("There is no option optimizer.lrx. Did you mean optimizer.lr?")
    assert "experiment=yours. " in refusal("adapt", *words[:2], "experiment=yours")


def test_several_choices_need_a_multirun():
    assert "add -m" in refusal("adapt", "tuning=full,head")
    assert "tuning.layers with tuning=full" in refusal("adapt", "-m", "tuning=layers,full", "tuning.layers=3")
    assert options("adapt", "-m", "tuning=full,head,layers") == ["-m", "tuning=full,head,layers"]
    assert options("adapt", "-m", "seed=0,1", "warmup=range(0,2)", "output=a b") == [
        "-m",
        "seed=0,1",
        "warmup=range(0,2)",
        'output="a b"',
        'hydra.sweep.dir="a b"',
    ]


def test_every_option_with_a_text_is_classified():
    """A new option must be listed: is it a text, a path, or one of a few names and numbers?"""
    missing = []
    for path in sorted(CONF.rglob("*.yaml")):
        group = path.parent.name if path.parent != CONF else ""
        if group == "experiment":
            continue
        for key, value in (yaml.safe_load(path.read_text()) or {}).items():
            name = f"{group}.{key}" if group else key
            open_value = value is None or isinstance(value, str)
            if not open_value or key.startswith("_") or key == "defaults" or str(value).startswith("${"):
                continue
            command = path.stem if not group else "adapt"
            if kind_of(command, name, value) == "hydra" and name not in NAMES.split():
                missing.append(f"{path.name}: {name}")
    assert missing == [], "Add them to adapt/options/kinds.py if they are texts or paths, otherwise to NAMES."


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "my take (1).wav",
        "été.wav",
        "录音.wav",
        "a=b,c.wav",
        "it's.wav",
        "[1].wav",
        "$x ${y}.wav",
        "50% #1.wav",
        "back\\slash.wav",
        "trailing .wav",
        "😀.wav",
        "-dash.wav",
        "null",
        "true",
        "1e3",
        "[a,b]",
        "{a: b}.wav",
    ],
)
def test_odd_file_names_are_transcribed(name, tmp_path, monkeypatch, innertune, base, capsys):
    import soundfile

    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / name, tones("abc cad"), RATE, format="WAV")
    innertune("transcribe", *options("transcribe", f"model={base}", f"audio={name}"))
    assert capsys.readouterr().out.strip() == "abc cad"
