"""Write an adaptation into a model's own file."""

from omegaconf import DictConfig

from adapt.models.swap_files import apply_to_file
from adapt.terminal import say


def main(cfg: DictConfig) -> None:
    """Run `conf/apply.yaml`: apply the adaptation, and print the model's fingerprints before and after."""
    level = apply_to_file(str(cfg.to), str(cfg.adaptation))
    say(f"{level.before[:12]} -> {level.after[:12]}: replaced {len(level.tensors)} tensors of '{cfg.to}'.")
    say(f"To undo this, run: innertune remove from={cfg.to}")
