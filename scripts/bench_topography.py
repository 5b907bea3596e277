#!/usr/bin/env python3
"""What topographic maps cost and what they are worth, beside UMAP with the papers' swarm and other layouts.

    scripts/bench_topography.py                        # 250 and 2,000 units, all layouts but those that take minutes
    scripts/bench_topography.py --slow                 # those too: swarms and graphs of 2,000 units, 5 minutes
    scripts/bench_topography.py --layouts sorted_grid tsne --rounds 5 --cache acts.npz
    scripts/bench_topography.py --learned              # instead: maps that are learned, at several strengths

Profiles are those of a torchaudio Wav2Letter (23 M weights) that was trained for 260 steps on synthetic letters: 30
pairs of gliding formants in six clusters, in noise. They are the mean activations of each letter less those of all,
behind the eighth convolution (250 units) and the ninth (2,000). Training takes three minutes; `--cache` keeps them.

`cpu` is the process's CPU time, one thread, the median over rounds, without the first (`cold`, in which libraries are
imported and compiled); `wall` is the same by the clock. trust, local, moran, spacing and hull are those of
adapt/introspect/topography/quality.py; resize is the papers' own figure (published.py). An asterisk marks what misses a
goal of this project.
"""

import argparse
import importlib.metadata
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.introspect.topography.align import align_layers
from adapt.introspect.topography.draw import Canvas
from adapt.introspect.topography.layouts import graph, pca, random, som, sorted_grid, swarm, tsne, umap
from adapt.introspect.topography.loss import TopographicLoss
from adapt.introspect.topography.published import stability
from adapt.introspect.topography.quality import morans_i, quality
from interventions.sites import find_sites

LETTERS, BANDS, FRAMES = 30, 40, 12  # frames a letter
GOALS = {
    250: {"cpu": 0.8, "trust": 0.85, "local": 0.54, "moran": 0.41, "spacing": 0.02, "hull": 0.98},
    2000: {"cpu": 11.0, "trust": 0.92, "local": 0.40, "moran": 0.64, "spacing": 0.02, "hull": 0.98},
}
HIGHER = ("trust", "moran", "hull")
Layout = Callable[[np.ndarray], np.ndarray]


def swarmed(layout: Callable[..., np.ndarray]) -> Layout:
    """A layout without a grid, spread out by the swarm, as in the papers."""
    return lambda profiles: swarm(profiles, start=layout(profiles, grid=False))


LAYOUTS: dict[str, Layout] = {
    "sorted_grid": sorted_grid,
    "sorted_grid, cosine": lambda profiles: sorted_grid(profiles, distance="cosine"),
    "tsne": tsne,
    "tsne, cosine": lambda profiles: tsne(profiles, distance="cosine"),
    "tsne, no grid": lambda profiles: tsne(profiles, grid=False),
    "umap": umap,
    "umap, no grid": lambda profiles: umap(profiles, grid=False),
    "umap + swarm": swarmed(lambda profiles, grid: umap(profiles, distance="euclidean", grid=grid)),
    "pca": pca,
    "som": som,
    "graph": graph,
    "swarm": swarm,
    "random": random,
}
SLOW = ("umap + swarm", "graph", "swarm")


@dataclass(frozen=True)
class Row:
    """One layout of one layer; times in seconds."""

    layout: str
    units: int
    cold: float
    cpu: float
    wall: float
    trust: float
    local: float
    moran: float
    spacing: float
    hull: float
    resize: float


class Letters:
    """Synthetic letters: each a pair of gliding formants, near those of the others of its cluster."""

    def __init__(self, seed: int) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        cluster = torch.randint(6, (LETTERS,), generator=self.draw)
        start = 4 + (BANDS - 8) * torch.rand(6, 2, generator=self.draw)[cluster]
        start = start + 2 * torch.randn(LETTERS, 2, generator=self.draw)
        way = torch.linspace(0, 1, FRAMES) * 4 * torch.randn(LETTERS, 2, 1, generator=self.draw)
        apart = torch.arange(BANDS).view(-1, 1) - (start.unsqueeze(-1) + way).unsqueeze(2)
        self.shapes = (-((apart / 1.5) ** 2) / 2).exp().sum(1)  # (letters, bands, frames)

    def batch(self, examples: int, letters: int) -> tuple[Tensor, Tensor]:
        """Spectrograms `(examples, bands, time)` and the letter of each frame `(examples, time)`."""
        said = torch.randint(LETTERS, (examples, letters), generator=self.draw)
        loud = 0.7 + 0.6 * torch.rand(examples, letters, 1, 1, generator=self.draw)
        x = (self.shapes[said] * loud).transpose(1, 2).flatten(2)
        x = x + 0.2 * torch.randn(x.shape, generator=self.draw)
        return (x - x.mean()) / x.std(), said.repeat_interleave(FRAMES, 1)


def trained(letters: Letters, steps: int) -> tuple[nn.Sequential, float]:
    """A Wav2Letter that was trained a little, and the share of frames it named right in the last 20 steps."""
    import torchaudio

    net = torchaudio.models.Wav2Letter(num_classes=LETTERS, input_type="mfcc", num_features=BANDS).acoustic_model
    net = net[:-1]  # the rectifier behind its output cuts gradients off
    with torch.no_grad():  # unit variance in each layer, by the data: its own start does not leave chance for long
        hidden, _ = letters.batch(4, 16)
        for module in net:
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
                module.weight /= module(hidden).std((0, 2)).view(-1, 1, 1) + 1e-6
                module.bias -= module(hidden).mean((0, 2))
                hidden = module(hidden).relu()
    optimizer, right = torch.optim.Adam(net.parameters(), 2e-4), []
    for step in range(steps):
        x, said = letters.batch(4, 8)
        logits, said = aligned(net(x), said)
        F.cross_entropy(logits, said).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        right.append(float((logits.argmax(1) == said).float().mean()))
        if step % 50 == 49:
            print(f"training, step {step + 1}: {statistics.mean(right[-20:]):.2f} of frames right", flush=True)
    return net, statistics.mean(right[-20:] or [0.0])


def aligned(activations: Tensor, said: Tensor) -> tuple[Tensor, Tensor]:
    """Activations `(examples, units, steps)` and the letter of each step; a step is two frames."""
    said = said[:, ::2]
    steps = min(activations.shape[2], said.shape[1])
    return activations[:, :, :steps], said[:, :steps]


@torch.no_grad()
def profiles_of(
    net: nn.Sequential, letters: Letters, layers: dict[str, int], batches: int = 24
) -> dict[str, np.ndarray]:
    """Mean activation of each letter less the mean over letters, `(units, letters)`, behind rectifiers by number."""
    sums: dict[str, Tensor] = {}
    counts = torch.zeros(LETTERS)
    for _ in range(batches):
        hidden, frames = letters.batch(4, 16)
        for number, module in enumerate(net):
            hidden = module(hidden)
            name = next((name for name, at in layers.items() if at == number), None)
            if name is not None:
                held, said = aligned(hidden, frames)
                own = sums.setdefault(name, torch.zeros(LETTERS, held.shape[1]))
                own.index_add_(0, said.flatten(), held.transpose(1, 2).flatten(0, 1))
        counts += torch.bincount(said.flatten(), minlength=LETTERS)
    means = {name: own / counts.unsqueeze(1) for name, own in sums.items()}
    return {name: (mean - mean.mean(0)).T.double().numpy() for name, mean in means.items()}


def made_profiles(steps: int, seed: int) -> dict[str, np.ndarray]:
    """Profiles of the two layers that are laid out."""
    torch.manual_seed(seed)
    letters = Letters(seed)
    net, right = trained(letters, steps)
    print(f"{right:.2f} of frames right")
    return profiles_of(net, letters, {"250": 15, "2000": 17})


def measure(name: str, profiles: np.ndarray, rounds: int) -> Row:
    """Lay profiles out `rounds` times after a first; raises where two maps differ."""
    cpu, wall, first = [], [], None
    for _ in range(rounds + 1):
        began, at = time.process_time(), time.perf_counter()
        points = LAYOUTS[name](profiles)
        cpu.append(time.process_time() - began)
        wall.append(time.perf_counter() - at)
        first = points if first is None else first
        if not np.array_equal(points, first):
            raise RuntimeError(f"{name}: two maps of the same profiles differ.")
    found = quality(points, profiles)
    return Row(
        name, len(profiles), cpu[0], statistics.median(cpu[1:]), statistics.median(wall[1:]), found.trust,
        found.locality, found.moran, found.spacing, found.hull, stability(points, profiles).resize,
    )  # fmt: skip


def show(rows: list[Row]) -> None:
    """Print rows of one layer, an asterisk behind what misses its goal."""
    keys = [field.name for field in fields(Row)][2:]
    goals = GOALS.get(rows[0].units, {})
    print(f"\n{rows[0].units} units\n{'':22}" + "".join(f"{key:>9}" for key in keys))
    for row in rows:
        cells = []
        for key in keys:
            value, goal = getattr(row, key), goals.get(key)
            missed = goal is not None and (round(value, 3) < goal if key in HIGHER else round(value, 3) > goal)
            cells.append(f"{f'{value:.3g}' if value >= 100 else f'{value:.3f}'}{'*' if missed else ' '}".rjust(9))
        print(f"{row.layout:22}" + "".join(cells), flush=True)


def others(profiles: dict[str, np.ndarray]) -> dict[str, float]:
    """CPU seconds of what else is done with a map: alignment, drawing, and the loss of a layer that is laid out."""
    (small, few), (large, many) = ((sorted_grid(each), each) for each in profiles.values())
    conv = nn.Conv1d(250, 2000, 32)
    loss = TopographicLoss(conv, find_sites(conv))
    x = torch.randn(4, 250, 48)

    def step(lay_out: bool) -> None:
        made = conv(x).square().mean()
        (made + loss() if lay_out else made).backward()

    def drawn_apart() -> None:
        for group in range(LETTERS):
            Canvas(large).images(many[:, [group]])

    tasks: dict[str, Callable[[], object]] = {
        f"turn {len(large)} units onto {len(small)}": lambda: align_layers(large, many, small, few),
        f"draw {LETTERS} groups": lambda: Canvas(large).images(many),
        f"draw {LETTERS} groups, a triangulation each": drawn_apart,
        "quality figures": lambda: quality(large, many),
        "a convolution of 16 M weights, forward and backward": lambda: step(False),
        "the same with TopographicLoss": lambda: step(True),
    }
    found = {}
    for name, task in tasks.items():
        times = []
        for _ in range(4):
            began = time.process_time()
            task()
            times.append(time.process_time() - began)
        found[name] = statistics.median(times[1:])
    return found


def learned(strengths: list[float], steps: int, seed: int) -> list[tuple[float, float, list[float], list[float]]]:
    """Twins of a small network (three convolutions of 144 units), trained with `TopographicLoss` of several strengths.

    For each: the share of frames it names right in letters it was not trained on, and, by layer, the mean cosine of
    neighbouring units' weights and Moran's I of what the units respond to, on the grid that the loss laid them on.
    """
    found = []
    for strength in strengths:
        torch.manual_seed(seed)
        letters = Letters(seed)
        sizes = [(BANDS, 144, 9, 2, 4), (144, 144, 7, 1, 3), (144, 144, 7, 1, 3)]
        layers = [module for size in sizes for module in (nn.Conv1d(*size), nn.ReLU())]
        net = nn.Sequential(*layers, nn.Conv1d(144, LETTERS, 1))
        loss = TopographicLoss(net, find_sites(net, "[024]"), strength)
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        for _ in range(steps):
            x, said = letters.batch(4, 8)
            logits, said = aligned(net(x), said)
            (F.cross_entropy(logits, said) + loss()).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            x, said = letters.batch(32, 16)
            logits, said = aligned(net(x), said)
            right = float((logits.argmax(1) == said).float().mean())
        profiles = profiles_of(net, letters, {"0": 1, "2": 3, "4": 5}, batches=12)
        morans = [float(np.nanmean(morans_i(loss.points(name), own))) for name, own in profiles.items()]
        found.append((strength, right, list(loss.smoothness().values()), morans))
        alike, order = (", ".join(f"{value:.2f}" for value in values) for values in found[-1][2:])
        print(
            f"strength {strength:4g}: {right:.3f} of frames right; neighbours' cosine {alike}; Moran's I {order}",
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--slow", action="store_true", help="swarms and graphs of 2,000 units as well, one round")
    parser.add_argument("--learned", action="store_true", help="learned maps at several strengths, and nothing else")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=260, help="of training the network whose profiles are laid out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="profiles are kept in this file, and read from it where it is there")
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.learned:
        learned([0, 0.1, 0.3, 1, 3, 10], args.steps, args.seed)
        return
    if args.cache and args.cache.is_file():
        with np.load(args.cache) as held:
            profiles = dict(held)
    else:
        profiles = made_profiles(args.steps, args.seed)
        if args.cache:
            np.savez(args.cache, **profiles)
    names = ["torch", "numpy", "scipy", "scikit-learn", "umap-learn"]
    installed = {dist.metadata["Name"].lower() for dist in importlib.metadata.distributions()}
    print(", ".join(f"{name} {importlib.metadata.version(name)}" for name in names if name in installed))
    rows: list[Row] = []
    for layer in profiles.values():
        own = []
        for name in args.layouts:
            slow = name in SLOW and len(layer) > 1000
            if (slow and not args.slow) or (name.startswith("umap") and "umap-learn" not in installed):
                continue
            own.append(measure(name, layer, 1 if slow else args.rounds))
        show(own)
        rows += own
    print("\nCPU seconds")
    rest = others(profiles)
    for name, seconds in rest.items():
        print(f"{seconds:9.4f}  {name}")
    if args.json:
        args.json.write_text(json.dumps({"rows": [asdict(row) for row in rows], "others": rest}, indent=1))


if __name__ == "__main__":
    main()
