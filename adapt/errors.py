"""The one exception a user is meant to read: what was given, what was expected, what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from interventions.files import FileError


class InputError(ValueError):
    """A mistake in what the user gave (a file, a line, an option). The command line prints it without a traceback."""


@contextmanager
def files_of_the_user() -> Iterator[None]:
    """Within it, a file that is not what was expected, or cannot be read or written, is the user's mistake.

    Raises:
        InputError: in place of FileError and OSError.
    """
    try:
        yield
    except FileError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        what = f"'{error.filename}': " if error.filename else ""
        raise InputError(f"{what}{error.strerror or error}. Give another place, or see to its permissions.") from None
