"""`innertune <command> [Hydra overrides]`."""

import errno
import logging
import os
import re
import sys

from adapt.commands.show import config_folder, show
from adapt.distributed import is_first

COMMANDS = {
    "adapt": "adapt a model to new data, and report what changed",
    "pretrain": "train a model from scratch",
    "evaluate": "measure a model's error rates, or BLEU and chrF, by group, with intervals",
    "transcribe": "write down what is said in audio files",
    "translate": "translate sentences",
    "correct": "say what a transcript or a translation should have been; the model keeps it",
    "corrections": "list, take back, pass on or fold in what a user corrected",
    "steer": "fit a steering vector between two groups, and measure it on both",
    "choose": "score every neuron by one or several measures, choose, and draw who was chosen",
    "introspect": "measure what a model's neurons do: profiles by phoneme, letter, accent, ...",
    "sites": "list where a model can be read and changed, with shapes, weights and FLOPs",
    "compare": "report on two models that already exist",
    "apply": "put an adaptation into a model's own file",
    "remove": "take it out again, bit for bit",
    "export": "write a model as others read it: a transformers folder, or a state dict",
    "show": "list what can be chosen: show [group]",
}

_HELP = """innertune: adapt speech recognisers and translation models from the inside.

innertune <command> [option=value ...]

{commands}

Options are Hydra overrides: tuning=head, trainer.max_epochs=4, output=DIR.
  innertune adapt --cfg job     what a command will use, without running it
  innertune adapt --help        a command's options
  innertune adapt -m tuning=head,full     several runs, one after another
"""


def main() -> None:
    """Run the command that the first argument names."""
    # Lightning starts further processes by the command line as we leave it below, Hydra's option first.
    command = sys.argv[1].removeprefix("--config-name=") if len(sys.argv) > 1 else "--help"
    if command in ("--help", "-h", "help"):
        lines = [f"  {name:<13}{what}" for name, what in COMMANDS.items()]
        print(_HELP.format(commands="\n".join(lines)), end="")
        return
    if command == "--version":
        from importlib.metadata import version

        print(version("innertune"))
        return
    if command not in COMMANDS:
        print(f"innertune: there is no command '{command}'. Commands: {', '.join(COMMANDS)}.", file=sys.stderr)
        raise SystemExit(2)
    if command == "show":
        raise SystemExit(show(sys.argv[2:]))
    options = _named(sys.argv[2:]) if command == "corrections" else sys.argv[2:]
    # argv[0] stays: it is part of that command line.
    sys.argv = [sys.argv[0], f"--config-name={command}", *map(_plain_text, options)]
    _run(command)


def _named(words: list[str]) -> list[str]:
    """`undo 3` as `action=undo target=3`: up to two words before the options."""
    plain = next((n for n, word in enumerate(words) if "=" in word or word.startswith("-")), len(words))
    return [
        *(f"{key}={word}" for key, word in zip(("action", "target"), words[:plain], strict=False)),
        *words[min(plain, 2) :],
    ]


def _plain_text(option: str) -> str:
    """`text=It's cold, isn't it?` as an option that Hydra takes as it is; a quoted text or a list is left to it."""
    key, _, text = option.partition("=")
    quoted = len(text) > 1 and text[0] + text[-1] in ("''", '""', "[]")
    if key not in ("text", "source", "target") or quoted or text in ("", "null"):
        return option
    # A backslash is itself, unless a quotation mark is behind it.
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text)
    return f"{key}='{escaped}'"


def _run(command: str) -> None:
    import hydra
    from omegaconf import DictConfig, OmegaConf

    @hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=None)
    def run(cfg: DictConfig) -> None:
        _set_up()
        import importlib

        from adapt.errors import InputError

        try:
            missing = sorted(OmegaConf.missing_keys(cfg))
            if missing:
                wanted = " ".join(f"{key}=..." for key in missing)
                raise InputError(f"give {wanted} (innertune {command} --cfg job shows all options).")
            importlib.import_module(f"adapt.commands.{command}").main(cfg)
        except InputError as error:
            print(f"innertune {command}: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except Exception as error:
            if (refused := _refused(error)) is None:
                raise
            print(
                f"innertune {command}: {refused}. Every file that was written before is whole; a run that was begun "
                "goes on with resume=true.",
                file=sys.stderr,
            )
            raise SystemExit(1) from None

    run()


def _refused(error: BaseException | None) -> str | None:
    """What the system refused (a full disk, no permission), where an error comes of that; None where it does not."""
    while error is not None:
        number = error.errno if isinstance(error, OSError) else None
        if type(error).__name__ == "SafetensorError" and (found := re.search(r"os error (\d+)", str(error))):
            number = int(found[1])
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM):
            named = getattr(error, "filename", None)
            return os.strerror(number) + (f": '{named}'" if named else "")
        error = error.__cause__ or error.__context__
    return None


def _set_up() -> None:
    import warnings

    level = logging.INFO if is_first() else logging.ERROR
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout, force=True)
    # Advice on worker counts and the like; what a user must know we say ourselves.
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torch.utils.data")
    # Marian's tokenizer, also when it is copied, asks for what only a function that it never calls would use.
    warnings.filterwarnings("ignore", "Recommended: pip install sacremoses")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # the same of DDP's, which torch reads when it is imported
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")


if __name__ == "__main__":
    main()
