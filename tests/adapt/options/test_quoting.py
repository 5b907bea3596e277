"""Texts and paths reach the configuration as they were written."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from adapt.build import build
from adapt.commands.show import config_folder
from adapt.errors import InputError
from adapt.options.quoting import for_hydra, quoted, split_list
from adapt.options.read import read_options
from adapt.run import _as_given

PRINTABLE = st.characters(exclude_characters="\0", exclude_categories=("Cs", "Cc"))
TRICKY = st.text("ab'\"\\,:;={}()[]$#~!? \t%@&*-1éß录😀…")
TEXTS = st.one_of(st.text(PRINTABLE), TRICKY).filter(lambda text: text not in ("null", "???"))


def composed(command, *words):
    """The configuration that a command line gives, resolved."""
    options, _ = read_options(command, words, config_folder())
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return OmegaConf.to_container(compose(command, [word for word in options if word != "-m"]), resolve=False)


def read(word):
    """What Hydra and OmegaConf make of one override."""
    override = OverridesParser.create().parse_override(word)
    return OmegaConf.to_container(OmegaConf.create({"a": override.value()}), resolve=True)["a"]


@given(TEXTS)
@example("It costs ${5} today.")
@example("\\${a} \\\\${b}\\")
@example("${now:%Y}")
@example("a \\' b \\")
@example("'quoted'")
@example('"quoted"')
@example("[a, b]")
@example("two\nlines")
@example("")
def test_any_text_is_taken_as_it_is(text):
    assert read(f"a={for_hydra('a', text, 'text', True, False)}") == text
    assert read(f"a={for_hydra('a', text, 'text', True, True)}") == text  # a text is never split


@given(TEXTS)
@example("${5}\\")
@example("\\\\${5}")
def test_a_function_gets_the_text_as_it_is(text):
    node = OmegaConf.create({"_target_": "builtins.dict"})
    OmegaConf.update(node, "text", OverridesParser.create().parse_override(f"a={quoted(text)}").value())
    assert build(node) == {"text": text}
    assert build(OmegaConf.create({"node": node}).node)["text"] == text


@given(st.lists(TEXTS.filter(lambda text: text[:1] not in tuple("'\"") and text.strip() == text), min_size=1))
def test_items_of_a_list_may_be_quoted(items):
    items = [item.replace("'", " ").replace("\\", "/") for item in items]
    written = "[" + ",".join(f"'{item}'" for item in items) + "]"
    assert read(f"a={for_hydra('a', written, 'texts', False, False)}") == items


@given(TEXTS)
def test_the_command_of_a_card_has_the_words_that_were_given(text):
    assert _as_given(OmegaConf.create([f"title={quoted(text)}"])[0]) == f"title={text}"


PATHS = [
    "my take (1).flac", "été.wav", "录音.wav", "a=b,c.flac", "it's.flac", "[1].wav", "50% #1.wav", "$x.wav",
    "${now:%Y} x.wav", "back\\slash.wav", "trailing ", " leading", "😀.wav", "-dash.wav", "true", "1e3", "2024", "007",
    "a:b.wav", "{a}.wav", "a;b.wav", "!x.wav", "*.wav", 'a"b".wav', "'a'.wav", "off", "~tilde?.wav",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_taken_as_it_is(path):
    assert read(f"a={for_hydra('a', path, 'path', True, False)}") == path
    assert read(f"a={for_hydra('a', path, 'paths', True, False)}") == path
    quotes = "'" if '"' in path else '"'
    assert read(f"a={for_hydra('a', f'[b, {quotes}{path}{quotes}]', 'paths', True, False)}") == ["b", path]


def test_names_that_mean_something_to_hydra(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert read("a=" + for_hydra("a", "~/x y.wav", "path", True, False)) == "/home/ann/x y.wav"
    assert read("a=" + for_hydra("a", "null", "path", True, False)) is None
    assert read("a=" + for_hydra("a", "null", "path", False, False)) == "null"
    assert read("a=" + for_hydra("a", "'my file'", "path", False, False)) == "my file"  # as Hydra's users write it
    interpolated = for_hydra("data.source_test", "${data.test}", "paths", True, False)
    assert OmegaConf.create({"data": {"test": "t"}, "a": interpolated.strip('"')}).a == "t"
    with pytest.raises(InputError, match=r"audio is empty"):
        for_hydra("audio", "", "paths", False, False)


def test_quotes_and_brackets_that_are_part_of_a_file_s_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("'a'", "[a,b]", "${x}", "a,b"):
        (tmp_path / name).touch()
        assert read("a=" + for_hydra("a", name, "paths", True, True)) == name


def test_several_values_are_split_only_in_a_multirun():
    for value, parts in (("a b,c", ["a b", "c"]), ("'a,b',c", ["a,b", "c"]), ("last 2,first 1", ["last 2", "first 1"])):
        word = f"a={for_hydra('a', value, 'path', True, True)}"
        swept = OverridesParser.create().parse_override(word)
        assert [read(f"a={one}") for one in swept.sweep_string_iterator()] == parts
        assert read("a=" + for_hydra("a", value, "path", True, False)) == value
    with pytest.raises(InputError, match=r"add -m; for a list, write a=\[8,9\]"):
        for_hydra("a", "8,9", "hydra", True, False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("3", 3), ("[8,9]", [8, 9]), ("last 2", "last 2"), ("['*.conv', x]", ["*.conv", "x"]), ("{a: 1}", {"a": 1}),
        ("ä", "ä"), ("[ä,it's,3]", ["ä", "it's", 3]), ("[phoneme:ʃ]", ["phoneme:ʃ"]), ("null", None), ("1e-3", 0.001),
    ],
)  # fmt: skip
def test_other_options_are_hydras_and_what_it_cannot_read_is_a_text(value, expected):
    assert (
        OverridesParser.create().parse_override(f"a={for_hydra('a', value, 'hydra', True, False)}").value() == expected
    )


def test_a_list_is_split_at_commas_outside_quotes_and_brackets():
    assert split_list("a, 'b, c',[d,e], it's,f(g,h)") == ["a", "'b, c'", "[d,e]", "it's", "f(g,h)"]
    assert split_list("") == [""]


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("adapt", "output", "2024"), ("adapt", "title", "a: ${b}, 'c'"), ("translate", "text", "It costs ${5} today."),
        ("transcribe", "audio", "it's (1).flac"), ("correct", "target", "[x]"), ("correct", "text", "1e3"),
        ("correct", "audio", "a=b,c.flac"), ("export", "output", "null"), ("apply", "to", "my model"),
        ("remove", "from", "a,b"), ("sites", "json", "true"), ("compare", "before", "été"),
        ("pretrain", "output", "#1"),
        ("steer", "title", "it's"), ("choose", "choose", "my scores (1).safetensors"), ("evaluate", "data.test", "1e3"),
        ("corrections", "target", "my file.safetensors"), ("introspect", "title", "50 % {x}"),
    ],
)  # fmt: skip
def test_every_command_takes_them_as_they_are(command, option, value):
    node = composed(command, f"{option}={value}")
    for part in option.split("."):
        node = node[part]
    assert OmegaConf.create({"a": node}).a == value


def test_a_model_s_prefix_keeps_its_spaces():
    for words in (["model=hf_translation", "model.prefix=>>deu<< "], ["model.pretrained=x", "model.prefix=>>deu<< "]):
        assert composed("translate", *words)["model"]["prefix"] == ">>deu<< "


def test_interpolations_of_an_output_folder_still_work():
    output = composed("adapt", "output=runs (1)/${seed}")["output"]
    assert OmegaConf.create({"seed": 3, "output": output}).output == "runs (1)/3"


@pytest.mark.parametrize(("kind", "advice"), [("text", "encoding of your terminal"), ("path", "Rename the file")])
def test_what_is_not_utf_8_is_refused(kind, advice):
    for value in ("a\udcff", "\ud83d.wav"):
        with pytest.raises(InputError, match=f"is not UTF-8. .*{advice}"):
            for_hydra("a", value, kind, True, False)
