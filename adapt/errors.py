"""The exception for mistakes of the user. Its message says what was given, what was expected and what to do.

A message about an argument begins with the argument's name, which is what a caller in a notebook knows: "group_by must
be ..., got 3.". If the function was built from a config, `adapt.build.build` puts the node's path before the name:
"measure.group_by must be ..., got 3.".
"""

from collections.abc import Iterator
from contextlib import contextmanager

from interventions.files import FileError


class InputError(ValueError):
    """A mistake in the user's input: a file, a line, an argument.

    The message says what was given, what was expected and what to do. The command line prints it without a traceback.
    """


@contextmanager
def as_input_errors() -> Iterator[None]:
    """Within this context, an unusable, unreadable or unwritable file raises InputError, not FileError or OSError."""
    try:
        yield
    except FileError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        what = f"'{error.filename}': " if error.filename else ""
        raise InputError(f"{what}{error.strerror or error}. Choose another path, or check its permissions.") from None
