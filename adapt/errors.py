"""The one exception a user is meant to read: what was given, what was expected, what to do."""


class InputError(ValueError):
    """A mistake in what the user gave (a file, a line, an option). The command line prints it without a traceback."""
