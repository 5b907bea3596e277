"""The console script `innertune`. The wheel installs this file as the top-level module `innertune_main`.

The package name `adapt` also belongs to a distribution on PyPI, a toolbox for domain adaptation. If it is installed
after innertune, it overwrites `adapt/__init__.py` and more. This file keeps its own name, imports nothing of `adapt`
before it has looked, and says what to do.
"""

import os
import sys
from importlib import metadata, util
from pathlib import Path

_OURS = "innertune"
_FILE = "adapt/__init__.py"
_MARK = "innertune: adapt speech recognisers and translation models from the inside"


def main() -> None:
    """Run the command line, or say that another distribution has replaced our package `adapt`."""
    problem = conflict()
    if problem is not None:
        print(f"innertune: {problem}", file=sys.stderr)
        raise SystemExit(1)
    from adapt.cli import main as run

    run()


def conflict() -> str | None:
    """Return what is wrong with the installed package `adapt` and what to do, or None if it is ours."""
    found = _find()
    if found is not None and _is_ours(found):
        return None
    others = sorted({name for name in _owners() if name.lower() != _OURS})
    again = f"pip install --force-reinstall --no-deps {_OURS}"
    if found is None:
        return f"its package 'adapt' is missing. Install it again: {again}"
    if others:
        names = " and ".join(f"'{name}'" for name in others)
        return (
            f"the distribution {names} has a package 'adapt' too, and its files have replaced or hide ours "
            f"({found.parent}). Both cannot be installed in one environment. Run: pip uninstall {' '.join(others)}   "
            f"and then: {again}   (from a checkout: pip install --force-reinstall --no-deps -e .)"
        )
    return (
        f"the package 'adapt' that Python finds ({found.parent}) is not innertune's. Move or rename it if it is yours. "
        f"Otherwise install innertune again: {again}"
    )


def _find() -> Path | None:
    """Return the file of the package `adapt`, without importing it."""
    spec = util.find_spec("adapt")
    return Path(spec.origin) if spec is not None and spec.origin else None


def _is_ours(path: Path) -> bool:
    try:
        return _MARK in path.read_text(encoding="utf-8") and os.path.isfile(path.parent / "cli.py")
    except (OSError, UnicodeDecodeError):
        return False


def _owners() -> list[str]:
    """Return the names of the installed distributions that have a file `adapt/__init__.py`."""
    return [
        str(distribution.metadata["Name"])
        for distribution in metadata.distributions()
        if any(file.as_posix() == _FILE for file in distribution.files or ())
    ]


if __name__ == "__main__":
    main()
