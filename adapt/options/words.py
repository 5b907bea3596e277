"""The words of a command line: Hydra's own flags, and options such as `key=value`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapt.errors import InputError

_FLAGS = {
    "--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m", "--shell-completion",
    "-sc",
}  # fmt: skip
_FLAGS_WITH_VALUE = {
    "--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
    "--experimental-rerun",
}  # fmt: skip
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
# What a lone word without `=` is likely to be.
_FIRST = {"transcribe": "audio", "translate": "text", "export": "model.pretrained", "evaluate": "model.pretrained"}


@dataclass(frozen=True)
class Option:
    """One `key=value`: `prefix` is "", "+", "++" or "~", `package` what stands after "@", `value` None for `~key`."""

    key: str
    value: str | None = None
    prefix: str = ""
    package: str = ""

    @property
    def word(self) -> str:
        """The option as Hydra reads it."""
        package = f"@{self.package}" if self.package else ""
        value = "" if self.value is None else f"={self.value}"
        return f"{self.prefix}{self.key}{package}{value}"

    def named(self, key: str) -> "Option":
        """Return the option under another key."""
        return replace(self, key=key)


@dataclass(frozen=True)
class Words:
    """A command line in parts. `folder` is the user's `--config-dir`; `help` whether only options are asked for."""

    flags: tuple[str, ...]
    options: tuple[Option, ...]
    multirun: bool = False
    folder: str | None = None
    help: bool = False


def split_words(command: str, words: Sequence[str]) -> Words:
    """Split the words after the command's name. Raises InputError for a word that is neither a flag nor an option."""
    flags: list[str] = []
    options: list[Option] = []
    folder = None
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            options.append(_option(command, word))
            continue
        flags.append(word)
        name, equals, value = word.partition("=")
        if name in _FLAGS_WITH_VALUE and not equals and rest:
            value = rest.pop(0)
            flags.append(value)
        elif name in ("--info", "-i") and not equals and rest and rest[0] in _INFO:
            flags.append(rest.pop(0))
        elif name not in _FLAGS | _FLAGS_WITH_VALUE | {"--info", "-i"}:
            given = value or (rest[0] if rest and "=" not in rest[0] else "...")
            raise InputError(f"There is no '{name}'. Options are written without dashes: {name.lstrip('-')}={given}.")
        folder = value if name in ("--config-dir", "-cd") else folder
    multirun = not {"-m", "--multirun"}.isdisjoint(flags)
    multirun |= any(option.key == "hydra.mode" and str(option.value).upper() == "MULTIRUN" for option in options)
    asks = not {"--help", "-h", "--hydra-help", "--version", "--shell-completion", "-sc"}.isdisjoint(flags)
    return Words(tuple(flags), tuple(options), multirun, folder, asks)


def _option(command: str, word: str) -> Option:
    prefix = next(sign for sign in ("++", "+", "~", "") if word.startswith(sign))
    name, equals, value = word.removeprefix(prefix).partition("=")
    if not equals and prefix != "~":
        advice = f" Did you mean {_FIRST[command]}={word}?" if command in _FIRST else ""
        raise InputError(f"'{word}' is not an option: options are written as name=value.{advice}")
    key, _, package = name.strip().partition("@")
    return Option(key, value if equals else None, prefix, package)
