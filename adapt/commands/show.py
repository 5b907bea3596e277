"""List the configuration groups (show), or the choices in one (show GROUP)."""

from difflib import get_close_matches

from adapt.option_texts import config_folder as config_folder
from adapt.option_texts import first_comment as first_comment
from adapt.option_texts import groups, members
from adapt.terminal import say


def show(arguments: list[str]) -> int:
    """Print all groups, or one group's choices, each with the first comment of its file. Return the exit status."""
    names = groups()
    if not arguments:
        for group in names:
            say(f"{group:<{_width(names)}}{', '.join(name for name, _ in members(group))}")
        say()
        say("innertune show GROUP describes the choices of a group. GROUP=CHOICE on the command line makes one.")
        return 0
    if len(arguments) > 1 or arguments[0] not in names:
        near = get_close_matches(arguments[0], names, 1)
        suggestion = f" Did you mean {near[0]}?" if near else ""
        say(
            f"innertune show: there is no group '{' '.join(arguments)}'.{suggestion} Groups: {', '.join(names)}.",
            error=True,
        )
        return 2
    choices = members(arguments[0])
    for name, text in choices:
        say(f"{name:<{_width([name for name, _ in choices])}}{text}")
    return 0


def _width(names: list[str]) -> int:
    """Return the width of a column of names: the longest, and two spaces."""
    return max(map(len, names)) + 2
