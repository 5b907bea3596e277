"""The help of a command: its options in groups, with defaults, choices and texts from the comments in `conf/`."""

import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from adapt.errors import InputError
from adapt.option_texts import GENERAL, Option, command_options, config_folder, examples, first_comment, groups, members
from adapt.terminal import say

_LEFT = 30  # characters of the column with names and defaults
_WIDTHS = (80, 120)  # the least and the largest width of the page
_SHOW = """innertune show: list the groups of the configuration, or the choices of one

  innertune show [GROUP]

examples
  innertune show
  innertune show tuning
  innertune show data"""


def print_help(command: str, words: Sequence[str] = ()) -> None:
    """Print the help of a command.

    Args:
        command: The command's name.
        words: Other words of the command line. `tuning=neurons` shows only the options of this choice.

    Raises:
        InputError: a word names no choice and no option of the command.
    """
    if command == "show":
        say(_SHOW, lines=True)
        return
    chosen = dict(word.split("=", 1) for word in words if word.partition("=")[0] in groups() and "=" in word)
    options = command_options(command, chosen)
    _check(command, [word for word in words if word.partition("=")[0] not in chosen], options)
    shown = [option for option in options if not chosen or option.group in chosen or "experiment" in chosen]
    width = min(max(shutil.get_terminal_size((100, 24)).columns, _WIDTHS[0]), _WIDTHS[1])
    lines = [*_head(command, bool(chosen), width), *_sections(command, shown, width)]
    if not chosen:
        lines += [
            "", *textwrap.wrap("The values shown are the defaults; ??? must be given. `innertune show GROUP` describes "
            f"the choices of a group, and `innertune {command} --help GROUP=CHOICE` lists the options of a choice.",
            width),
        ]  # fmt: skip
    say("\n".join(lines).strip("\n"), lines=True)


def _check(command: str, words: Iterable[str], options: list[Option]) -> None:
    from difflib import get_close_matches

    names = [option.name for option in options]
    for word in words:
        name = word.partition("=")[0].lstrip("+~")
        if not name.startswith("-") and name not in names:
            near = get_close_matches(name, names, 1)
            raise InputError(f"{command} has no option '{name}'.{f' Did you mean {near[0]}?' if near else ''}")


def _head(command: str, brief: bool, width: int) -> list[str]:
    if brief:
        return []
    about = textwrap.wrap(first_comment(config_folder() / f"{command}.yaml"), width)
    lines = [*about, "", f"  innertune {command} [option=value ...]"]
    return [*lines, "", "examples", *(f"  {line}" for line in examples(command))]


def _sections(command: str, options: list[Option], width: int) -> Iterator[str]:
    sections: dict[str, list[Option]] = {GENERAL: []}
    for option in options:
        sections.setdefault(option.group, []).append(option)
    # A group whose choice has no options is one line among the general ones.
    for name in [name for name, own in sections.items() if len(own) == 1 and own[0].name == name]:
        sections[GENERAL] += sections.pop(name)
    for name, own in sections.items():
        if not own:
            continue
        choice = next((option for option in own if option.name == name), None)
        about = dict(members(name)).get(choice.default, "") if choice else ""
        yield ""
        yield from textwrap.wrap(f"{name}={choice.default}: {about}" if choice else name, width)
        for option in sorted(own, key=lambda option: not option.required):
            yield from _lines(command, option, width)


def _lines(command: str, option: Option, width: int) -> list[str]:
    default = re.sub(r"\$\{hydra:job.config_name\}", command, option.default)
    left = f"  {option.name}={re.sub(r'[$][{]now:[^}]*[}]', 'DATE_TIME', default)}"
    choices = "" if option.choices in ((), ("true", "false")) else f" ({', '.join(option.choices)})"
    right = textwrap.wrap(option.text + choices, width - _LEFT, break_on_hyphens=False)
    if len(left) + 2 > _LEFT:
        return [left, *(" " * _LEFT + line for line in right)]
    return [f"{left:<{_LEFT}}{right[0] if right else ''}".rstrip(), *(" " * _LEFT + line for line in right[1:])]
