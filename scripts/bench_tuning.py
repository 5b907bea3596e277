#!/usr/bin/env python3
"""Compare a training step of selected neurons or layers with full fine-tuning, a gradient mask and LoRA.

    scripts/bench_tuning.py                                  # 5 % of the neurons in every layer, three models
    scripts/bench_tuning.py --share 0.2 --models marian --rounds 30
    scripts/bench_tuning.py --memory                         # also the peak memory, each in its own process

The models are random networks: Wav2Letter (23 M weights, a batch of 4 x 1 s), a wav2vec2 of 6 layers (52 M, 2 x 1 s)
and a Marian of 6 + 6 layers (16 M, 8 x 24 tokens). `rows` trains neurons of every convolution and linear layer; in
wav2vec2, of the transformer layers, while the convolutions below stay frozen except in full fine-tuning. Tied output
layers stay frozen. `upper` trains only those neurons that are in the upper half (the last 3 convolutions; layers 3 to
5; the decoder). `top 2` trains the upper two layers, and an output layer that is not tied. `+ cache` replays the
layers below from stored outputs instead of running them (`adapt/training/prefix.py`). LoRA (peft, r=8) is on the
layers of `rows`. A step is forward, backward and AdamW.

All tunings run in one process, each on its own copy of one network, in a new order every round. A row has medians over
rounds. Its ratios are medians of the ratios within a round, of CPU time (which other processes affect less) and of
wall time. `rows, again` is a second copy of `rows`; its difference from `rows` is noise. `error` is the largest
difference of the first gradient of a trained weight from that of full fine-tuning, relative to the weight's largest
gradient. `moved` is the number of frozen weights that changed. `peak` is the peak resident memory of three steps,
minus that of a process with all libraries imported. The goals of this project are printed below each table.
"""

import argparse
import copy
import importlib.metadata
import importlib.util
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from result_table import add_results_option, write_table

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapt.data.loader import Batch
from adapt.models.cut import CachedOutput, Cut, decoder_cuts, stack_cuts
from adapt.models.waveform_encoders import waveform_cuts
from adapt.training.prefix import Prefix
from interventions.bits import changed_bits
from interventions.freeze import freeze_all_but
from interventions.neurons import Neurons, Scores
from interventions.rows import merge_rows, train_rows, untrainable_reasons
from interventions.sites import Layer, find_sites

Loss = Callable[[nn.Module], Tensor]


@dataclass(frozen=True)
class Case:
    """A network to train.

    Attributes:
        name: Its name.
        net: The network.
        loss: The loss of a step.
        sites: A glob of the sites whose neurons train.
        upper: Globs of those of these sites that are in the upper half.
        top: Globs of the parameters of the top two layers.
        cuts: Where the network is cut below the upper half and below the top two layers.
        goals: The largest ratio of a tuning to another one, by both names; of memory in MB, by the tuning and "MB".
    """

    name: str
    net: nn.Module
    loss: Loss
    sites: str
    upper: tuple[str, ...]
    top: tuple[str, ...]
    cuts: Mapping[str, Cut]
    goals: Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Row:
    """The cost of a tuning. Times are in milliseconds, memory in bytes; None if a value does not apply.

    `to_full`, its `quartiles` and `to_lora` are ratios of CPU time.
    """

    model: str
    way: str
    trained: int
    share: float
    step_ms: float
    to_full: float
    wall_to_full: float
    to_lora: float | None
    quartiles: tuple[float, float]
    state_bytes: int
    error: float | None
    moved: int | None
    peak_mb: float | None = None


def wav2letter() -> Case:
    from torchaudio.models import Wav2Letter

    net = Wav2Letter(num_classes=40, input_type="mfcc", num_features=13)
    x, y, lengths = torch.randn(4, 13, 100), torch.randint(1, 40, (4, 12)), torch.full((4,), 12)

    def loss(net: nn.Module) -> Tensor:
        log_probabilities = net(x).permute(2, 0, 1)
        steps = torch.full((4,), len(log_probabilities))
        return F.ctc_loss(log_probabilities, y, steps, lengths, zero_infinity=True)

    cuts = {}
    for half, end in (("upper", 15), ("top 2", 17)):  # the ReLU after convolutions 7 and 8
        below = {f"net.acoustic_model.{number}": "same" for number in range(end)}
        cuts[half] = Cut("", (CachedOutput(f"net.acoustic_model.{end}", None, below, axis=2),))
    upper, top = (tuple(f"acoustic_model.{n}{end}" for n in numbers)
                  for numbers, end in (((16, 18, 20), ""), ((18, 20), ".*")))  # fmt: skip
    return Case("wav2letter", net, loss, "*", upper, top, cuts, goals(0.52, 1.00, 0.65, "top 2 + cache", 0.35, 155))


def wav2vec2() -> Case:
    import transformers

    config = transformers.Wav2Vec2Config(
        num_hidden_layers=6, layerdrop=0.0, mask_time_prob=0.0, hidden_dropout=0.0, attention_dropout=0.0,
        activation_dropout=0.0, feat_proj_dropout=0.0, final_dropout=0.0, vocab_size=32, ctc_loss_reduction="mean",
        ctc_zero_infinity=True, apply_spec_augment=False,
    )  # fmt: skip
    x, y = torch.randn(2, 16_000), torch.randint(1, 32, (2, 12))
    net = transformers.Wav2Vec2ForCTC(config)
    below = {
        cut.last.rpartition(".")[2]: replace(cut, taps=tuple(replace(tap, steps=None) for tap in cut.taps))
        for cut in waveform_cuts("net.wav2vec2", net.wav2vec2)
    }
    upper = tuple(f"*.encoder.layers.{number}.*" for number in (3, 4, 5))
    return Case(
        "wav2vec2", net, lambda net: net(input_values=x, labels=y).loss, "*.encoder.layers.*", upper,
        (*upper[1:], "lm_head.*"), {"upper": below["2"], "top 2": below["3"]},
        goals(0.38, 0.97, 0.88, "upper + cache", 0.35, 335),
    )  # fmt: skip


def marian() -> Case:
    import transformers

    config = transformers.MarianConfig(
        vocab_size=16_000, d_model=256, encoder_layers=6, decoder_layers=6, encoder_attention_heads=8,
        decoder_attention_heads=8, encoder_ffn_dim=1024, decoder_ffn_dim=1024, dropout=0.0, pad_token_id=0,
        eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    x, y = (torch.randint(2, 16_000, (8, 24)) for _ in range(2))
    net = transformers.MarianMTModel(config)
    encoder, decoder = ([f"net.model.{part}.layers.{n}" for n in range(6)] for part in ("encoder", "decoder"))
    encoder_cuts = stack_cuts(encoder, None, None, {})
    both = decoder_cuts(encoder_cuts, stack_cuts(decoder, None, None, {}))
    return Case(
        "marian", net, lambda net: net(input_ids=x, labels=y).loss, "*", ("model.decoder.*",),
        ("model.decoder.layers.4.*", "model.decoder.layers.5.*"), {"upper": encoder_cuts[-1], "top 2": both[-3]},
        goals(0.65, 0.85, 0.78, "top 2 + cache", 0.45, 210),
    )  # fmt: skip


def goals(
    rows_to_full: float, rows_to_lora: float, upper_to_lora: float, cached: str, cached_to_lora: float, peak: float
) -> dict[tuple[str, str], float]:
    """Return the goals in the form of `Case.goals`."""
    return {
        ("rows", "full"): rows_to_full, ("rows", "lora"): rows_to_lora, ("upper", "lora"): upper_to_lora,
        (cached, "lora"): cached_to_lora, ("rows", "state"): 0.055, ("rows", "MB"): peak,
    }  # fmt: skip


CASES = {"wav2letter": wav2letter, "wav2vec2": wav2vec2, "marian": marian}


def full(net: nn.Module, neurons: Neurons, case: Case) -> None:
    """Train every parameter."""


def rows(net: nn.Module, neurons: Neurons, case: Case) -> None:
    """Train the rows of these neurons."""
    freeze_all_but(net, train_rows(net, neurons))
    _rest(net)


def upper(net: nn.Module, neurons: Neurons, case: Case) -> None:
    """Train the rows of the neurons in the upper half."""
    above = [site for site in neurons.used if any(fnmatchcase(site.name, glob) for glob in case.upper)]
    rows(net, Neurons({site: neurons[site] for site in above}), case)


def top(net: nn.Module, neurons: Neurons, case: Case) -> None:
    """Train the top two layers."""
    freeze_all_but(net, [name for name, _ in net.named_parameters() if any(fnmatchcase(name, g) for g in case.top)])
    _rest(net)


def mask(net: nn.Module, neurons: Neurons, case: Case) -> None:
    """Train the same neurons as `rows` by setting the gradients of all others to zero."""
    freeze_all_but(net, [name for site in neurons.used for name in site.rows])
    for site in neurons.used:
        for name in site.rows:
            parameter = net.get_parameter(name)
            own = neurons.mask(site).view(-1, *[1] * (parameter.dim() - 1)).to(parameter.dtype)
            parameter.register_hook(lambda gradient, own=own: gradient * own)
    _rest(net)


def lora(net: nn.Module, neurons: Neurons, case: Case) -> None:
    """Train LoRA of rank 8 on the same layers."""
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=8, lora_alpha=16, target_modules=[site.name for site in neurons.used]), net)
    _rest(net)


def _rest(net: nn.Module) -> None:
    if hasattr(net, "freeze_feature_encoder"):  # otherwise it requires gradients of the waveform
        net.freeze_feature_encoder()


WAYS = {
    "full": full, "mask": mask, "lora": lora, "rows": rows, "rows, again": rows, "upper": upper,
    "upper + cache": upper, "top 2": top, "top 2 + cache": top,
}  # fmt: skip


class PrefixModel(nn.Module):
    """Wrap a network for `Prefix`."""

    def __init__(self, case: Case, net: nn.Module) -> None:
        super().__init__()
        self.layers = [Layer(cut.last, ()) for cut in case.cuts.values()]
        self.net, self.task = net, SimpleNamespace(loss=lambda model, batch: case.loss(model.net))


class Runner:
    """Train a network with one tuning, step by step."""

    def __init__(self, case: Case, way: str, neurons: Neurons, net: nn.Module) -> None:
        self.net, self.loss, self.way = net.train(), case.loss, way
        WAYS[way](self.net, neurons, case)
        self.trained = {name for name, own in self.net.named_parameters() if own.requires_grad}
        self.parameters = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.1, foreach=True)
        self.cpu: list[float] = []
        self.wall: list[float] = []
        self.below: Callable[[], AbstractContextManager] = nullcontext
        if way.endswith(" + cache"):
            batch = Batch(torch.zeros(0), torch.zeros(0), [])  # the loss has its own inputs, without padding
            prefix = Prefix(PrefixModel(case, self.net), case.cuts[way.removesuffix(" + cache")], batch)
            stored = [torch.stack(parts) for parts in zip(*prefix.record(batch), strict=True)]
            self.below = partial(prefix.replayed, stored)

    def step(self) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        with self.below():
            loss = self.loss(self.net)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)

    @property
    def state_bytes(self) -> int:
        states = self.optimizer.state.values()
        return sum(held.nbytes for state in states for held in state.values() if isinstance(held, Tensor))


def choose(case: Case, share: float, seed: int) -> Neurons:
    """Draw a share of the neurons of each site."""
    sites = find_sites(case.net, case.sites)
    refused = untrainable_reasons(case.net, sites)
    sites = [site for site in sites if site.name not in refused]
    return Scores({site: torch.zeros(site.units) for site in sites}).random(share, seed, per_site=True)


def measure(case: Case, ways: list[str], share: float, rounds: int, seed: int) -> list[Row]:
    """Train `rounds` steps with each tuning."""
    neurons = choose(case, share, seed)
    runners = {way: Runner(case, way, neurons, copy.deepcopy(case.net)) for way in ways}
    errors = {way: gradient_error(case, runners[way]) for way in ways if way not in ("full", "mask", "lora")}
    draw = random.Random(seed)
    for _ in range(rounds + 2):
        for way in draw.sample(ways, len(ways)):
            runners[way].step()

    def ratios(way: str, other: str, kind: str = "cpu") -> list[float]:
        # The first two steps create the optimizer's state.
        pairs = zip(getattr(runners[way], kind)[2:], getattr(runners[other], kind)[2:], strict=True)
        return [one / reference for one, reference in pairs]

    total, found = sum(parameter.numel() for parameter in case.net.parameters()), []
    for way, runner in runners.items():
        to_full, trained = ratios(way, "full"), sum(parameter.numel() for parameter in runner.parameters)
        low, _, high = statistics.quantiles(to_full, n=4)
        found.append(
            Row(
                case.name, way, trained, trained / total, 1000 * statistics.median(runner.wall[2:]),
                statistics.median(to_full), statistics.median(ratios(way, "full", "wall")),
                statistics.median(ratios(way, "lora")) if "lora" in ways else None,
                (low, high), runner.state_bytes, errors.get(way),
                None if way in ("full", "lora") else moved(case, runner, neurons),
            )
        )  # fmt: skip
    return found


def gradient_error(case: Case, runner: Runner) -> float:
    """Return the largest difference of a gradient from that of full fine-tuning, relative to the weight's largest."""
    whole = copy.deepcopy(case.net).train()
    case.loss(whole).backward()
    with runner.below():
        loss = case.loss(runner.net)
    loss.backward()
    worst = 0.0
    for name in runner.trained:
        module, _, kind = name.rpartition(".")
        if kind == "rows":
            wanted = whole.get_submodule(module).weight.grad
            own = wanted[runner.net.get_submodule(module).units]
        elif kind == "weight":  # not biases: those of attention's keys have only rounding errors as gradients
            own = wanted = whole.get_parameter(name).grad
        else:
            continue
        given = runner.net.get_parameter(name).grad
        worst = max(worst, float((own - given).abs().max() / wanted.abs().max()))
    runner.optimizer.zero_grad()
    return worst


def moved(case: Case, runner: Runner, neurons: Neurons) -> int:
    """Count the weights that should be frozen and changed."""
    free = {name: list(units) for name, units in merge_rows(runner.net).items()}
    if runner.way == "mask":
        free = {name: list(neurons[site]) for site in neurons.used for name in site.rows}
    count = 0
    for (name, before), after in zip(case.net.named_parameters(), runner.net.parameters(), strict=True):
        changed = changed_bits(before, after)
        if name in free:
            changed[free[name]] = False
        elif name in runner.trained:
            continue
        count += int(changed.sum())
    return count


def resident(field: str) -> float:
    """Return VmRSS (now) or VmHWM (the peak) of this process in MB. `ru_maxrss` of a child starts at its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def peak(name: str, way: str, share: float, seed: int) -> float:
    """Return how much memory in MB three steps add at most to that of the process. Call it in a new process."""
    import torchaudio.models  # noqa: F401
    import transformers.models.marian.modeling_marian
    import transformers.models.wav2vec2.modeling_wav2vec2  # noqa: F401

    if importlib.util.find_spec("peft") is not None:
        import peft  # noqa: F401

    before = resident("VmRSS")
    torch.manual_seed(seed)
    case = CASES[name]()
    runner = Runner(case, way, choose(case, share, seed), case.net)
    for _ in range(3):
        runner.step()
    return resident("VmHWM") - before


def peaks(name: str, ways: list[str], args: argparse.Namespace) -> dict[str, float]:
    """Return the peak memory of each tuning in MB."""
    found = {}
    for way in ways:
        options = ["--child", way, "--models", name, "--share", str(args.share), "--seed", str(args.seed)]
        done = subprocess.run(
            [sys.executable, __file__, *options, "--threads", str(args.threads)], capture_output=True, text=True
        )
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        found[way] = float(done.stdout.splitlines()[-1])
    return found


def show(case: Case, found: list[Row]) -> None:
    """Print the rows of one model, and whether its goals were reached."""
    print(f"\n{case.name}")
    print(f"{'':14}{'trained':>12}{'step ms':>10}{'/ full':>8}{'quartiles':>16}{'wall':>8}{'/ lora':>8}"
          f"{'state / full':>14}{'error':>9}{'moved':>12}{'peak MB':>9}")  # fmt: skip
    state = found[0].state_bytes
    for row in found:
        quartiles = "{:.3f} - {:.3f}".format(*row.quartiles)
        to_lora = "-" if row.to_lora is None else f"{row.to_lora:.3f}"
        error = "-" if row.error is None else f"{row.error:.0e}"
        frozen = "-" if row.moved is None else f"{row.moved:,}"
        held = "-" if row.peak_mb is None else f"{row.peak_mb:.0f}"
        print(f"{row.way:14}{row.share:12.2%}{row.step_ms:10.1f}{row.to_full:8.3f}{quartiles:>16}{row.wall_to_full:8.3f}{to_lora:>8}"
              f"{row.state_bytes / state:14.3f}{error:>9}{frozen:>12}{held:>9}", flush=True)  # fmt: skip
    rows = {row.way: row for row in found}
    for (way, other), goal in case.goals.items():
        if way in rows:
            row = rows[way]
            measured = {"full": row.to_full, "lora": row.to_lora, "state": row.state_bytes / state, "MB": row.peak_mb}[
                other
            ]
            verdict = (
                "not measured" if measured is None else f"{measured:.3g}, {'reached' if measured <= goal else 'missed'}"
            )
            print(f"goal: {way} / {other} at most {goal:g}: {verdict}" if other != "MB" else
                  f"goal: {way} at most {goal:g} MB: {verdict}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--ways", nargs="+", choices=[way for way in WAYS if way != "full"], help="default: all")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", action="store_true", help="also measure peak memory, each in its own process")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    add_results_option(parser)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    if args.child:
        print(peak(args.models[0], args.child, args.share, args.seed))
        return
    ways, versions = ["full", *(args.ways or [way for way in WAYS if way != "full"])], {}
    for package in ("torch", "transformers", "peft"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "-"
    if versions["peft"] == "-":
        ways = [way for way in ways if way != "lora"]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"{named}; {args.threads} threads, {args.rounds} rounds, {args.share:.0%} of the neurons")
    rows: list[Row] = []
    for name in args.models:
        torch.manual_seed(args.seed)
        case = CASES[name]()
        found = measure(case, ways, args.share, args.rounds, args.seed)
        if args.memory:
            held = peaks(name, ways, args)
            found = [replace(row, peak_mb=held[row.way]) for row in found]
        show(case, found)
        rows += found
    if args.json:
        results = {
            "versions": versions,
            "threads": args.threads,
            "share": args.share,
            "rows": [asdict(row) for row in rows],
        }
        args.json.write_text(json.dumps(results, indent=1))
    if args.results:
        write_table(args.results, __doc__ or "", [asdict(row) for row in rows], str(args.seed))


if __name__ == "__main__":
    main()
