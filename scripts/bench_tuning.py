#!/usr/bin/env python3
"""What a training step costs in which a share of all neurons trains, beside full fine-tuning, a gradient mask and LoRA.

    scripts/bench_tuning.py                                  # 5 % of the neurons in every layer, three models
    scripts/bench_tuning.py --share 0.2 --models marian --rounds 30

The models are random networks: Wav2Letter (23 M weights, a batch of 4 x 1 s), a wav2vec2 of 6 layers (52 M, 2 x 1 s),
a Marian of 6 + 6 (16 M, 8 x 24 tokens). Neurons are those of every convolution and linear map, of wav2vec2 those of the
transformer layers, with the convolutions below frozen in all ways but full fine-tuning; tied output layers stay frozen.
LoRA (peft, r=8) is on the same layers. A step is forward, backward and AdamW.

All ways run in one process, each on its own copy of one network, in a fresh order every round; a row is the median over
rounds, and its ratios are medians of the ratios within a round: of CPU time, which other processes disturb less, and of
wall time. `rows, again` is a second copy of `rows`: how far they are apart is noise. `error` is the largest difference
of a trained row's first gradient from full fine-tuning's, relative to that weight's largest. `moved` counts the frozen
weights that differ after all steps, decay included.
"""

import argparse
import copy
import importlib.metadata
import json
import logging
import os
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from interventions.bits import changed_bits
from interventions.freeze import freeze_all_but
from interventions.neurons import Neurons, Scores
from interventions.rows import merge_rows, train_rows, why_not
from interventions.sites import find_sites

Loss = Callable[[nn.Module], Tensor]


@dataclass(frozen=True)
class Case:
    """A network, what a step's loss is, and the glob of the sites whose neurons train; `goal` is of rows to full."""

    name: str
    net: nn.Module
    loss: Loss
    sites: str
    goal: float


@dataclass(frozen=True)
class Row:
    """What one way of tuning costs. Times in milliseconds, memory in bytes; None where it does not apply.

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


def wav2letter() -> Case:
    from torchaudio.models import Wav2Letter

    net = Wav2Letter(num_classes=40, input_type="mfcc", num_features=13)
    x, y, lengths = torch.randn(4, 13, 100), torch.randint(1, 40, (4, 12)), torch.full((4,), 12)

    def loss(net: nn.Module) -> Tensor:
        log_probabilities = net(x).permute(2, 0, 1)
        steps = torch.full((4,), len(log_probabilities))
        return F.ctc_loss(log_probabilities, y, steps, lengths, zero_infinity=True)

    return Case("wav2letter", net, loss, "*", 0.52)


def wav2vec2() -> Case:
    import transformers

    config = transformers.Wav2Vec2Config(
        num_hidden_layers=6, layerdrop=0.0, mask_time_prob=0.0, hidden_dropout=0.0, attention_dropout=0.0,
        activation_dropout=0.0, feat_proj_dropout=0.0, final_dropout=0.0, vocab_size=32, ctc_loss_reduction="mean",
        ctc_zero_infinity=True, apply_spec_augment=False,
    )  # fmt: skip
    x, y = torch.randn(2, 16_000), torch.randint(1, 32, (2, 12))
    net = transformers.Wav2Vec2ForCTC(config)
    return Case("wav2vec2", net, lambda net: net(input_values=x, labels=y).loss, "*.encoder.layers.*", 0.38)


def marian() -> Case:
    import transformers

    config = transformers.MarianConfig(
        vocab_size=16_000, d_model=256, encoder_layers=6, decoder_layers=6, encoder_attention_heads=8,
        decoder_attention_heads=8, encoder_ffn_dim=1024, decoder_ffn_dim=1024, dropout=0.0, pad_token_id=0,
        eos_token_id=1, decoder_start_token_id=0,
    )  # fmt: skip
    x, y = (torch.randint(2, 16_000, (8, 24)) for _ in range(2))
    net = transformers.MarianMTModel(config)
    return Case("marian", net, lambda net: net(input_ids=x, labels=y).loss, "*", 0.65)


CASES = {"wav2letter": wav2letter, "wav2vec2": wav2vec2, "marian": marian}


def full(net: nn.Module, neurons: Neurons) -> None:
    """Every parameter."""


def rows(net: nn.Module, neurons: Neurons) -> None:
    """The rows of these neurons."""
    freeze_all_but(net, train_rows(net, neurons))
    _rest(net)


def mask(net: nn.Module, neurons: Neurons) -> None:
    """The same, by zeros in the gradient: what one would do by hand."""
    freeze_all_but(net, [name for site in neurons.used for name in site.rows])
    for site in neurons.used:
        for name in site.rows:
            parameter = net.get_parameter(name)
            own = neurons.mask(site).view(-1, *[1] * (parameter.dim() - 1)).to(parameter.dtype)
            parameter.register_hook(lambda gradient, own=own: gradient * own)
    _rest(net)


def lora(net: nn.Module, neurons: Neurons) -> None:
    """LoRA of rank 8 on the same layers."""
    from peft import LoraConfig, inject_adapter_in_model

    inject_adapter_in_model(LoraConfig(r=8, lora_alpha=16, target_modules=[site.name for site in neurons.used]), net)
    _rest(net)


def _rest(net: nn.Module) -> None:
    if hasattr(net, "freeze_feature_encoder"):  # else it asks for the gradient of the waveform
        net.freeze_feature_encoder()


WAYS = {"full": full, "mask": mask, "lora": lora, "rows": rows, "rows, again": rows}


class Runner:
    """One way of tuning one network, a step at a time."""

    def __init__(self, case: Case, tune: Callable[[nn.Module, Neurons], None], neurons: Neurons) -> None:
        self.net, self.loss = copy.deepcopy(case.net).train(), case.loss
        tune(self.net, neurons)
        self.parameters = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.1, foreach=True)
        self.cpu: list[float] = []
        self.wall: list[float] = []

    def step(self) -> None:
        cpu, wall = time.process_time(), time.perf_counter()
        self.loss(self.net).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)

    @property
    def state_bytes(self) -> int:
        states = self.optimizer.state.values()
        return sum(held.nbytes for state in states for held in state.values() if isinstance(held, Tensor))


def measure(case: Case, ways: list[str], share: float, rounds: int, seed: int) -> list[Row]:
    """Train `rounds` steps each way; `neurons` are a share of each site's, at random."""
    sites = [site for site in find_sites(case.net, case.sites) if why_not(case.net, site) is None]
    neurons = Scores({site: torch.zeros(site.units) for site in sites}).random(share, seed, per="site")
    runners = {way: Runner(case, WAYS[way], neurons) for way in ways}
    errors = {way: gradient_error(case, runners[way], neurons) for way in ways if way.startswith("rows")}
    draw = random.Random(seed)
    for _ in range(rounds + 2):
        for way in draw.sample(ways, len(ways)):
            runners[way].step()

    def ratios(way: str, other: str, kind: str = "cpu") -> list[float]:
        # The first two make the optimizer's state.
        pairs = zip(getattr(runners[way], kind)[2:], getattr(runners[other], kind)[2:], strict=True)
        return [own / beside for own, beside in pairs]

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


def gradient_error(case: Case, runner: Runner, neurons: Neurons) -> float:
    """How far the gradients of the rows are from full fine-tuning's, relative to each weight's largest gradient."""
    whole = copy.deepcopy(case.net).train()
    case.loss(whole).backward()
    case.loss(runner.net).backward()
    worst = 0.0
    for site in neurons.used:
        wanted = whole.get_submodule(site.name).weight.grad
        given = runner.net.get_submodule(site.name).rows.grad
        worst = max(worst, float((wanted[list(neurons[site])] - given).abs().max() / wanted.abs().max()))
    runner.optimizer.zero_grad()
    return worst


def moved(case: Case, runner: Runner, neurons: Neurons) -> int:
    """How many weights that should be frozen are not what they were."""
    merge_rows(runner.net)
    free = {name: list(neurons[site]) for site in neurons.used for name in site.rows}
    count = 0
    for (name, before), after in zip(case.net.named_parameters(), runner.net.parameters(), strict=True):
        changed = changed_bits(before, after)
        if name in free:
            changed[free[name]] = False
        count += int(changed.sum())
    return count


def show(case: Case, found: list[Row]) -> None:
    """Print the rows of one model."""
    print(f"\n{case.name} (goal of rows / full: {case.goal})")
    print(f"{'':14}{'trained':>12}{'step ms':>10}{'/ full':>8}{'quartiles':>16}{'wall':>8}{'/ lora':>8}"
          f"{'state / full':>14}{'error':>9}{'moved':>12}")  # fmt: skip
    state = found[0].state_bytes
    for row in found:
        quartiles = "{:.3f} - {:.3f}".format(*row.quartiles)
        beside = "-" if row.to_lora is None else f"{row.to_lora:.3f}"
        error = "-" if row.error is None else f"{row.error:.0e}"
        frozen = "-" if row.moved is None else f"{row.moved:,}"
        print(f"{row.way:14}{row.share:12.2%}{row.step_ms:10.1f}{row.to_full:8.3f}{quartiles:>16}{row.wall_to_full:8.3f}{beside:>8}"
              f"{row.state_bytes / state:14.3f}{error:>9}{frozen:>12}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--ways", nargs="+", choices=[way for way in WAYS if way != "full"], help="default: all")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
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
        show(case, found)
        rows += found
    if args.json:
        told = {
            "versions": versions,
            "threads": args.threads,
            "share": args.share,
            "rows": [asdict(row) for row in rows],
        }
        args.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
