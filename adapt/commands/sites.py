"""List the layers that can be read and edited, with shapes, weights and FLOPs."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.errors import InputError
from adapt.files import user_path, write_json
from adapt.models.costs import SiteCosts, site_costs
from adapt.models.loaded import Loaded
from interventions.sites import Step, choose_sites

if TYPE_CHECKING:
    from rich.table import Table


def main(cfg: DictConfig) -> None:
    """Run `conf/sites.yaml`: print the sites and, if `cfg.json` names a file, write them to it."""
    from rich.console import Console

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
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # files and pipes have no width; do not break names into lines
    console.print(_table(loaded.reference, costs))


def _table(reference: str, costs: SiteCosts) -> "Table":
    from rich.table import Table

    inputs = [] if costs.seconds is None else [f"{costs.seconds:g} s of audio"]
    if costs.seconds is None or any(row.site.part != "encoder" for row in costs.sites):
        inputs.append(f"{costs.tokens} tokens")
    table = Table(title=f"{reference}: {', '.join(inputs)}", title_justify="left")
    table.add_column("site", overflow="fold")
    table.add_column("part")
    for column in ("units", "axis", "step", "valid steps", "output shape", "weights", "MFLOPs"):
        table.add_column(column, justify="right")
    for row in costs.sites:
        table.add_row(
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
    table.add_section()
    blank = [""] * 6
    count = "1 site" if len(costs.sites) == 1 else f"{len(costs.sites)} sites"
    table.add_row(f"[bold]{count}", *blank, f"{costs.weights:,}", f"{costs.flops / 1e6:,.3f}")
    table.add_row("[bold]whole model", *blank, f"{costs.model_weights:,}", f"{costs.model_flops / 1e6:,.3f}")
    return table


def _duration(step: Step | None) -> str:
    if step is None:
        return ""
    return "token" if step.unit == "token" else f"{1000 * step.length:g} ms"
