"""Export an adaptation as an adapter of peft: adapter_config.json and adapter_model.safetensors, without the base."""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from adapt.data.example import Example
from adapt.errors import InputError
from adapt.export.answers import Answer, greedy_answer
from adapt.export.packages import version_of
from adapt.export.proof import Engine, Written
from adapt.models.adaptation_files import read_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.factors import NAME
from adapt.models.hf_translation import HFTranslation
from adapt.models.loaded import Loaded
from adapt.models.locate import is_hub_id
from adapt.models.model import Model
from adapt.models.model_files import read_safetensors

_PREFIX = "base_model.model."
# How far merged weights may be from those that were trained: relative to the change, and to the size.
_CHANGE_TOLERANCE, _SIZE_TOLERANCE = 1e-3, 1e-6
_OTHER = "Use format=transformers, which writes the whole model."
_PER_MODULE = {"r": "rank_pattern", "lora_alpha": "alpha_pattern"}  # what peft can set for each module of one adapter


def write_peft(loaded: Loaded, made: Path, base_model: str | None = None) -> Written:
    """Write the factors of an adaptation (LoRA, DoRA and others of peft's methods) as an adapter.

    Whole modules that were trained besides, such as norms, become peft's `modules_to_save`. `PeftModel.from_pretrained`
    puts the adapter on the base. The task type is SEQ_2_SEQ_LM for translation, and none for speech: peft's class for
    sequences passes `input_ids`, which Whisper and CTC models do not take.

    Args:
        loaded: The adaptation, as `load_model` returns it.
        made: An existing, empty folder.
        base_model: The name of the base that the adapter names, such as OWNER/NAME on the hub; None for that of the
            run, which may be a path of this machine.

    Raises:
        InputError: the model is no adaptation with factors, its base is not in the transformers format, or peft cannot
            hold what was trained.
    """
    facts, tensors, base = _adaptation(loaded)
    factors = {name: tensor for name, tensor in tensors.items() if ":" in name}
    config = _config(facts, base)
    config.base_model_name_or_path = base_model or facts["base"]["reference"]
    state = {f"{_PREFIX}{name.replace(':', '.').replace(f'.{NAME}', '')}": one for name, one in factors.items()}
    whole = _whole_modules(facts, loaded.model, base, {name.partition(":")[0] for name in factors})
    config.modules_to_save = sorted(whole) or None
    for module, values in whole.items():
        state |= {f"{_PREFIX}{module}.{name}": tensor for name, tensor in values.items()}
    _save(config, state, made)
    reference = facts["base"]["reference"]
    _check(loaded.model, base, reference, made)
    engine = Engine(version_of("peft", "peft"), ("peft",), lambda: _peft(reference, made))
    return Written("peft", _usage(base, config.base_model_name_or_path), (engine,), (), "adapter")


def _adaptation(loaded: Loaded) -> tuple[dict[str, Any], dict[str, Tensor], Model]:
    try:
        path, facts = read_adaptation(loaded.reference)
    except InputError:
        raise InputError(
            f"format=peft is for adaptations that trained factors (tuning=lora); '{loaded.reference}' is a whole "
            f"model. {_OTHER}"
        ) from None
    if not facts.get("factors"):
        raise InputError(
            f"format=peft is for adaptations that trained factors (tuning=lora); '{loaded.reference}' changed the "
            f"weights themselves. {_OTHER}"
        )
    reference = facts["base"]["reference"]
    base = load_model(reference)
    if "base" in base.header or not hasattr(base.model.net, "save_pretrained"):
        raise InputError(
            f"The base of '{loaded.reference}' is '{reference}', which transformers does not load by itself, so peft "
            f"cannot put an adapter on it. {_OTHER}"
        )
    return facts, read_safetensors(path.parent / "weights.safetensors")[1], base.model


def _config(facts: Mapping[str, Any], base: Model) -> Any:
    """Return peft's config. One adapter has one method; modules may differ in the rank and in alpha."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    first, *others = facts["factors"]
    options, patterns = dict(first["options"]), {pattern: {} for pattern in _PER_MODULE.values()}
    for group in others:
        different = {key for key in {*options, *group["options"]} if options.get(key) != group["options"].get(key)}
        if group["method"] != first["method"] or group["method"] != "LORA" or not different <= _PER_MODULE.keys():
            raise InputError(f"The adaptation mixes several of peft's methods, and one adapter has one. {_OTHER}")
        for key in different:
            patterns[_PER_MODULE[key]] |= dict.fromkeys(group["modules"], group["options"][key])
    if first["method"] == "LORA":
        options |= {name: pattern for name, pattern in patterns.items() if pattern}
    configs: dict[Any, Any] = dict(PEFT_TYPE_TO_CONFIG_MAPPING)
    config = configs[first["method"]](
        target_modules=[name for group in facts["factors"] for name in group["modules"]], **options
    )
    config.inference_mode = True
    if isinstance(base, HFTranslation):
        config.task_type = "SEQ_2_SEQ_LM"
    else:  # what peft writes for a model without a task, with which AutoPeftModel finds the class
        net = type(base.net)
        config.auto_mapping = {"base_model_class": net.__name__, "parent_library": net.__module__}
    return config


def _whole_modules(
    facts: Mapping[str, Any], model: Model, base: Model, factored: set[str]
) -> dict[str, dict[str, Tensor]]:
    """Return the parameters of the modules that were trained besides those with factors, by module.

    Raises:
        InputError: peft cannot store one of them.
    """
    whole: dict[str, dict[str, Tensor]] = {}
    own, shared = dict(model.net.named_modules()), _tied(base.net)
    for name in facts["tensors"]:
        module, _, kind = name.rpartition(".")
        if module in factored or name in shared or any(True for _ in own[module].children()):
            raise InputError(f"peft cannot store '{name}', which the adaptation changed besides its factors. {_OTHER}")
        if kind not in dict(own[module].named_parameters(recurse=False)):
            raise InputError(f"peft does not store '{name}', which is no parameter. {_OTHER}")
        whole[module] = {key: value.detach().cpu().contiguous() for key, value in own[module].state_dict().items()}
    return whole


def _tied(net: nn.Module) -> set[str]:
    places: dict[int, list[str]] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        places.setdefault(id(parameter), []).append(name)
    return {name for names in places.values() if len(names) > 1 for name in names}


def _save(config: Any, state: Mapping[str, Tensor], made: Path) -> None:
    from safetensors.torch import save_file

    config.save_pretrained(str(made))
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, made / "adapter_model.safetensors",
              metadata={"format": "pt"})  # fmt: skip


def _check(model: Model, base: Model, reference: str, made: Path) -> None:
    """Check that the adapter on the base, merged, has the weights of the model. Raises InputError."""
    before, expected = base.net.state_dict(), model.net.state_dict()
    after = _adapter(load_model(reference).model, made).merge_and_unload(safe_merge=True).state_dict()
    for name, tensor in expected.items():
        changed = float((tensor.float() - before[name].float()).norm())
        off = float((after[name].float() - tensor.float()).norm())
        if off > _CHANGE_TOLERANCE * changed + _SIZE_TOLERANCE * float(tensor.float().norm()):
            raise InputError(f"peft does not give '{name}' the value that was trained. {_OTHER}")


def _peft(reference: str, made: Path) -> Callable[[Example], Answer]:
    base = load_model(reference).model
    _adapter(base, made)  # puts its layers into the network
    return lambda example: greedy_answer(base, example)


def _adapter(base: Model, made: Path) -> Any:
    from peft import PeftModel

    net: Any = base.net
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses a name that transformers will remove
        return PeftModel.from_pretrained(net, str(made)).eval()


def _usage(base: Model, reference: str) -> str:
    net = type(base.net).__name__
    place = reference if is_hub_id(reference) else "BASE"
    return (
        f"```python\nfrom peft import PeftModel\nfrom transformers import {net}\n\n"
        f'base = {net}.from_pretrained("{place}")\nmodel = PeftModel.from_pretrained(base, "FOLDER")\n```'
    )
