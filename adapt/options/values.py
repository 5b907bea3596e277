"""Check the values of options against the choices that the comments in `conf/` list."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapt.checks import check_choice, check_flag
from adapt.option_texts import command_options
from adapt.options.known import find

_FLAGS = ("true", "false")


def check_choices(command: str, options: Mapping[str, Any], conf: Path) -> None:
    """Check the options whose only possible values are known: choices and switches.

    Options of config groups are left to what they build: another choice of the group may have other values.

    Args:
        command: The command.
        options: Its options, composed.
        conf: The folder of the configurations.

    Raises:
        InputError: an option has another value.
    """
    for option in command_options(command, conf=conf):
        has, value = find(options, option.name)
        grouped = option.chosen or option.group == option.name
        if not has or not option.choices or grouped or value is None or option.required:
            continue
        if option.choices == _FLAGS:
            check_flag(option.name, value)
        elif not isinstance(value, (list, dict)):
            written = "off" if value is False else str(value).lower() if value is True else value
            check_choice(option.name, str(written), option.choices)
