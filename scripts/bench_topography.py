#!/usr/bin/env python3
"""Time and quality of topographic maps, for all layouts, including UMAP with the swarm of the papers.

    scripts/bench_topography.py                        # 250 and 2,000 units, without the layouts that take minutes
    scripts/bench_topography.py --slow                 # also swarms and graphs of 2,000 units (5 minutes)
    scripts/bench_topography.py --layouts sorted_grid tsne --rounds 5 --cache acts.npz
    scripts/bench_topography.py --learned              # only learned maps, at several strengths

The profiles are those of a torchaudio Wav2Letter (23 M weights) after 260 training steps on synthetic letters: 30
pairs of gliding formants in six clusters, with noise. A profile is the mean activation for each letter minus the mean
over letters, after the eighth convolution (250 units) and the ninth (2,000 units). Training takes three minutes;
`--cache` stores the profiles.

`cpu` is the CPU time of one thread and `wall` the wall time, both medians over rounds without the first. The first
round (`cold`) includes importing and compiling libraries. trust, local, moran, spacing and hull are defined in
adapt/introspect/topography/quality.py, and resize, the figure of the papers, in published.py. An asterisk marks a
value that misses a goal of this project.
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
sys.path.insert(0, str(Path(__file__).resolve().parent))

from result_table import add_results_option, write_table

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

LETTERS, BANDS, FRAMES = 30, 40, 12  # frames per letter
GOALS = {
    250: {"cpu": 0.8, "trust": 0.85, "local": 0.54, "moran": 0.41, "spacing": 0.02, "hull": 0.98},
    2000: {"cpu": 11.0, "trust": 0.92, "local": 0.40, "moran": 0.64, "spacing": 0.02, "hull": 0.98},
}
HIGHER = ("trust", "moran", "hull")
Layout = Callable[[np.ndarray], np.ndarray]


def swarmed(layout: Callable[..., np.ndarray]) -> Layout:
    """Return a layout without a grid that is followed by the swarm, as in the papers."""
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
    """The results of one layout of one layer; times in seconds."""

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
    """Synthetic letters: pairs of gliding formants, which are similar within a cluster."""

    def __init__(self, seed: int) -> None:
        self.draw = torch.Generator().manual_seed(seed)
        cluster = torch.randint(6, (LETTERS,), generator=self.draw)
        start = 4 + (BANDS - 8) * torch.rand(6, 2, generator=self.draw)[cluster]
        start = start + 2 * torch.randn(LETTERS, 2, generator=self.draw)
        glide = torch.linspace(0, 1, FRAMES) * 4 * torch.randn(LETTERS, 2, 1, generator=self.draw)
        distance = torch.arange(BANDS).view(-1, 1) - (start.unsqueeze(-1) + glide).unsqueeze(2)
        self.shapes = (-((distance / 1.5) ** 2) / 2).exp().sum(1)  # (letters, bands, frames)

    def batch(self, examples: int, letters: int) -> tuple[Tensor, Tensor]:
        """Return spectrograms `(examples, bands, time)` and the letter of each frame `(examples, time)`."""
        spoken = torch.randint(LETTERS, (examples, letters), generator=self.draw)
        loud = 0.7 + 0.6 * torch.rand(examples, letters, 1, 1, generator=self.draw)
        x = (self.shapes[spoken] * loud).transpose(1, 2).flatten(2)
        x = x + 0.2 * torch.randn(x.shape, generator=self.draw)
        return (x - x.mean()) / x.std(), spoken.repeat_interleave(FRAMES, 1)


def trained(letters: Letters, steps: int) -> tuple[nn.Sequential, float]:
    """Train a Wav2Letter for some steps. Also return its share of correct frames in the last 20 steps."""
    import torchaudio

    net = torchaudio.models.Wav2Letter(num_classes=LETTERS, input_type="mfcc", num_features=BANDS).acoustic_model
    net = net[:-1]  # the ReLU after the output would block gradients
    # Scale each layer to unit variance on data: with the default initialisation, learning starts late.
    with torch.no_grad():
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
        x, spoken = letters.batch(4, 8)
        logits, spoken = aligned(net(x), spoken)
        F.cross_entropy(logits, spoken).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        right.append(float((logits.argmax(1) == spoken).float().mean()))
        if step % 50 == 49:
            print(f"training, step {step + 1}: {statistics.mean(right[-20:]):.2f} of frames correct", flush=True)
    return net, statistics.mean(right[-20:] or [0.0])


def aligned(activations: Tensor, spoken: Tensor) -> tuple[Tensor, Tensor]:
    """Return activations `(examples, units, steps)` and the letter of each step. A step is two frames."""
    spoken = spoken[:, ::2]
    steps = min(activations.shape[2], spoken.shape[1])
    return activations[:, :, :steps], spoken[:, :steps]


@torch.no_grad()
def profiles_of(
    net: nn.Sequential, letters: Letters, layers: dict[str, int], batches: int = 24
) -> dict[str, np.ndarray]:
    """Return the mean activation for each letter minus the mean over letters, after some modules of a network.

    Args:
        net: The network.
        letters: Where the spectrograms come from.
        layers: The number of a module, by the name of its profile.
        batches: The number of batches to average over.

    Returns:
        `(units, letters)`, by the names of `layers`.
    """
    sums: dict[str, Tensor] = {}
    counts = torch.zeros(LETTERS)
    for _ in range(batches):
        hidden, frames = letters.batch(4, 16)
        for number, module in enumerate(net):
            hidden = module(hidden)
            name = next((name for name, at in layers.items() if at == number), None)
            if name is not None:
                held, spoken = aligned(hidden, frames)
                own = sums.setdefault(name, torch.zeros(LETTERS, held.shape[1]))
                own.index_add_(0, spoken.flatten(), held.transpose(1, 2).flatten(0, 1))
        counts += torch.bincount(spoken.flatten(), minlength=LETTERS)
    means = {name: own / counts.unsqueeze(1) for name, own in sums.items()}
    return {name: (mean - mean.mean(0)).T.double().numpy() for name, mean in means.items()}


def made_profiles(steps: int, seed: int) -> dict[str, np.ndarray]:
    """Train a network, and return the profiles of the two layers to lay out."""
    torch.manual_seed(seed)
    letters = Letters(seed)
    net, right = trained(letters, steps)
    print(f"{right:.2f} of frames correct")
    return profiles_of(net, letters, {"250": 15, "2000": 17})


def measure(name: str, profiles: np.ndarray, rounds: int) -> Row:
    """Lay out profiles once to warm up, and `rounds` times to measure. Raises RuntimeError if two maps differ."""
    cpu, wall, first = [], [], None
    for _ in range(rounds + 1):
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        points = LAYOUTS[name](profiles)
        cpu.append(time.process_time() - cpu_start)
        wall.append(time.perf_counter() - wall_start)
        first = points if first is None else first
        if not np.array_equal(points, first):
            raise RuntimeError(f"{name}: two maps of the same profiles differ.")
    found = quality(points, profiles)
    return Row(
        name, len(profiles), cpu[0], statistics.median(cpu[1:]), statistics.median(wall[1:]), found.trust,
        found.locality, found.moran, found.spacing, found.hull, stability(points, profiles).resize,
    )  # fmt: skip


def show(rows: list[Row]) -> None:
    """Print the rows of one layer, with an asterisk after values that miss their goal."""
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
    """Return the CPU seconds of other work with maps: aligning, drawing, and the loss of a learned map."""
    (small, few), (large, many) = ((sorted_grid(each), each) for each in profiles.values())
    conv = nn.Conv1d(250, 2000, 32)
    loss = TopographicLoss(conv, find_sites(conv))
    x = torch.randn(4, 250, 48)

    def step(lay_out: bool) -> None:
        made = conv(x).square().mean()
        (made + loss() if lay_out else made).backward()

    def draw_separately() -> None:
        for group in range(LETTERS):
            Canvas(large).images(many[:, [group]])

    tasks: dict[str, Callable[[], object]] = {
        f"align {len(large)} units with {len(small)}": lambda: align_layers(large, many, small, few),
        f"draw {LETTERS} groups": lambda: Canvas(large).images(many),
        f"draw {LETTERS} groups, with a triangulation for each": draw_separately,
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
    """Train a small network (three convolutions of 144 units) with `TopographicLoss`, from the same initial weights.

    Returns:
        For each strength: the strength, the share of correct frames on new letters, and for each layer the mean cosine
        similarity of the weights of neighbouring units, and Moran's I of the profiles on the grid of the loss.
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
            x, spoken = letters.batch(4, 8)
            logits, spoken = aligned(net(x), spoken)
            (F.cross_entropy(logits, spoken) + loss()).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            x, spoken = letters.batch(32, 16)
            logits, spoken = aligned(net(x), spoken)
            right = float((logits.argmax(1) == spoken).float().mean())
        profiles = profiles_of(net, letters, {"0": 1, "2": 3, "4": 5}, batches=12)
        morans = [float(np.nanmean(morans_i(loss.points(name), profile))) for name, profile in profiles.items()]
        found.append((strength, right, list(loss.smoothness().values()), morans))
        cosines, moran_texts = (", ".join(f"{value:.2f}" for value in values) for values in found[-1][2:])
        print(
            f"strength {strength:4g}: {right:.3f} of frames correct; cosine of neighbours {cosines}; "
            f"Moran's I {moran_texts}",
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
    parser.add_argument("--slow", action="store_true", help="also swarms and graphs of 2,000 units, one round")
    parser.add_argument("--learned", action="store_true", help="only learned maps, at several strengths")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=260, help="training steps of the profiled network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="file with the profiles: read if it exists, otherwise written")
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    add_results_option(parser)
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
    if args.results:
        write_table(args.results, __doc__ or "", [asdict(row) for row in rows], str(args.seed))


if __name__ == "__main__":
    main()
