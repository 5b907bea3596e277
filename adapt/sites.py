"""`innertune sites`: where a model can be read and changed, with the shape, the weights and the FLOPs of each place."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from torch import Tensor

from adapt.build import build
from adapt.data.manifest import Utterance
from adapt.data.pairs import Pair
from adapt.errors import InputError
from adapt.files import write_json
from adapt.flops import counted_flops
from adapt.inference import eval_mode
from adapt.models.model import Model
from interventions.sites import Site, choose_sites


@dataclass(frozen=True)
class SiteCost:
    """A site, and what it puts out and costs in one forward pass.

    `shape` is that of its output, `own_steps` how many of its time steps are the example's own (Whisper pads all
    audio to one window). `weights` counts the numbers in its parameters. `flops` counts a multiplication and an
    addition as two; biases, norms and activation functions are not counted.
    """

    site: Site
    shape: tuple[int, ...]
    own_steps: int
    weights: int
    flops: int


@dataclass(frozen=True)
class SiteCosts:
    """The sites of a model in one forward pass over `seconds` of audio (None: it reads text, `tokens` of it), and for a
    decoder with `tokens` of text.

    `weights` are those of all `sites` together, `model_weights` the whole model's, tied ones once; `flops` and
    `model_flops` likewise (a whole pass has attention's products and the spectrogram besides).
    """

    seconds: float | None
    tokens: int
    sites: tuple[SiteCost, ...]
    weights: int
    flops: int
    model_weights: int
    model_flops: int


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


def site_costs(model: Model, sites: Sequence[Site] | None = None, seconds: float = 1.0, tokens: int = 10) -> SiteCosts:
    """Run a model over silence, or over tokens that say nothing, once; say what each site puts out and costs.

    `sites` None is each of `model.sites`.

    The model's mode (train or eval) is as before afterwards.

    Raises:
        InputError: the model cannot read that many seconds or tokens.
    """
    inputs = _example(model, seconds, tokens)
    sites = model.sites if sites is None else sites
    before: dict[str, int] = {}
    found: dict[str, tuple[tuple[int, ...], int]] = {}

    def start(name: str) -> None:
        before[name] = counter.get_total_flops()

    def end(name: str, output: Tensor) -> None:
        found[name] = tuple(output.shape), counter.get_total_flops() - before[name]

    handles = []
    try:
        for site in sites:
            module = model.get_submodule(site.name)
            handles.append(module.register_forward_pre_hook(lambda *_, name=site.name: start(name)))
            handles.append(module.register_forward_hook(lambda *parts, name=site.name: end(name, parts[2])))
        # A weight norm computes no weight under the counter in inference mode.
        with eval_mode(model), torch.no_grad(), counted_flops() as counter:
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()

    length, read = torch.tensor([inputs[0].shape[1]]), torch.tensor([tokens])
    rows, together = [], {}
    for site in sites:
        if site.name not in found:
            raise InputError(f"The network never calls '{site.name}', and so it puts out nothing there. Leave it out.")
        own = {id(parameter): parameter.numel() for parameter in model.get_submodule(site.name).parameters()}
        together |= own
        steps = int(model.own_steps(site, length, read))
        rows.append(SiteCost(site, found[site.name][0], steps, sum(own.values()), found[site.name][1]))
    return SiteCosts(
        seconds=seconds if model.reader.unit == "seconds" else None,
        tokens=tokens,
        sites=tuple(rows),
        weights=sum(together.values()),
        flops=sum(row.flops for row in rows),
        model_weights=sum(parameter.numel() for parameter in model.parameters()),
        model_flops=counter.get_total_flops(),
    )


def _example(model: Model, seconds: Any, tokens: Any) -> tuple[Tensor, ...]:
    for name, value, kinds in (("seconds", seconds, (int, float)), ("tokens", tokens, int)):
        if isinstance(value, bool) or not isinstance(value, kinds) or not isfinite(value) or value <= 0:
            raise InputError(f"{name} must be a number above 0{' without a fraction' * (kinds is int)}, got {value!r}.")
    if model.reader.unit == "tokens":
        reason = model.unfit(Pair("", ""), tokens, training=False)
        if reason is not None:
            raise InputError(f"tokens={tokens}: {reason}")
        return model.dummy(tokens, tokens)
    samples = round(seconds * model.sample_rate)
    reason = model.unfit(Utterance(Path("silence"), ""), samples, training=False)
    if reason is not None:
        raise InputError(f"seconds={seconds}: the audio {reason}")
    return model.dummy(samples, tokens)


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
            site.name, site.part, f"{site.units:,}", str(site.unit_axis), lasts, f"{row.own_steps:,}",
            " × ".join(map(str, row.shape)), f"{row.weights:,}", f"{row.flops / 1e6:,.3f}",
        )  # fmt: skip
    table.add_section()
    blank = [""] * 6
    number = f"{len(costs.sites)} site{'s' * (len(costs.sites) != 1)}"
    table.add_row(f"[bold]{number}", *blank, f"{costs.weights:,}", f"{costs.flops / 1e6:,.3f}")
    table.add_row("[bold]whole model", *blank, f"{costs.model_weights:,}", f"{costs.model_flops / 1e6:,.3f}")
    return table
