"""The small trained recogniser that many tests start from: its files, and how it was trained.

It is stored in `tests/data/base` because the same training ends with another network on another processor.
`python tests/trained_base.py` trains it again. Tests that depend on single transcripts may then need other examples.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tone_speech import TINY_WORDS, write_speech, write_tones

BASE = Path(__file__).parent / "data" / "base"
MAX_WER = 8.0  # per cent, on the test set of the accent that it was trained on

# At most 2 % with seeds 0 to 3. With 120 utterances instead of 360 it was up to 33 %, depending on the processor.
# Longer training makes the model so confident that it refuses corrections of the other accent.
RECIPE = [
    *TINY_WORDS,
    "data=manifest", "data.train=train.jsonl", "data.validation=low_validation.jsonl", "data.test=test.jsonl",
    "trainer.max_epochs=9", "loader.batch_seconds=3.4", "optimizer.lr=0.004", "warmup=0.2", "output=base",
]  # fmt: skip


def train_base(folder: Path) -> Path:
    """Write the tone speech into `folder`, train on its lower accent, and return the folder of the finished run."""
    write_speech(folder)
    write_tones(folder, "train", 360, seed=7)
    write_tones(folder, "test", 100, seed=99)
    command = [sys.executable, "-m", "adapt.cli", "pretrain", *RECIPE]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE)
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return folder / "base"


def copy_base(folder: Path) -> Path:
    """Copy the stored run to `folder`, where tests may write into it."""
    return Path(shutil.copytree(BASE, folder))


def main() -> None:
    """Replace the stored run."""
    with tempfile.TemporaryDirectory() as folder:
        run = train_base(Path(folder))
        shutil.rmtree(BASE, ignore_errors=True)
        shutil.copytree(run, BASE, ignore=shutil.ignore_patterns("checkpoints", "log"))
    print(f"wrote {BASE}", file=sys.stderr)


if __name__ == "__main__":
    main()
