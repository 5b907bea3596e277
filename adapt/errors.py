"""The exception for mistakes of the user. Its message says what was given, what was expected and what to do.

A message about an argument begins with the argument's name: "group_by must be ..., got 3.". That is what a caller in a
notebook knows. If the function was built from a config, `adapt.build.build` puts the config node's path before the name:
"measure.group_by must be ..., got 3.".
"""

from collections.abc import Iterator
from contextlib import contextmanager

from interventions.files import FileError


class InputError(ValueError):
    """A mistake in what the user gave (a file, a line, an option). The command line prints it without a traceback."""


@contextmanager
def files_of_the_user() -> Iterator[None]:
    """Within it, a file that is not as expected, or cannot be read or written, is a mistake of the user.

    Raises:
        InputError: In place of FileError and OSError.
    """
    try:
        yield
    except FileError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        name = f"'{error.filename}': " if error.filename else ""
        raise InputError(
            f"{name}{error.strerror or error}. Give another place, or check the permissions of this one."
        ) from None
