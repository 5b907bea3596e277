"""The command line: `innertune <command> [Hydra overrides]`."""

import ast
import errno
import logging
import os
import re
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from adapt.commands.show import show
from adapt.distributed import is_first
from adapt.errors import InputError
from adapt.option_texts import config_folder
from adapt.renamed import old_keys, old_names
from adapt.signals import Stopped, install, stopped_by
from adapt.terminal import open_streams, say, set_up_output

_FOLDER = Path(__file__).parent / "commands"
COMMANDS = tuple(sorted(path.stem for path in _FOLDER.glob("*.py") if not path.name.startswith("_")))
# The options that may be given as words before the others.
_POSITIONS = {"corrections": ("action", "target"), "manifest": ("input",)}

_HELP = """innertune: adapt speech recognisers and translation models from the inside.

innertune <command> [option=value ...]

{commands}

Options are Hydra overrides: tuning=head, trainer.max_epochs=4, output=DIR.
  innertune adapt --cfg job     show the options that a command would use, without running it
  innertune adapt --help        list a command's options; also: innertune help adapt
  innertune adapt -m tuning=head,full     run several values, one after another"""


def main() -> None:
    """Run the command that the first argument names."""
    open_streams()
    try:
        _main()
        sys.stdout.flush()
    except BrokenPipeError:
        _leave_pipe()
    except OSError as error:  # standard output goes to a full disk
        if (refusal := _refusal(error)) is None:
            raise
        _drop_output()
        say(f"innertune: {refusal}.", error=True)
        raise SystemExit(1) from None


def _main() -> None:
    # Lightning starts further processes with the command line that is set below, with Hydra's option first.
    command, options = sys.argv[1].removeprefix("--config-name=") if len(sys.argv) > 1 else "--help", sys.argv[2:]
    if command in ("--help", "-h", "help"):
        _help(options)
        return
    if command == "--version":
        from importlib.metadata import version

        say(version("innertune"))
        return
    if command not in COMMANDS:
        _fail("innertune", f"there is no command '{command}'.{_near(command)} Commands: {', '.join(COMMANDS)}.")
    if {"--help", "-h"} & {*options}:
        _help([command, *(word for word in options if word not in ("--help", "-h"))])
        return
    if command == "show":
        raise SystemExit(show(options))
    renamed = old_names(command, options, config_folder())
    if renamed is not None:
        _fail(f"innertune {command}", renamed)
    if not sys.argv[1].startswith("--config-name="):  # a further process gets options that were read already
        names = _POSITIONS.get(command)
        options = _read(command, _name_words(options, names) if names else options)
    # argv[0] stays as it is: Lightning starts further processes with it.
    sys.argv = [sys.argv[0], f"--config-name={command}", *options]
    _run(command)


def _leave_pipe() -> NoReturn:
    """End as other programs do whose reader, such as `head`, has what it wanted: silently, with SIGPIPE's status."""
    _drop_output()
    raise SystemExit(128 + 13) from None


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python's last flush would fail again


def _help(words: list[str]) -> None:
    """Print the list of commands, or the help of the command that the first word names."""
    if not words:
        lines = [f"  {name:<13}{summary(name)}" for name in COMMANDS]
        say(_HELP.format(commands="\n".join(lines)), lines=True)
        return
    from adapt.option_help import print_help

    if words[0] not in COMMANDS:
        _fail("innertune help", f"there is no command '{words[0]}'.{_near(words[0])} Commands: {', '.join(COMMANDS)}.")
    try:
        print_help(words[0], words[1:])
    except InputError as error:
        _fail(f"innertune {words[0]}", str(error))


def _near(command: str) -> str:
    near = get_close_matches(command, COMMANDS, 1)
    return f" Did you mean {near[0]}?" if near else ""


def _fail(who: str, problem: str) -> NoReturn:
    say(f"{who}: {problem}", error=True)
    raise SystemExit(2)


def summary(command: str) -> str:
    """Return a command's one-line summary: the first line of its module's docstring, read without importing it."""
    text = (_FOLDER / f"{command}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0].removesuffix(".")


def _name_words(words: list[str], names: tuple[str, ...]) -> list[str]:
    """Turn `undo 3` into `action=undo target=3`: up to as many words as `names` may come before the options."""
    count = next((n for n, word in enumerate(words) if "=" in word or word.startswith("-")), len(words))
    named = [f"{key}={word}" for key, word in zip(names, words[:count], strict=False)]
    return [*named, *words[min(count, len(names)) :]]


def _read(command: str, words: list[str]) -> list[str]:
    from adapt.errors import InputError
    from adapt.options.read import read_options

    try:
        options, notes = read_options(command, words, config_folder())
    except InputError as error:
        say(f"innertune {command}: {error}", lines=True, error=True)
        raise SystemExit(2) from None
    for note in notes:
        say(f"innertune {command}: {note}", error=True)  # standard output is for texts
    return options


def _run(command: str) -> None:
    import hydra
    from omegaconf import DictConfig

    @hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=None)
    def run(cfg: DictConfig) -> None:
        _set_up()
        from adapt.errors import InputError
        from adapt.run import end_run, how_to_continue, which_run

        try:
            _check_options(command, cfg)
            from adapt.options.early import check_early

            check_early(command, cfg)
            import importlib

            importlib.import_module(f"adapt.commands.{command}").main(cfg)
        except InputError as error:
            say(f"innertune {command}: {which_run()}{error}", lines=True, error=True)
            raise SystemExit(2) from None
        except Stopped as stop:
            _report(command, stop, how_to_continue())
            raise
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except BrokenPipeError:
            _leave_pipe()
        except Exception as error:
            if (stop := stopped_by(error)) is not None:
                _report(command, stop, how_to_continue())
                raise stop from None
            if (refusal := _refusal(error)) is None:
                raise
            say(
                f"innertune {command}: {refusal}. All files written before are complete. resume=true continues an "
                "unfinished run.",
                error=True,
            )
            raise SystemExit(1) from None
        finally:
            end_run()

    install()
    try:
        run()
    except Stopped as stop:
        _report(command, stop)
        stop.leave()


def _report(command: str, stop: Stopped, advice: str = "") -> None:
    """Say once, and in the first process only, that a signal has ended the command."""
    if is_first() and not stop.reported:
        say(f"innertune {command}: stopped by {stop.name}. {advice}".rstrip(), error=True)
    stop.reported = True


def _check_options(command: str, cfg: object) -> None:
    from omegaconf import OmegaConf

    from adapt.errors import InputError

    options = OmegaConf.to_container(cfg)
    assert isinstance(options, dict)
    renamed = old_keys(command, {str(key): value for key, value in options.items()}, config_folder())
    if renamed is not None:
        raise InputError(renamed)
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        needed = " ".join(f"{key}=..." for key in missing)
        raise InputError(f"give {needed} (innertune {command} --cfg job shows all options).")


# Of names that no file can have: too long, a loop of links, a folder where a file is expected, and the other way round.
_NAMES = (errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.ENOTDIR)


def _refusal(error: BaseException | None) -> str | None:
    """Return the operating system's reason (a full disk, no permission) if it caused the error, else None."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if type(error).__name__ == "SafetensorError" and (match := re.search(r"os error (\d+)", str(error))):
            number = int(match[1])
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, *_NAMES):
            name = getattr(error, "filename", None)
            return f"{os.strerror(number)}: '{name}'" if name else os.strerror(number)
        error = error.__cause__ or error.__context__
    return None


def _set_up() -> None:
    import warnings

    set_up_output(logging.INFO if is_first() else logging.ERROR)
    # These warn about the number of workers and the like. What a user must know is in our own messages.
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torch.utils.data")
    # Marian's tokenizer, even when copied, recommends a library that only a function we do not use needs.
    warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the same for warnings of DDP; torch reads it on import
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")


if __name__ == "__main__":
    main()
