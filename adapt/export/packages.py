"""The packages of the extra `export`: whether they are there, and in which version."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from adapt.errors import InputError


def need(module: str, why: str) -> None:
    """Raise InputError if a package is not installed, which says how to install it."""
    if find_spec(module) is None:
        raise InputError(f"The package {module} is needed {why}. Install it with: pip install 'innertune[export]'")


def version_of(package: str, name: str) -> str:
    """Return the name of a program with the version of its package, if it is installed."""
    try:
        return f"{name} {version(package.replace('_', '-'))}"
    except PackageNotFoundError:
        return name


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Within this context, these loggers report errors only: some packages speak of each step."""
    speakers = [logging.getLogger(name) for name in loggers]
    levels = [speaker.level for speaker in speakers]
    for speaker in speakers:
        speaker.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for speaker, level in zip(speakers, levels, strict=True):
            speaker.setLevel(level)
