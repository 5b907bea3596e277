"""The commands and the Python of the README and the site: how to find them, and what makes them small."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Commands that no test runs, with the reason.
NOT_RUN = {
    "scripts/demo": "sets up an environment; it is `innertune adapt`, which is run",
    "scripts/test": "runs this test",
    "scripts/docs": "tests/docs/test_site.py builds the site",
    "pip install": "would change the environment; tests/test_wheel.py tries the wheel",
    "trainer.accelerator=gpu": "needs four GPUs",
    "corrections=swept.db": "makes a memory after a sweep of layers, as test_layer_sweep.py does",
    "innertune studio": "serves until somebody stops it; tests/adapt/studio uses it in a browser",
}
# Names on the Hugging Face hub are replaced by small models of the same family.
REPLACED = {"openai/whisper-small": "whisper"}
# One example does the same as many.
SMALLER = {"penalty.examples": "4", "measure.max_examples": "1", "measure.max_words": "2"}
TRAINING = {"trainer.max_epochs": "1", "loader.speeds": "[1.0]"}
REPORT = {"causes": "0", "compare_neurons": "0", "audio_clips": "0", "non_speech": "0"}
SIZES = {"train": "12", "validation": "4", "test": "8", "source_test": "8"}
DEFAULT_DATA = {"evaluate": "manifest"}
EXPERIMENTS = {"translation_domain": "domains", "english_to_german": "accents", "us_to_scottish": "accents"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: `bash` or `python`, and its text."""

    language: str
    text: str
    line: int


def pages() -> list[Path]:
    """Return the README and all pages of the site that have commands or Python."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    left_out = ("_build",)
    return [path for path in found if not set(path.parts) & set(left_out) and blocks(path)]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page that must run. What the site runs itself (`{code-cell}`) is not among them."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(bash|console|python)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [Block(match[1], match[2], text.count("\n", 0, match.start()) + 1) for match in found]


def commands(block: Block) -> list[str]:
    """Return the lines of a block, with continued lines joined; of a console session, what is typed."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line for line in lines if line.strip()]


def reason(line: str) -> str | None:
    """Return why a line is not run, or None."""
    return next((why for part, why in NOT_RUN.items() if part in line), None)


def small(line: str) -> list[str]:
    """Return the arguments of an `innertune` line, with small numbers where it would take long."""
    for name, ours in REPLACED.items():
        line = line.replace(name, ours)
    program, command, *options = shlex.split(line, comments=True)
    assert program == "innertune", line
    given = dict(option.split("=", 1) for option in options if "=" in option)
    sizes = {key: value for key, value in SMALLER.items() if key in given}
    if command in ("adapt", "pretrain"):
        sizes |= TRAINING
    if command in ("adapt", "compare"):
        sizes |= REPORT
    if command == "steer":
        sizes["coefficients"] = "[1]"
    data = given.get("data") or EXPERIMENTS.get(given.get("experiment", "")) or DEFAULT_DATA.get(command, "accents")
    synthetic = data in ("accents", "domains") and given.get("experiment", "us_to_scottish") in EXPERIMENTS
    if synthetic and command in ("adapt", "pretrain", "steer", "choose", "introspect", "compare", "evaluate"):
        sizes |= {f"data.{name}": size for name, size in SIZES.items()}
        if given.get("tuning") == "auto":  # trials train on some and compare on others
            sizes["data.train"] = "40"
        if "data.source_train" in given:
            sizes["data.source_train"] = "12"
    if given.get("measure") == "bias":  # groups need 20 examples
        sizes |= {"data.test": "24", "data.source_test": "24"} if synthetic else {}
    kept = [option for option in options if option.split("=", 1)[0] not in sizes]
    if {"--cfg", "--help"} & set(options):
        return [command, *options]
    return [command, *kept, *(f"{key}={value}" for key, value in sizes.items())]


def small_python(text: str) -> str:
    """Return Python with small numbers of examples and epochs."""
    text = re.sub(r"\b(train|validation|test|source_test)=([1-9]\d\d?)\b", r"\1=12", text)
    return text.replace("epochs=2", "epochs=1").replace(
        "compare(base, adapted, splits)", "compare(base, adapted, splits, causes=2, compare_neurons=0)"
    )
