"""List the layers that can be read and edited, with shapes, weights and FLOPs."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig

from adapt.build import build
from adapt.errors import InputError
from adapt.files import write_json
from adapt.models.costs import SiteCosts, site_costs
from interventions.sites import choose_sites


def main(cfg: DictConfig) -> None:
    """Print the sites that `conf/sites.yaml` asks for, and write them to `cfg.json` where it names a file."""
    from rich.console import Console

    loaded = build(cfg.model)
    try:
        pattern = list(cfg.sites) if isinstance(cfg.sites, ListConfig) else str(cfg.sites)
        sites = choose_sites(loaded.model.sites, pattern, cfg.part)
    except ValueError as error:
        raise InputError(str(error)) from None
    costs = site_costs(loaded.model, sites, cfg.seconds, cfg.tokens)
    if cfg.json is not None:
        path = Path(str(cfg.json)).expanduser()
        try:
            write_json(path, {"model": loaded.reference, "fingerprint": loaded.fingerprint, **asdict(costs)})
        except OSError as error:
            raise InputError(f"json={path} cannot be written ({error.strerror}). Give a file.") from None
    console = Console()
    # A file or a pipe has no width: names stay whole, a line each.
    (console if console.is_terminal else Console(width=200)).print(_table(loaded.reference, costs))


def _table(reference: str, costs: SiteCosts) -> Any:
    from rich.table import Table

    read = [] if costs.seconds is None else [f"{costs.seconds:g} s of audio"]
    if costs.seconds is None or any(row.site.part != "encoder" for row in costs.sites):
        read.append(f"{costs.tokens} tokens")
    table = Table(title=f"{reference}: {', '.join(read)}", title_justify="left")
    table.add_column("site", overflow="fold")
    table.add_column("part")
    for column in ("units", "axis", "step", "own steps", "output shape", "weights", "MFLOPs"):
        table.add_column(column, justify="right")
    for row in costs.sites:
        site, step = row.site, row.site.step
        lasts = "token" if step.unit == "token" else f"{1000 * step.length:g} ms"
        table.add_row(
            site.name, site.part, f"{site.units:,}", str(site.unit_axis), lasts, f"{row.valid_lengths:,}",
            " × ".join(map(str, row.shape)), f"{row.weights:,}", f"{row.flops / 1e6:,.3f}",
        )  # fmt: skip
    table.add_section()
    blank = [""] * 6
    number = f"{len(costs.sites)} site{'s' * (len(costs.sites) != 1)}"
    table.add_row(f"[bold]{number}", *blank, f"{costs.weights:,}", f"{costs.flops / 1e6:,.3f}")
    table.add_row("[bold]whole model", *blank, f"{costs.model_weights:,}", f"{costs.model_flops / 1e6:,.3f}")
    return table
