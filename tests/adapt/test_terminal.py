"""Texts that users gave are shown as they are: never read as markup, and never obeyed by a terminal."""

import ast
import json
import logging
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapt import terminal
from adapt.report.corrections import print_corrections
from adapt.report.evaluation_table import print_evaluation
from adapt.report.template import environment
from adapt.terminal import Table, console, description_column, say, visible
from interventions.corrections.rows import Record

ROOT = Path(__file__).parent.parent.parent
NASTY = [
    "[/]", "[old]", "[bold red]x[/bold red]", "[link=http://a]b[/link]", ":smile:", "\\[x]", "w[/", "[]", "[",
    "\x1b[31mred", "\x1b]0;title\x07", "\x9b2J", "a\rb", "a\nb", "a\tb",
    "\x00", "\x7f", "\u202eexe.txt", "\u2066a\u2069",
    "\u2028", "anna \ud83d", "日本", "é🙂",
]  # fmt: skip
texts = st.one_of(
    st.sampled_from(NASTY), st.text(st.characters(codec=None, exclude_categories=())), st.text("[]/\\\x1b \x9bab")
)
BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def is_harmless(shown):
    """No control character but the line breaks of the table itself, and none that reorders text."""
    kinds = {unicodedata.category(character) for character in shown.replace("\n", "")}
    return not kinds & {"Cc", "Cs", "Zl", "Zp"} and not set(shown) & set(BIDI)


def squeezed(text):
    """Without spaces and line breaks, as cells are wrapped."""
    return "".join(text.split())


@given(texts)
def test_what_is_visible_has_no_control_character_and_loses_nothing(text):
    shown = visible(text)
    assert is_harmless(shown) and "\n" not in shown
    assert json.loads(f'"{visible(text.replace(chr(92), "").replace(chr(34), ""))}"') == (
        text.replace(chr(92), "").replace(chr(34), "")
    )
    assert visible(shown) == shown
    assert visible(text, lines=True).count("\n") == text.count("\n")


def test_escapes():
    assert visible("\x1b[2J\r\n\x9b\u202e\ud800é\u200d") == "\\u001b[2J\\r\\n\\u009b\\u202e\\ud800é\u200d"
    assert visible("a\n\tb\r", lines=True) == "a\n\tb\\r"
    assert visible(json.dumps({"a": "\u2067b"}, ensure_ascii=False)) == '{"a": "\\u2067b"}'


def shown_by(capsys, show):
    capsys.readouterr()
    show()
    return capsys.readouterr().out


ours = settings(max_examples=60)


@pytest.mark.slow
@ours
@given(title=texts, group=texts, key=texts)
@example(title="[/]", group="[/]", key="[old]")
def test_an_evaluation_shows_every_name(title, group, key, evaluated):
    from contextlib import redirect_stdout
    from dataclasses import replace
    from io import StringIO

    result = evaluated
    values = dict(next(iter(result.sets.values())))
    values["groups"] = {key: {group: values}}
    with redirect_stdout(StringIO()) as out:
        print_evaluation(replace(result, reference=title, sets={group: values}))
    drawn = out.getvalue()
    assert is_harmless(drawn)
    for name in (title, group, key):
        assert squeezed(visible(name)) in squeezed(drawn), name


@pytest.fixture(scope="module")
def evaluated(base, speech):
    from adapt.data.splits import read_splits
    from adapt.evaluation.evaluate import evaluate
    from adapt.models.checkpoint import load_model

    return evaluate(load_model(str(base)), read_splits(test=str(speech["low_test"])))


@ours
@given(author=texts, before=texts, text=texts, title=texts)
@example(author="[/]", before="[old]", text="\x1b[31m", title="w[/]")
def test_corrections_show_every_text(author, before, text, title):
    from contextlib import redirect_stdout
    from io import StringIO

    record = Record(1, "2026-01-01T00:00:00+00:00", author, {"before": before, "text": text}, 1000)
    with redirect_stdout(StringIO()) as out:
        print_corrections([record], title, Path("corrections.db"))
    drawn = out.getvalue()
    assert is_harmless(drawn)
    cells = [[], [], [], [], [], []]
    for line in drawn.splitlines():
        if line.startswith("│"):
            for cell, part in zip(cells, line[1:-1].split("│"), strict=False):
                cell.append(part)
    if not {"│", "┃"} & set(author + before + text):
        for cell, given_text in zip(cells[2:5], (author, before, text), strict=True):
            assert squeezed("".join(cell)) == squeezed(visible(given_text))


@given(texts)
def test_lines_logs_progress_and_pages_are_plain(text):
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    from rich.progress import Progress

    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        say(text)
        say(text, error=True)
    assert out.getvalue() == err.getvalue() == f"{visible(text)}\n"
    progress = Progress(console=console())
    progress.add_task(visible(text))
    assert description_column()(progress.tasks[0]).plain == visible(text)
    record = logging.LogRecord("adapt.a", logging.INFO, "", 0, "said %s", (text,), None)
    assert terminal._Formatter("%(message)s").format(record) == f"said {visible(text)}"
    page = environment().from_string("<p>{{ text }}</p>").render(text=text)
    assert is_harmless(page.replace("\t", ""))


def test_a_narrow_table_wraps_and_a_wide_one_is_cut(capsys):
    table = Table("t", ("name", "number"), wrap=True)
    table.row("word " * 60, 1, strong=True)
    table.rule()
    table.row("x", 2)
    drawn = shown_by(capsys, lambda: table.show(file_width=60))
    assert drawn.count("word") == 60 and max(map(len, drawn.splitlines())) <= 60


@pytest.mark.slow
def test_warnings_tracebacks_and_other_encodings_in_a_process(tmp_path):
    code = (
        "import logging, sys, warnings\nfrom adapt.terminal import say, set_up_output\nset_up_output(logging.INFO)\n"
        "logging.getLogger('adapt.x').info('%s', 'a\\x1b[2Jé\\u202e')\nlogging.getLogger('other').info('one\\ntwo')\n"
        "say('ü日')\nwarnings.warn('w\\x9b', stacklevel=1)\nraise ValueError('v\\x1b')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.decode("ascii").splitlines() == [
        "a\\u001b[2J\\xe9\\u202e", "one", "two", "\\xfc\\u65e5",
    ]  # fmt: skip
    errors = done.stderr.decode("ascii")
    assert "UserWarning: w\\u009b" in errors and errors.rstrip().endswith("ValueError: v\\u001b")


def test_all_output_goes_through_one_place():
    """Nothing else prints, draws tables, writes to a standard stream or sets up logging or warnings."""
    found = []
    for path in [*(ROOT / "adapt").rglob("*.py"), *(ROOT / "interventions").rglob("*.py")]:
        if path.name in ("terminal.py", "_entry.py") and path.parent == ROOT / "adapt":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.unparse(node) if isinstance(node, (ast.Call, ast.Import, ast.ImportFrom)) else ""
            goes_round = text.startswith(
                ("print(", "sys.stdout.write", "sys.stderr.write", "sys.__std", "logging.basicConfig",
                 "logging.StreamHandler", "warnings.warn(", "traceback.print", "import rich", "from rich")
            )  # fmt: skip
            progress = path.name in ("progress.py", "download.py") and text.startswith("from rich.progress import")
            if goes_round and not progress:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} {text[:60]}")
    assert found == []


@pytest.mark.slow
def test_nasty_names_from_one_end_to_the_other(base, speech, tmp_path):
    """Groups, a title and an output folder of all kinds: a training ends well and no code reaches the terminal."""
    rows = [json.loads(line) for line in speech["high_test"].read_text().splitlines()]
    names = [name for name in NASTY if "\ud83d" not in name and "\x00" not in name]
    for number, row in enumerate(rows):
        row["audio_filepath"] = str(speech["high_test"].parent / row["audio_filepath"])
        row["accent"], row["speaker"] = names[number % len(names)], "[/]"
    (tmp_path / "t[x].jsonl").write_text("\n".join(map(json.dumps, rows)))

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "adapt.cli", *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert is_harmless(done.stdout + done.stderr)
        return done.stdout

    given_data = [f"model.pretrained={base}", "data=manifest", "data.test='t[x].jsonl'"]
    shown = run("evaluate", *given_data, "output='w[/]'")
    for name in names[: len(rows)]:
        assert squeezed(visible(f"accent {name}")) in squeezed(shown), name
    shown = run(
        "adapt", *given_data, f"data.train={speech['high_validation']}", "trainer.max_epochs=1", "tuning=head",
        "causes=0", "compare_neurons=0", "title='[x] \x1b[1m'", "output='a[/]'",
    )  # fmt: skip
    assert "[x] \\u001b[1m" in shown and f"Report: {tmp_path / 'a[/]' / 'report.html'}" in shown
    page = (tmp_path / "a[/]" / "report.html").read_text()
    assert is_harmless(page.replace("\t", "")) and "[x] \\u001b[1m" in page


def test_a_title_that_is_a_list_is_refused_before_any_work(innertune, tmp_path):
    from adapt.errors import InputError

    with pytest.raises(InputError, match="title must be a text"):
        innertune("compare", "before=a", "after=b", "title=[x]", f"output={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_reader_that_has_enough_ends_the_command_silently(speech, tmp_path):
    # More than a pipe holds, so that the command is still writing when the reader ends.
    rows = [json.loads(line) for line in speech["low_train"].read_text().splitlines()]
    folder = speech["low_train"].parent
    lines = [json.dumps({**row, "audio_filepath": str(folder / row["audio_filepath"])}) for row in rows]
    (tmp_path / "many.jsonl").write_text("\n".join(lines * 10) + "\n")
    command = f"set -o pipefail; {sys.executable} -m adapt.cli manifest {tmp_path / 'many.jsonl'} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 141 and json.loads(done.stdout)["text"]
    assert "Broken" not in done.stderr and "Traceback" not in done.stderr and "Error" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("words", ["--help", "adapt --help", "show tuning"])
def test_standard_output_on_a_full_disk_is_a_sentence(words):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m adapt.cli {words} > /dev/full"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "innertune: No space left on device.\n")


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_streams_that_are_closed(closed, speech):
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m adapt.cli manifest {speech['low_test']} {closed}"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr and "12 utterances" in done.stderr


def test_messages_that_nobody_reads_do_not_end_a_run(capsys):
    def fail(*_):
        raise BrokenPipeError

    handler = terminal._Handler(type("Gone", (), {"write": fail, "flush": fail})())
    handler.emit(logging.LogRecord("adapt", logging.INFO, "", 0, "epoch 1", (), None))
    assert capsys.readouterr().err == ""
