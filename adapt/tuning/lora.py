"""LoRA and its kin: factors beside frozen weights, put there by peft and merged into the weights when training ends."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from adapt.checks import check_number, check_share
from adapt.data.tuning_data import TuningData
from adapt.errors import InputError
from adapt.models.factors import add_factors, why_not
from adapt.models.model import Model
from interventions.sites import Site, choose_layers, choose_sites

log = logging.getLogger(__name__)


def lora(
    model: Model,
    r: int = 8,
    alpha: float = 16,
    dropout: float = 0.0,
    use_dora: bool = False,
    use_rslora: bool = False,
    options: Mapping[str, Any] | None = None,
    sites: str | Sequence[str] | None = None,
    layers: str | int | Sequence[str | int] | None = None,
    seed: int = 0,
    sample: TuningData | None = None,
) -> list[str]:
    """Low-rank factors of rank `r`, scaled by `alpha / r` (`use_rslora`: by `alpha / sqrt(r)`), at some sites.

    LoRA: Hu et al. 2021; `use_dora`: Liu et al. 2024. `options` are further ones of peft's `LoraConfig`. `sites` are
    globs over the model's sites, by default the projections of attention, or all linear maps where none of these is a
    site (WavLM), or all convolutions (Wav2Letter); of these the ones in `layers`, as
    `interventions.sites.choose_layers` finds them.

    Raises:
        InputError: no site is chosen, or none of those can have factors, and why; or a number is none.
    """
    check_number("alpha", alpha, above=0)
    check_share("dropout", dropout, zero=True)
    own: dict[str, Any] = {"r": r, "lora_alpha": alpha, "lora_dropout": dropout, "use_dora": use_dora}
    own |= {"use_rslora": use_rslora, **_named(options)}
    return peft(model, "LORA", own, sites, layers, seed, sample)


def peft(
    model: Model,
    method: str,
    options: Mapping[str, Any] | None = None,
    sites: str | Sequence[str] | None = None,
    layers: str | int | Sequence[str | int] | None = None,
    seed: int = 0,
    sample: TuningData | None = None,
) -> list[str]:
    """Another of peft's methods (`adapt.models.factors.METHODS`), with the options of its config, at some sites.

    `sites` and `layers` as in `lora`. IA3's `feedforward_modules` are globs over the sites: there it scales what goes
    in, elsewhere what comes out.

    Raises:
        InputError: as `lora`; there is no such method or option.
    """
    by = "lora" if method == "LORA" else "peft"
    try:
        targets = _targets(model, sites, layers)
        options = dict(_named(options))
        if method == "IA3":
            inside = options.get("feedforward_modules") or []
            globs = [str(one) for one in ([inside] if isinstance(inside, (str, int, float)) else inside)]
            options["feedforward_modules"] = [name for name in targets if any(fnmatchcase(name, one) for one in globs)]
        return add_factors(model, targets, method, options, seed)
    except ValueError as error:
        raise InputError(f"tuning={by}: {error}") from None


def _named(options: Any) -> Mapping[str, Any]:
    if not isinstance(options, (Mapping, type(None))):
        raise InputError(f"tuning.options are names and values, as '{{init_lora_weights: gaussian}}'; got {options!r}.")
    return options or {}


def _targets(model: Model, sites: str | Sequence[str] | None, layers: Any) -> list[str]:
    """The modules that get factors. Those that cannot are left out, but for those that train in another way already."""
    within = _plain_sites(model)
    if layers is not None:
        modules = {module for layer in choose_layers(model.layers, layers) for module in layer.modules}
        within = [site for site in within if site.name in modules]
    asked = choose_sites(within, sites if sites is not None else "*")
    if sites is None:
        linear = [site for site in asked if site.unit_axis == -1]
        asked = [site for site in linear if _attention(site.name)] or linear or asked
    names = [site.name for site in asked]
    reasons = {name: reason for name in names if (reason := why_not(model, name))}
    taken = [reasons[name] for name in reasons if hasattr(model.get_submodule(name), "rows") or name in _with(model)]
    if taken or len(reasons) == len(names):
        raise ValueError(" ".join(taken or reasons.values()))
    if reasons:
        log.info("No factors at %s, which cannot have them.", ", ".join(reasons))
    return [name for name in names if name not in reasons]


def _plain_sites(model: Model) -> list[Site]:
    # Where there are factors already, peft's layer has the site's name, and the module inside of it another.
    wrapped = _with(model)
    sites = [replace(site, name=site.name.removesuffix(".base_layer")) for site in model.sites]
    return [site for site in sites if not any(site.name.startswith(f"{name}.") for name in wrapped)]


def _with(model: Model) -> set[str]:
    return {name for name, module in model.named_modules() if hasattr(module, "made_by")}


def _attention(name: str) -> bool:
    return any("attn" in part or "attention" in part.lower() for part in name.split("."))
