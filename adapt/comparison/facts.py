"""What a reader needs to judge or repeat a run: date, command, versions, machine, amount of data, seed."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

import torch

from adapt.data.example import Example
from adapt.models.model import Model

_REPORTED = {"torch": "torch", "torchaudio": "torchaudio", "transformers": "transformers", "peft": "peft"}


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run.

    Attributes:
        date: When the run ended, in UTC, as ISO 8601.
        command: The command line; empty if the run was started from Python.
        versions: The versions of innertune, Python and the libraries that computed the result.
        machine: The operating system, processors, memory and graphics card.
        examples: The number of examples in each split ("train", "validation", "target", "source", ...).
        hours: The hours of speech in each split; empty for texts.
        seed: The seed; None if nothing was random.
        learning_rate: The peak learning rate; None if nothing was trained.
        defaults: One sentence on the options that the model's family filled in; empty if there were none.
    """

    date: str
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    examples: dict[str, int] = field(default_factory=dict)
    hours: dict[str, float] = field(default_factory=dict)
    seed: int | None = None
    learning_rate: float | None = None
    defaults: str = ""


def run_facts(
    model: Model,
    splits: Mapping[str, Sequence[Example]],
    command: str = "",
    seed: int | None = None,
    learning_rate: float | None = None,
    defaults: str = "",
) -> RunFacts:
    """Collect the facts about a run that is ending now.

    Args:
        model: The model, which measures the length of its examples.
        splits: The examples of each split; empty ones are left out.
        command: The command line.
        seed: The seed of the run.
        learning_rate: The peak learning rate.
        defaults: What the model's family filled in.
    """
    present = {name: examples for name, examples in splits.items() if examples}
    hours = {}
    if model.reads_audio:
        for name, examples in present.items():
            hours[name] = sum(model.reader.length(example) for example in examples) / 3600
    return RunFacts(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        versions=_versions(),
        machine=_machine(),
        examples={name: len(examples) for name, examples in present.items()},
        hours=hours,
        seed=seed,
        learning_rate=learning_rate,
        defaults=defaults,
    )


def _versions() -> dict[str, str]:
    """Return the versions of the libraries that are loaded."""
    loaded = {name: version(name) for name, module in _REPORTED.items() if module in sys.modules}
    return {"innertune": version("innertune"), "Python": platform.python_version(), **loaded}


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = [f"{platform.system()} on {platform.machine()}", f"{cores} CPU core{'s' * (cores != 1)}"]
    if hasattr(os, "sysconf"):
        parts.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB of memory")
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)
