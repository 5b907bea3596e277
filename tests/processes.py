"""Start `innertune` in a process of its own, and wait for its end."""

import os
import signal
import subprocess
import sys

SECONDS = 90  # more than any of these takes: a run that hangs fails


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "adapt.cli", *arguments], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def end(process):
    """Exit status, standard output and error, which come when the last process that writes there has ended."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out, err
