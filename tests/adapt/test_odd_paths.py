"""Names that no file can have, and things that are not files: each is one sentence, wherever a path is given."""

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from adapt import files
from adapt.errors import InputError
from interventions.files import FileError

ROOT = Path(__file__).parent.parent.parent


def long_name(folder: Path) -> Path:
    return folder / f"{'x' * 300}.jsonl"


def long_path(folder: Path) -> Path:
    return folder / ("x/" * 2500)


def nul(folder: Path) -> Path:
    return folder / "a\0b.jsonl"


def loop(folder: Path) -> Path:
    (folder / "loop.jsonl").symlink_to(folder / "loop.jsonl")
    return folder / "loop.jsonl"


def dangling(folder: Path) -> Path:
    (folder / "link.jsonl").symlink_to(folder / "nowhere")
    return folder / "link.jsonl"


def not_utf_8(folder: Path) -> Path:
    path = os.fsencode(folder) + b"/\xff.jsonl"
    with open(path, "w") as file:
        file.write("x")
    return Path(os.fsdecode(path))


def half_a_character(folder: Path) -> Path:
    return folder / "\ud83d.jsonl"


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.jsonl")
    return folder / "pipe.jsonl"


def device(folder: Path) -> Path:
    return Path("/dev/zero")


def server(folder: Path) -> Path:
    own = socket.socket(socket.AF_UNIX)
    own.bind(str(folder / "s"))
    own.close()
    return folder / "s"


def below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("x")
    return folder / "file" / "a.jsonl"


def nobody(folder: Path) -> Path:
    return Path("~nobody_of_this_name/a.jsonl")


ODD = (
    long_name, long_path, nul, loop, dangling, not_utf_8, half_a_character, pipe, device, server, below_a_file, nobody,
)  # fmt: skip


def stop(problems: list[str]) -> None:
    if problems:
        raise InputError(problems[0])


def reads() -> dict[str, Callable[[Path], object]]:
    """What takes the path of a file or folder to read."""
    from adapt.comparison.results import Comparison
    from adapt.corrections.paths import store_path
    from adapt.data.audio import read_audio
    from adapt.data.corpora.common_voice import prepare_common_voice
    from adapt.data.corpora.fsdd import prepare_fsdd
    from adapt.data.corpora.hf_pairs import read_dataset
    from adapt.data.corpora.librispeech import prepare_librispeech
    from adapt.data.corpora.vctk import prepare_vctk
    from adapt.data.describe import manifest
    from adapt.data.inputs import as_utterances, find_audio, read_sources
    from adapt.data.manifest import Utterance, read_manifest
    from adapt.data.pairs import read_pairs_file
    from adapt.data.splits import read_splits
    from adapt.evaluation.selection import SelectionResult
    from adapt.introspect.stored import read_result
    from adapt.introspect.weights.measures import WeightMeasures
    from adapt.models.checkpoint import load_model
    from interventions.corrections.store import CorrectionStore
    from interventions.files import read_tensors

    return {
        "manifest": read_manifest,
        "describe": manifest,
        "splits": lambda path: read_splits(train=path),
        "pairs": read_pairs_file,
        "two files": lambda path: read_pairs_file([path, path]),
        "audio": lambda path: [read_audio(one, 8000) for one in as_utterances([path])],
        "utterance": lambda path: read_audio(Utterance(path, "x"), 8000),
        "transcribe": lambda path: stop(find_audio([path])[1]),
        "transcribe audio": lambda path: stop(find_audio([f"{path}.wav"])[1]),
        "sources": read_sources,
        "lines": lambda path: read_sources(f"{path}.txt"),
        "common voice": lambda path: prepare_common_voice(path),
        "fsdd": lambda path: prepare_fsdd(path),
        "librispeech": lambda path: prepare_librispeech(path),
        "vctk": lambda path: prepare_vctk(path),
        "hf pairs": lambda path: read_dataset(str(path), "en", "de"),
        "model": lambda path: load_model(str(path)),
        "store": lambda path: CorrectionStore(path, "x"),
        "store path": lambda path: stop([str(store_path(None, str(path)))]),  # type: ignore[arg-type]
        "comparison": Comparison.load,
        "selection": SelectionResult.load,
        "result": lambda path: read_result(path, 1),
        "weights": WeightMeasures.load,
        "tensors": lambda path: read_tensors(path, "steer"),
    }


@pytest.mark.parametrize("made", ODD, ids=lambda made: made.__name__)
def test_every_reader_answers_with_one_sentence(tmp_path, made):
    path, answers = made(tmp_path), {}
    for name, read in reads().items():
        try:
            read(path)
            answers[name] = "no error"
        except (InputError, FileError) as error:
            answers[name] = "several lines" if "\n" in str(error).strip() else ""
        except Exception as error:
            answers[name] = repr(error)[:200]
    assert {name: answer for name, answer in answers.items() if answer} == {}


@pytest.mark.parametrize("made", ODD, ids=lambda made: made.__name__)
def test_no_question_about_a_path_raises(tmp_path, made):
    path = made(tmp_path)
    assert not files.is_folder(path) and not files.is_file(path) or made is not_utf_8
    assert isinstance(files.resolved(path), Path) and isinstance(files.user_path(path), Path)
    problem = files.file_problem(path)
    assert problem is not None and "\0" not in problem and len(problem) < 700
    problem.encode()
    assert isinstance(files.exists(path), bool) and isinstance(files.folder_problem(path), str | None)


@pytest.mark.parametrize("made", ODD, ids=lambda made: made.__name__)
def test_an_odd_audio_file_in_a_manifest_can_be_skipped(tmp_path, made):
    import json

    import numpy as np
    import soundfile

    from adapt.data.audio import AudioReader
    from adapt.data.splits import check_examples, read_splits, stop_or_skip

    soundfile.write(tmp_path / "good.wav", np.zeros(800), 8000)
    rows = [{"audio_filepath": str(made(tmp_path)), "text": "x"}, {"audio_filepath": "good.wav", "text": "y"}]
    (tmp_path / "m.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = read_splits(train=tmp_path / "m.json")

    class Reads:
        reader, reads_audio = AudioReader(8000), True

        def rejection_reason(self, example, length, training):
            return None

    usable, problems = check_examples(splits.train, Reads(), True)
    problems = [*splits.problems, *problems]
    assert [one.text for one in usable] == ["y"]
    assert len(problems) == 1 and problems[0].startswith(f"{tmp_path / 'm.json'}:1: ")
    stop_or_skip(problems, "skip")
    with pytest.raises(InputError):
        stop_or_skip(problems, "stop")


OUTPUTS = (long_name, long_path, nul, loop, dangling, half_a_character, below_a_file, not_utf_8, pipe, server)


@pytest.mark.parametrize("made", OUTPUTS, ids=lambda made: made.__name__)
def test_an_odd_output_is_refused_before_any_work(tmp_path, made):
    from adapt.run import check_output

    path = made(tmp_path)
    given = {"output": str(path), "seed": 0, "overwrite": False, "resume": False}
    with pytest.raises(InputError, match="output=") as caught:
        check_output(OmegaConf.create(given))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("output", ["/proc/x", "/proc/self/x/y", "/dev/null/x", "/sys/x"])
def test_an_output_in_which_no_file_can_be_made_is_one_sentence(output):
    from adapt.run import end_run, open_run

    given = {"output": output, "seed": 0, "overwrite": False, "resume": False}
    try:
        with pytest.raises(InputError, match="/"):
            open_run(OmegaConf.create(given))
    finally:
        end_run()


def test_no_bare_question_about_a_path():
    """`adapt.files` has functions that answer for every name, so nothing else asks `pathlib`."""
    bare = re.compile(r"\.(is_file|is_dir|exists|resolve|expanduser)\(\)")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("adapt", "interventions")
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if bare.search(line)
    ]
    assert found == []


def test_permission_denied(tmp_path, monkeypatch):
    from adapt.data.manifest import read_manifest

    (tmp_path / "m.jsonl").write_text("{}")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    with pytest.raises(InputError, match="m.jsonl' cannot be read: permission denied"):
        read_manifest(tmp_path / "m.jsonl")
    assert files.folder_problem(tmp_path / "new") == f"'{tmp_path}' cannot be written: permission denied"


def test_what_is_let_in_can_be_written(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")
    files.write_json(tmp_path / "a.json", {"audio": path})
    assert files.read_json(tmp_path / "a.json") == {"audio": path}
    files.write_text(tmp_path / "page.html", path)
    assert "\\udcff" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("content", ["[" * 10_000, "9" * 5000, "\xff", "{"])
def test_a_strange_json_file_is_a_value_error(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError):
        files.read_json(tmp_path / "a.json")


def test_a_pipe_is_not_read(tmp_path):
    with pytest.raises(OSError, match="not a file"):
        files.read_json(pipe(tmp_path))


@pytest.mark.parametrize("length", [250, 255])
def test_the_longest_names_can_be_written(tmp_path, length):
    files.write_text(tmp_path / ("\u00e9" * (length // 2)), "x")
    assert len(list(tmp_path.iterdir())) == 1
