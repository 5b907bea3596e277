"""List the layers that can be read and edited, with shapes, weights and FLOPs."""

from dataclasses import asdict

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.errors import InputError
from adapt.files import user_path, write_json
from adapt.models.costs import SiteCosts, site_costs
from adapt.models.loaded import Loaded
from adapt.terminal import Table
from interventions.sites import Step, choose_sites


def main(cfg: DictConfig) -> None:
    """Run `conf/sites.yaml`: print the sites and, if `cfg.json` names a file, write them to it."""
    loaded: Loaded = build(cfg.model)
    pattern = list(cfg.sites) if isinstance(cfg.sites, ListConfig) else str(cfg.sites)
    try:
        sites = choose_sites(loaded.model.sites, pattern, cfg.part)
    except ValueError as error:
        raise InputError(str(error)) from None
    costs = site_costs(loaded.model, sites, cfg.seconds, cfg.tokens)
    if cfg.json is not None:
        path = user_path(str(cfg.json))
        try:
            write_json(path, {"model": loaded.reference, "fingerprint": loaded.fingerprint, **asdict(costs)})
        except OSError as error:
            raise InputError(f"json={path} cannot be written ({error.strerror}). Give a file.") from None
    _table(loaded.reference, costs).show()


def _table(reference: str, costs: SiteCosts) -> Table:
    inputs = [] if costs.seconds is None else [f"{costs.seconds:g} s of audio"]
    if costs.seconds is None or any(row.site.part != "encoder" for row in costs.sites):
        inputs.append(f"{costs.tokens} tokens")
    columns = ("site", "part", "units", "axis", "step", "valid steps", "output shape", "weights", "MFLOPs")
    table = Table(f"{reference}: {', '.join(inputs)}", columns, left=("part",))
    for row in costs.sites:
        table.row(
            row.site.name,
            row.site.part,
            f"{row.site.units:,}",
            str(row.site.unit_axis),
            _duration(row.site.step),
            f"{row.valid_lengths:,}",
            " × ".join(map(str, row.shape)),
            f"{row.weights:,}",
            f"{row.flops / 1e6:,.3f}",
        )
    table.rule()
    blank = [""] * 6
    count = "1 site" if len(costs.sites) == 1 else f"{len(costs.sites)} sites"
    table.row(count, *blank, f"{costs.weights:,}", f"{costs.flops / 1e6:,.3f}", strong=True)
    table.row("whole model", *blank, f"{costs.model_weights:,}", f"{costs.model_flops / 1e6:,.3f}", strong=True)
    return table


def _duration(step: Step | None) -> str:
    if step is None:
        return ""
    return "token" if step.unit == "token" else f"{1000 * step.length:g} ms"
