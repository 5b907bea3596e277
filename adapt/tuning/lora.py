"""Train low-rank factors (LoRA, DoRA) or those of another peft method; they are merged when training ends."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from adapt.checks import check_number, check_share
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.models.factors import add_factors, factor_method, why_not
from adapt.models.model import Model
from adapt.tuning.tuned import Tuned
from interventions.sites import Site, choose_layers, choose_sites

log = logging.getLogger(__name__)


def lora(
    model: Model,
    data: TuningData | None = None,
    r: int = 8,
    alpha: float = 16,
    dropout: float = 0.0,
    use_dora: bool = False,
    use_rslora: bool = False,
    options: Mapping[str, Any] | None = None,
    sites: str | Sequence[str] | None = None,
    layers: str | int | Sequence[str | int] | None = None,
    seed: int = 0,
) -> Tuned:
    """Train low-rank factors at some sites (LoRA: Hu et al. 2021; DoRA: Liu et al. 2024).

    The running statistics of batch norms stay as they are, as with all of peft's methods.

    Args:
        model: The model to train.
        data: Not used.
        r: The rank of the factors.
        alpha: Their product is scaled by `alpha / r`.
        dropout: The dropout probability of the factors' inputs, from 0 to below 1.
        use_dora: Also train the magnitude of each weight vector.
        use_rslora: Scale by `alpha / sqrt(r)` instead.
        options: Further options of peft's `LoraConfig`.
        sites: Globs over the model's sites. None: the attention projections; if none of them is a site (WavLM), all
            linear layers; in a model without linear layers (Wav2Letter), all convolutions.
        layers: Only sites in these layers (`interventions.sites.choose_layers`) are used; None for all layers.
        seed: Seed of the factors' random initial values.

    Returns:
        The names of the factors.

    Raises:
        InputError: no site matches, no matching site can have factors, or a number is out of range.
    """
    check_number("alpha", alpha, above=0)
    check_share("dropout", dropout, zero=True)
    config: dict[str, Any] = {"r": r, "lora_alpha": alpha, "lora_dropout": dropout, "use_dora": use_dora}
    config |= {"use_rslora": use_rslora, **_checked(options)}
    return peft(model, data, "LORA", config, sites, layers, seed)


def peft(
    model: Model,
    data: TuningData | None = None,
    method: str = "LOHA",
    options: Mapping[str, Any] | None = None,
    sites: str | Sequence[str] | None = None,
    layers: str | int | Sequence[str | int] | None = None,
    seed: int = 0,
) -> Tuned:
    """Train by another of peft's methods.

    Args:
        model: The model to train.
        data: Not used.
        method: One of `adapt.models.factors.METHODS`.
        options: Options of the method's peft config. For IA3, `feedforward_modules` are globs over the sites at which
            it scales the input instead of the output.
        sites: As in `lora`.
        layers: As in `lora`.
        seed: Seed of random initial values.

    Returns:
        The names of the added parameters.

    Raises:
        InputError: as `lora`; or there is no such method or option.
    """
    tuning = "lora" if method == "LORA" else "peft"
    try:
        targets = _targets(model, sites, layers)
        config = dict(_checked(options))
        if method == "IA3":
            inside = config.get("feedforward_modules") or []
            globs = [str(one) for one in ([inside] if isinstance(inside, (str, int, float)) else inside)]
            config["feedforward_modules"] = [name for name in targets if any(fnmatchcase(name, one) for one in globs)]
        return Tuned.of(add_factors(model, targets, method, config, seed))
    except ValueError as error:
        raise InputError(f"tuning={tuning}: {error}") from None


def _checked(options: Any) -> Mapping[str, Any]:
    if not isinstance(options, (Mapping, type(None))):
        raise InputError(
            f"options must be names and values, such as '{{init_lora_weights: gaussian}}'; got {options!r}."
        )
    return options or {}


def _targets(model: Model, sites: str | Sequence[str] | None, layers: Any) -> list[str]:
    """Return the modules that get factors. Modules that cannot have any are left out.

    Raises:
        ValueError: a module is trained in another way already, or none can have factors.
    """
    within = _plain_sites(model)
    if layers is not None:
        modules = {module for layer in choose_layers(model.layers, layers) for module in layer.modules}
        within = [site for site in within if site.name in modules]
    asked = choose_sites(within, sites if sites is not None else "*")
    if sites is None:
        linear = [site for site in asked if site.unit_axis == -1]
        asked = [site for site in linear if _attention(site.name)] or linear or asked
    names = [site.name for site in asked]
    reasons, wrapped = why_not(model, names), _wrapped(model)
    taken = [reasons[name] for name in reasons if hasattr(model.get_submodule(name), "rows") or name in wrapped]
    if taken or len(reasons) == len(names):
        raise ValueError(" ".join(taken or reasons.values()))
    if reasons:
        log.info("No factors are added at %s: these modules cannot have any.", ", ".join(reasons))
    return [name for name in names if name not in reasons]


def _plain_sites(model: Model) -> list[Site]:
    # A module with factors is wrapped in a layer of peft's, which takes over the name of the site.
    wrapped = _wrapped(model)
    sites = [replace(site, name=site.name.removesuffix(".base_layer")) for site in model.sites]
    return [site for site in sites if not any(site.name.startswith(f"{name}.") for name in wrapped)]


def _wrapped(model: Model) -> set[str]:
    return {name for name, module in model.named_modules() if factor_method(module) is not None}


def _attention(name: str) -> bool:
    return any("attn" in part or "attention" in part.lower() for part in name.split("."))
