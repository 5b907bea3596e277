"""The packages of the extra `export`: whether they are there, and in which version."""

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
