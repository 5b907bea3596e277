#!/usr/bin/env python3
"""Compare the cost of interventions with that of plain hooks, folded weights, pyvene and nnsight.

    scripts/bench_interventions.py                      # tiny networks: the fixed cost per call, in microseconds
    scripts/bench_interventions.py --size working       # larger networks: the ratio to the unmodified network
    scripts/bench_interventions.py --rounds 30 --threads 2 --models whisper

The task: add a vector to the output of encoder layer 2, and set 10 units of the first feed-forward layer of layer 4 to
zero (in the decoder, if the network has one; in Wav2Letter, two convolutions). All methods run in one process, each on
its own copy of one random network, in a new order every round. Each timing is paired with one of the unmodified
network, which comes first every second time. A row has the medians over rounds of the differences and ratios of CPU
time within such pairs. "unmodified" is a second copy of the unmodified network; its deviation is noise. Every output
is compared with that of plain hooks, so no method is fast by doing nothing. A library that is not installed has a row
that says so.
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
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from result_table import add_results_option, write_table

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor, nn

from interventions.ablate import Ablate
from interventions.fold import fold
from interventions.intervene import Edits, intervene
from interventions.intervention import Intervention
from interventions.neurons import Neurons
from interventions.sites import site_at
from interventions.steer import Steer

TOKENS = 20
UNITS = list(range(3, 13))
Run = Callable[[], Tensor]


class UnsupportedError(Exception):
    """A library cannot do the task on this network, for the reason in the message."""


@dataclass(frozen=True)
class Case:
    """A network to benchmark.

    Attributes:
        net: The network.
        steer: The module whose output is steered.
        affine: The module whose bias takes the vector when it is folded. The output of `steer` is that of this module,
            or its sum with a residual.
        ablate: The module whose units are set to zero.
        vector: `(units,)`, what is added.
        forward: The arguments of a forward pass.
        generate: The arguments of `generate`; None for a network without it.
        axis: The axis of the units, -1 or 1.
    """

    net: nn.Module
    steer: str
    affine: str
    ablate: str
    vector: Tensor
    forward: dict[str, Tensor]
    generate: dict[str, Tensor] | None = None
    axis: int = -1

    @property
    def broadcast(self) -> Tensor:
        return self.vector if self.axis == -1 else self.vector[:, None]

    @property
    def ablated(self) -> tuple:
        return (Ellipsis, UNITS) if self.axis == -1 else (slice(None), UNITS)

    def run(self, task: str, net: nn.Module) -> Run:
        if task == "forward":
            return lambda: logits(net(**self.forward))
        return lambda: net.generate(**self.generate, **GREEDY)


GREEDY = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "do_sample": False, "num_beams": 1}


def logits(output: object) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits


def wav2vec2(tiny: bool) -> Case:
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    size, heads = (32, 4) if tiny else (768, 12)
    small = {"conv_dim": (32,) * 7, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 4}
    net = Wav2Vec2ForCTC(
        Wav2Vec2Config(
            hidden_size=size, num_hidden_layers=6, num_attention_heads=heads, intermediate_size=4 * size, vocab_size=32,
            **(small if tiny else {}),
        )
    )  # fmt: skip
    layers = "wav2vec2.encoder.layers"
    return Case(
        net, f"{layers}.2", f"{layers}.2.final_layer_norm", f"{layers}.4.feed_forward.intermediate_dense",
        torch.randn(size), {"input_values": torch.randn(1, 2000) if tiny else torch.randn(4, 16000)},
    )  # fmt: skip


def whisper(tiny: bool) -> Case:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    size, batch, steps, tokens = (32, 1, 16, 4) if tiny else (384, 4, 100, 16)
    net = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=1024 if tiny else 2048, d_model=size, encoder_layers=6, decoder_layers=6,
            encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=4 * size, decoder_ffn_dim=4 * size,
            max_source_positions=steps, max_target_positions=64, pad_token_id=0, bos_token_id=1, eos_token_id=1,
            decoder_start_token_id=2, suppress_tokens=None, begin_suppress_tokens=None,
        )
    )  # fmt: skip
    sound = {"input_features": torch.randn(batch, 80, 2 * steps)}
    return Case(
        net, "model.encoder.layers.2", "model.encoder.layers.2.fc2", "model.decoder.layers.4.fc1", torch.randn(size),
        {**sound, "decoder_input_ids": torch.randint(5, 900, (batch, tokens))}, sound,
    )  # fmt: skip


def marian(tiny: bool) -> Case:
    from transformers import MarianConfig, MarianMTModel

    size, batch, tokens = (32, 1, 4) if tiny else (256, 8, 32)
    net = MarianMTModel(
        MarianConfig(
            vocab_size=1024 if tiny else 2048, d_model=size, encoder_layers=6, decoder_layers=6,
            encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=4 * size, decoder_ffn_dim=4 * size,
            max_position_embeddings=128, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        )
    )  # fmt: skip
    net.config.architectures = ["MarianMTModel"]
    ids = torch.randint(5, 900, (batch, tokens))
    source = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    return Case(
        net, "model.encoder.layers.2", "model.encoder.layers.2.final_layer_norm", "model.decoder.layers.4.fc1",
        torch.randn(size), {**source, "decoder_input_ids": torch.randint(5, 900, (batch, tokens))}, source,
    )  # fmt: skip


def wav2letter(tiny: bool) -> Case:
    from torchaudio.models import Wav2Letter

    net = Wav2Letter(num_classes=29, input_type="mfcc", num_features=40)
    if tiny:  # the same layers, 32 units wide
        for number, conv in enumerate(net.acoustic_model):
            if isinstance(conv, nn.Conv1d):
                sizes = (40 if number == 0 else 32, 32, conv.kernel_size, conv.stride, conv.padding)
                net.acoustic_model[number] = nn.Conv1d(*sizes)
    sound = torch.randn(1, 40, 20) if tiny else torch.randn(4, 40, 100)
    vector = torch.randn(32 if tiny else 250)
    return Case(net, "acoustic_model.8", "acoustic_model.8", "acoustic_model.12", vector, {"x": sound}, axis=1)


class TwoMaps(nn.Module):
    """A network so small that nearly all of the measured time is that of the intervention."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def two_maps(tiny: bool) -> Case:
    return Case(TwoMaps(), "first", "first", "second", torch.randn(32), {"x": torch.randn(1, 4, 32)})


CASES = {case.__name__: case for case in (two_maps, wav2vec2, whisper, marian, wav2letter)}


def plain_hooks(case: Case) -> tuple[Callable, Callable]:
    broadcast, ablated = case.broadcast, case.ablated

    def steer(module: nn.Module, args: tuple, output: Tensor | tuple) -> Tensor | tuple:
        return (output[0] + broadcast, *output[1:]) if isinstance(output, tuple) else output + broadcast

    def ablate(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        output[ablated] = 0
        return output

    return steer, ablate


def unmodified(case: Case, task: str, net: nn.Module) -> Run:
    return case.run(task, net)


def hooks_once(case: Case, task: str, net: nn.Module) -> Run:
    for name, hook in zip((case.steer, case.ablate), plain_hooks(case), strict=True):
        net.get_submodule(name).register_forward_hook(hook)
    return case.run(task, net)


def hooks_per_call(case: Case, task: str, net: nn.Module) -> Run:
    run, hooks = case.run(task, net), plain_hooks(case)

    def call() -> Tensor:
        handles = [
            net.get_submodule(name).register_forward_hook(hook)
            for name, hook in zip((case.steer, case.ablate), hooks, strict=True)
        ]
        try:
            return run()
        finally:
            for handle in handles:
                handle.remove()

    return call


def _interventions(case: Case, net: nn.Module, steer: str) -> list[Intervention]:
    neurons = Neurons({site_at(net, case.ablate): UNITS})
    return [Steer(site_at(net, steer), case.vector), Ablate(neurons)]


def ours_once(case: Case, task: str, net: nn.Module) -> Run:
    edits = Edits(net)
    for intervention in _interventions(case, net, case.steer):
        edits.add(intervention)
    return case.run(task, net)


def ours_per_call(case: Case, task: str, net: nn.Module) -> Run:
    run, interventions = case.run(task, net), _interventions(case, net, case.steer)

    def call() -> Tensor:
        with intervene(net, *interventions):
            return run()

    return call


def ours_folded(case: Case, task: str, net: nn.Module) -> Run:
    fold(net, *_interventions(case, net, case.affine))
    return case.run(task, net)


def pyvene_classes(case: Case, task: str, net: nn.Module) -> Run:
    import pyvene

    if case.axis != -1:
        raise UnsupportedError("its classes index the last axis, which here is time")
    batch = len(next(iter(case.forward.values())))
    edits = [
        {
            "component": f"{case.steer}.output",
            "intervention": pyvene.AdditionIntervention(source_representation=case.vector),
        },
        {"component": f"{case.ablate}.output", "intervention": pyvene.ZeroIntervention()},
    ]
    return _pyvene(case, task, net, edits, subspaces=[None, [UNITS] * batch])


def pyvene_callables(case: Case, task: str, net: nn.Module) -> Run:
    broadcast, ablated = case.broadcast, case.ablated

    def zero(base: Tensor, source: Tensor | None) -> Tensor:
        base[ablated] = 0
        return base

    edits = [
        {"component": f"{case.steer}.output", "intervention": lambda base, source: base + broadcast},
        {"component": f"{case.ablate}.output", "intervention": zero},
    ]
    return _pyvene(case, task, net, edits)


def _pyvene(case: Case, task: str, net: nn.Module, edits: list, **how: object) -> Run:
    import pyvene

    if not hasattr(net, "config"):  # pyvene requires a config with this method
        net.config = SimpleNamespace(to_dict=dict)
    wrapped = pyvene.IntervenableModel(edits, model=net)
    if task == "forward":
        return lambda: logits(wrapped(case.forward, unit_locations=None, **how)[1])
    # Otherwise pyvene treats an encoder, which runs once, as a prompt and skips it.
    every = {"unit_locations": None, "intervene_on_prompt": True}
    return lambda: wrapped.generate(case.generate, **every, **how, **GREEDY)[1]


def nnsight_trace(case: Case, task: str, net: nn.Module) -> Run:
    import nnsight

    wrapped = nnsight.NNsight(net)
    steer, ablate = _at(wrapped, case.steer), _at(wrapped, case.ablate)
    broadcast, ablated = case.broadcast, case.ablated
    if task == "forward":

        def call() -> Tensor:
            with wrapped.trace(**case.forward):
                steer.output = steer.output + broadcast
                ablate.output[ablated] = 0
                found = wrapped.output.save()
            return logits(found)

        return call

    def call() -> Tensor:
        with wrapped.trace(fn=net.generate, **case.generate, **GREEDY) as tracer:
            steer.output = steer.output + broadcast
            for _ in tracer.iter[:TOKENS]:
                ablate.output[ablated] = 0
            found = tracer.result.save()
        return found  # noqa: RET504  (it is bound when the block ends)

    return call


def nnsight_edit(case: Case, task: str, net: nn.Module) -> Run:
    import nnsight

    wrapped = nnsight.NNsight(net)
    steer, ablate = _at(wrapped, case.steer), _at(wrapped, case.ablate)
    broadcast, ablated = case.broadcast, case.ablated
    with wrapped.edit(inplace=True) as tracer:
        for _ in tracer.iter[:]:
            steer.output = steer.output + broadcast
    with wrapped.edit(inplace=True) as tracer:
        for _ in tracer.iter[:]:
            ablate.output[ablated] = 0
    if task == "forward":
        return lambda: logits(wrapped.trace(trace=False, **case.forward))
    return lambda: wrapped.trace(trace=False, fn=net.generate, **case.generate, **GREEDY)


def _at(wrapped: object, path: str) -> object:
    for part in path.split("."):
        wrapped = wrapped[int(part)] if part.isdigit() else getattr(wrapped, part)
    return wrapped


WAYS = {
    "unmodified": unmodified,
    "hooks, registered once": hooks_once,
    "hooks, per call": hooks_per_call,
    "Edits": ours_once,
    "intervene, per call": ours_per_call,
    "fold": ours_folded,
    "pyvene, classes": pyvene_classes,
    "pyvene, callables": pyvene_callables,
    "nnsight, trace": nnsight_trace,
    "nnsight, edit": nnsight_edit,
}


@dataclass(frozen=True)
class Row:
    """The cost of a method: medians over rounds; None if it did not run, with the reason in `note`."""

    model: str
    task: str
    way: str
    difference_us: float | None = None
    ratio: float | None = None
    quartiles: tuple[float, float] | None = None
    wall_ratio: float | None = None
    unmodified_ms: float | None = None
    note: str = ""


def measure(
    case: Case, task: str, rounds: int, calls: int, warm: bool, seed: int, ways: dict[str, Callable] = WAYS
) -> list[Row]:
    """Time each method together with the unmodified network.

    Args:
        case: The network and the task's modules.
        task: "forward" or "generate".
        rounds: Each round times every method once.
        calls: The number of calls in a timing.
        warm: Whether to run once before each timing.
        seed: For the order of the methods.
        ways: The methods.

    Returns:
        One row per method.
    """
    model = case.net.__class__.__name__
    expected = {
        "unmodified": case.run(task, case.net)(),
        "": hooks_once(case, task, copy.deepcopy(case.net))(),
    }
    if torch.equal(expected["unmodified"], expected[""]) and task == "forward":
        raise SystemExit(f"{model}: plain hooks change nothing, so comparing outputs with theirs would prove nothing.")
    runs: dict[str, Run] = {}
    notes: dict[str, str] = {}
    for way, make in ways.items():
        try:
            runs[way] = make(case, task, copy.deepcopy(case.net))
            notes[way] = _same(runs[way](), expected.get(way, expected[""]))
        except UnsupportedError as error:
            notes[way] = f"cannot: {error}"
        except ImportError as error:
            notes[way] = f"not installed ({error.name})"
        except Exception as error:  # record the failure, and continue with the other methods
            notes[way] = f"fails: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]}"
            runs.pop(way, None)
    base, order, draw = case.run(task, case.net), list(runs), random.Random(seed)
    pairs: dict[str, list[tuple[float, float, float, float]]] = {way: [] for way in runs}
    for number in range(rounds):
        draw.shuffle(order)
        for place, way in enumerate(order):
            both = [base, runs[way]]
            timed = [_time(run, calls, warm) for run in (both if (number + place) % 2 else both[::-1])]
            (wall_0, cpu_0), (wall, cpu) = timed if (number + place) % 2 else timed[::-1]
            pairs[way].append((cpu - cpu_0, cpu / cpu_0, wall / wall_0, wall_0))
    rows = []
    for way in ways:
        if way not in runs:
            rows.append(Row(model, task, way, note=notes[way]))
            continue
        differences, ratios, walls, alone = zip(*pairs[way], strict=True)
        low, _, high = statistics.quantiles(ratios, n=4)
        middle = statistics.median
        rows.append(
            Row(
                model, task, way, middle(differences) * 1e6, middle(ratios), (low, high), middle(walls),
                middle(alone) * 1e3, notes[way],
            )
        )  # fmt: skip
    return rows


def _time(run: Run, calls: int, warm: bool) -> tuple[float, float]:
    if warm:
        run()  # brings the weights of this copy into the cache
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        run()
    return (time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls


def _same(found: Tensor, expected: Tensor) -> str:
    if found.is_floating_point():
        difference = float((found - expected).abs().max() / expected.abs().max())
        return "" if difference <= 1e-5 else f"WRONG: output differs by {difference:.0e}"
    # With some wrappers Whisper's generate keeps the start token, with others it does not.
    shorter = min(found.shape[1], expected.shape[1])
    return "" if torch.equal(found[:, -shorter:], expected[:, -shorter:]) else "WRONG: other tokens"


def show(rows: list[Row]) -> None:
    print(f"\n{rows[0].model}, {rows[0].task}: {rows[0].unmodified_ms:.2f} ms unmodified")
    print(f"{'':28}{'added us':>12}{'CPU ratio':>11}{'quartiles':>16}{'wall ratio':>12}")
    for row in rows:
        if row.ratio is None:
            print(f"{row.way:28}{'-':>12}  {row.note}")
            continue
        quartiles = "{:.3f} - {:.3f}".format(*row.quartiles)
        print(
            f"{row.way:28}{row.difference_us:12.0f}{row.ratio:11.3f}{quartiles:>16}{row.wall_ratio:12.3f}  {row.note}"
        )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["tiny", "working"], default="tiny")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--tasks", nargs="+", choices=["forward", "generate"], default=["forward", "generate"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, help="default: 100 forward and 40 generate; working size: 12 and 8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    add_results_option(parser)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    versions = {"python": sys.version.split()[0]}
    for package in ("torch", "transformers", "pyvene", "nnsight"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "-"
    print(", ".join(f"{name} {version}" for name, version in versions.items()) + f"; {args.threads} threads")
    tiny, rows = args.size == "tiny", []
    for name in args.models:
        torch.manual_seed(args.seed)
        case = CASES[name](tiny)
        case.net.eval()
        for task in args.tasks:
            if task == "generate" and case.generate is None:
                continue
            default = {"forward": 100, "generate": 40} if tiny else {"forward": 12, "generate": 8}
            rounds, calls = args.rounds or default[task], 3 if tiny and task == "forward" else 1
            if name == "two_maps":
                calls = 100
            with torch.no_grad():
                found = measure(case, task, rounds, calls, tiny, args.seed, {way: WAYS[way] for way in args.ways})
            show(found)
            rows += found
    named = [{field: getattr(row, field) for field in Row.__dataclass_fields__} for row in rows]
    if args.json:
        args.json.write_text(json.dumps({"versions": versions, "threads": args.threads, "rows": named}, indent=1))
    if args.results:
        write_table(args.results, __doc__ or "", named, str(args.seed))


if __name__ == "__main__":
    main()
