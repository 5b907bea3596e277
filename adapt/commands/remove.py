"""Remove an applied adaptation from a model's own file, bit for bit."""

from omegaconf import DictConfig

from adapt.models.swap_files import remove_from_file
from adapt.terminal import say


def main(cfg: DictConfig) -> None:
    """Run `conf/remove.yaml`: remove the adaptation, and print the model's fingerprints before and after."""
    level = remove_from_file(str(cfg["from"]), None if cfg.adaptation is None else str(cfg.adaptation))
    say(f"{level.after[:12]} -> {level.before[:12]}: removed '{level.adaptation}'.")
