"""A default is written once: where a config repeats a parameter's default, the two are equal."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).parent.parent / "conf"

# Values that a config sets on purpose to something else than the signature's default, and why.
DIFFERENT = {
    ("transcribe.yaml", "loader.batch_seconds"): "decoding stores no gradients, so a larger batch fits",
    ("translate.yaml", "loader.batch_tokens"): "decoding stores no gradients, so a larger batch fits",
    ("data/accents.yaml", "source_train"): "the command line replays what the model should not forget",
    ("tuning/mix.yaml", "parts"): "Hydra adds groups only to a node that exists: +tuning@tuning.parts.lora=lora",
}


def nodes(value, path=""):
    """Every part of a config that names one of our functions: `(place in the file, node)`."""
    if isinstance(value, dict):
        if str(value.get("_target_", "")).startswith("adapt."):
            yield path, value
        for key, inner in value.items():
            yield from nodes(inner, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from nodes(inner, f"{path}[{number}]")


def function(target):
    module, _, name = target.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError:  # a method of a class: module.Class.method
        module, _, owner = module.rpartition(".")
        return getattr(getattr(import_module(module), owner), name)


def is_literal(value):
    if isinstance(value, dict):
        return "_target_" not in value and all(map(is_literal, value.values()))
    if isinstance(value, list):
        return all(map(is_literal, value))
    return not (isinstance(value, str) and ("${" in value or value == "???"))


def differences(path):
    """`key: config's value, signature's default` of every value in a file that differs from its default."""
    found = {}
    for place, node in nodes(yaml.safe_load(path.read_text())):
        parameters = inspect.signature(function(node["_target_"])).parameters
        for key, value in node.items():
            parameter = parameters.get(key)
            if key.startswith("_") or parameter is None or parameter.default is parameter.empty:
                continue
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            if is_literal(value) and value != default:
                found[f"{place}.{key}".lstrip(".")] = (value, default)
    return found


@pytest.mark.parametrize("name", sorted(str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml")))
def test_a_config_repeats_the_signature_s_defaults(name):
    expected = {key for file, key in DIFFERENT if file == name}
    found = differences(CONF / name)
    assert found.keys() == expected, found  # each as (config, signature)
