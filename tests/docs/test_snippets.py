"""Each command and each piece of Python in the README and on the site runs, at a small size."""

import importlib
import logging
import re
import shutil
import subprocess
import sys

import pytest
from snippets import NOT_RUN, ROOT, blocks, commands, pages, reason, small, small_python

pytestmark = pytest.mark.slow
PAGES = pages()


def run_in_process(arguments, monkeypatch, capsys) -> None:
    from hydra.core.global_hydra import GlobalHydra

    cli = importlib.import_module("adapt.cli")
    monkeypatch.setattr(sys, "argv", ["innertune", *arguments])
    handlers = logging.root.handlers[:]
    try:
        cli.main()
        status = 0
    except SystemExit as end:
        status = end.code or 0
    finally:
        GlobalHydra.instance().clear()
        logging.root.handlers[:] = handlers
    output = capsys.readouterr()
    assert status == 0, f"innertune {' '.join(arguments)}\n{output.out[-1000:]}\n{output.err[-2000:]}"


def run_in_own_process(arguments, folder) -> None:
    """For commands that start processes themselves, or leave some behind."""
    done = subprocess.run(
        [sys.executable, "-m", "adapt.cli", *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"innertune {' '.join(arguments)}\n{done.stderr[-2000:]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_everything_on_a_page_runs(page, named_files, empty_memories, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "page"
    shutil.copytree(named_files, folder)
    monkeypatch.chdir(folder)
    shutil.copytree(empty_memories, tmp_path / "data")
    monkeypatch.setenv("INNERTUNE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for block in blocks(page):
        if block.language == "python":
            exec(compile(small_python(block.text), f"{page}:{block.line}", "exec"), {"__name__": "snippet"})
            capsys.readouterr()
            continue
        for line in commands(block):
            if reason(line):
                continue
            assert line.startswith("innertune "), f"{page}: {line} is neither run nor in NOT_RUN"
            arguments = small(line)
            for made in re.findall(r"\boutput=(\S+)", " ".join(arguments)):
                # A page may make a folder that others find already there.
                if made in ("scottish", "steering") and "overwrite=true" not in arguments:
                    shutil.rmtree(folder / made, ignore_errors=True)
            if "trainer=ddp" in arguments or "logger=wandb" in arguments:
                run_in_own_process(arguments, folder)
            else:
                run_in_process(arguments, monkeypatch, capsys)


def test_each_exception_is_needed():
    lines = [line for page in PAGES for block in blocks(page) for line in commands(block)]
    for part in NOT_RUN:
        assert any(part in line for line in lines), part
