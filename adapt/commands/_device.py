"""The device of a command, and of the training that it starts."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from adapt.build import build
from adapt.errors import InputError
from adapt.models.devices import check_accelerator, device_named, place
from adapt.models.loaded import Loaded

_KINDS = {"gpu": "cuda"}  # Lightning's names


def loaded_model(cfg: DictConfig, double: bool = True) -> Loaded:
    """Load the model of a command, on `cfg.device` and with `cfg.precision` if the command has it.

    Args:
        cfg: The options of the command.
        double: Whether the command needs 64-bit numbers, which mps lacks.

    Raises:
        InputError: there is no such model, device or precision.
    """
    device = device_named(cfg.device, double)
    return place(build(cfg.model), device, cfg.get("precision", "32"))


def base_to_train(cfg: DictConfig) -> Loaded:
    """Load the model that a command trains, on the device of its trainer; on the CPU for mps, which lacks 64 bits."""
    trainer = trainer_of(cfg)
    from adapt.training.trainer import bare_trainer  # imports Lightning, which takes seconds

    root = bare_trainer(trainer).strategy.root_device
    return place(build(cfg.model), device_named("cpu") if root.type == "mps" else root)


def trainer_of(cfg: DictConfig) -> Any:
    """Build the trainer of a command, which trains on `cfg.device`.

    Raises:
        InputError: this machine has no such device, or `cfg.trainer.accelerator` is another one than `cfg.device`.
    """
    accelerator, device = str(cfg.trainer.get("accelerator", "auto")), device_named(cfg.device)
    if accelerator != "auto":
        check_accelerator(accelerator, cfg.trainer.get("devices", 1))
        if cfg.device != "auto" and _KINDS.get(accelerator, accelerator) != device.type:
            raise InputError(
                f"device={cfg.device} and trainer.accelerator={accelerator} are different devices. Leave one of them "
                "out."
            )
        found: dict[str, Any] = {}
    else:
        found = {"accelerator": device.type}
    if ":" in str(cfg.device) and cfg.trainer.get("devices", 1) in (1, "1"):
        found["devices"] = [device.index]
    return build(OmegaConf.merge(cfg.trainer, found), "trainer")
