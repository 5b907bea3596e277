#!/usr/bin/env python3
"""Compare the cost of profiles and conductance with that of a hand-written pass and, if it is installed, of captum.

    scripts/bench_introspection.py                       # profiles (GradNAP) of every layer, three models
    scripts/bench_introspection.py --models wav2letter --rounds 30 --memory
    scripts/bench_introspection.py --models --conductance --rounds 3     # only the conductance of every layer

`hand` is one forward and one backward pass. A hook at every site stores the activation, and `torch.autograd.grad`
gives all gradients; they are neither grouped nor summed. `hand, again` repeats it; its deviation from 1 is noise.
`profiles` is `add_batch`: the same pass, and its sums over 30 groups in 16 folds. `captum, list` calls
LayerGradientXActivation once for all layers, `captum, calls` once per layer; both return ungrouped values.

Models: torchaudio's Wav2Letter (23 M random weights; 4 utterances of 1.5 to 2 s) and the embedded `us-english` (16
utterances) and `weather-en-de` (32 sentences). All variants run in one process on the same batch, in a new order every
round. A row has the medians over rounds of the CPU time and of the ratios within a round. `error` is the largest
difference of a layer's gradient x activation from that of `hand`, relative to the layer's largest value.

`--conductance` measures the conductance of every layer of Wav2Letter for a word in 1 s of sound, on a path of 8 steps:
ours in one pass over the path, and captum's LayerConductance with one call per layer. Ours averages the gradients at
the left and right end of each step; captum uses the left end. `error` is therefore the difference from the mean of
captum's results on the path and on its reverse, relative to the layer's largest value.

`--memory` measures how much the peak memory grows from one to ten copies of a corpus, each in its own process.
"""

import argparse
import importlib.metadata
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from result_table import add_results_option, write_table

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from torch import Tensor

from adapt.data.example import Example, Phoneme
from adapt.data.loader import Batch, Loader, collate
from adapt.data.manifest import Utterance
from adapt.introspect.profiles.fitter import ProfilesFitter
from adapt.introspect.profiles.groupings import groupings
from adapt.introspect.profiles.groups import ByPhoneme, Everything, Grouping
from adapt.introspect.profiles.read import add_batch, forward, group_names, read_profiles
from adapt.models.model import Model
from interventions.gradients import capture_gradients

GROUPS = 30


@dataclass(frozen=True)
class Case:
    """A model in eval mode, a batch, and the groupings of its steps."""

    name: str
    model: Model
    batch: Batch
    groups: Sequence[Grouping]


@dataclass(frozen=True)
class Row:
    """The CPU time of a variant, in milliseconds and relative to the hand-written pass, with quartiles."""

    model: str
    way: str
    ms: float
    to_hand: float
    quartiles: tuple[float, float]
    error: float | None


def wav2letter() -> Case:
    from adapt.models.wav2letter import wav2letter

    return _speech("wav2letter", wav2letter().model.eval(), 4)


def us_english() -> Case:
    from adapt.models.checkpoint import load_model

    return _speech("us-english", load_model("us-english").model, 16)


def weather() -> Case:
    from adapt.data.synthetic.domains import domains
    from adapt.models.checkpoint import load_model

    model = load_model("weather-en-de").model
    examples = domains(source="clinic", target="weather", train=1, validation=1, test=32, source_test=1).test
    groups = groupings(model, examples, ["token"], max_groups=GROUPS - 1)
    return Case("weather-en-de", model, collate([(pair, model.reader.read(pair)) for pair in examples]), groups)


CASES = {"wav2letter": wav2letter, "us-english": us_english, "weather-en-de": weather}


def _speech(name: str, model: Model, count: int) -> Case:
    draw = torch.Generator().manual_seed(0)
    items: list[tuple[Example, Tensor]] = []
    for number in range(count):
        seconds = 2.0 - 0.5 * number / count
        spoken = torch.randint(0, GROUPS - 1, (int(seconds / 0.1),), generator=draw).tolist()
        phonemes = tuple(Phoneme(f"p{one}", 0.1 * n, 0.1 * (n + 1)) for n, one in enumerate(spoken))
        items.append(
            (
                Utterance(Path(f"{number}.wav"), "a test", seconds, phonemes=phonemes),
                torch.randn(int(seconds * model.sample_rate), generator=draw) * 0.1,
            )
        )
    return Case(name, model, collate(items), [Everything(), ByPhoneme([f"p{one}" for one in range(GROUPS - 1)])])


def by_hand(case: Case) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the output of every site's module and its gradient, in the module's layout, by the site's name."""
    acts: dict[str, Tensor] = {}

    def keeping(name: str) -> Callable[..., Tensor]:
        def keep(module: torch.nn.Module, inputs: object, output: Tensor) -> Tensor:
            # Pass on a copy, because in-place ReLUs would overwrite what is stored. The graph starts at the first site.
            acts[name] = output if output.requires_grad else output.requires_grad_()
            return acts[name].clone()

        return keep

    handles = [
        case.model.get_submodule(site.name).register_forward_hook(keeping(site.name)) for site in case.model.sites
    ]
    try:
        _, score = forward(case.model, case.batch, range(len(case.batch.examples)))
        gradients = torch.autograd.grad(score, list(acts.values()))
    finally:
        for handle in handles:
            handle.remove()
    return {name: (x.detach(), gradient) for (name, x), gradient in zip(acts.items(), gradients, strict=True)}


def captum_ways(case: Case) -> dict[str, Callable[[], object]]:
    """Return the calls of captum: one for all layers, and one per layer. Empty if captum is not installed."""
    try:
        from captum.attr import LayerGradientXActivation
    except ImportError:
        return {}
    if case.batch.inputs.dtype == torch.long:  # captum needs inputs that can have gradients
        return {}
    layers = [case.model.get_submodule(site.name) for site in case.model.sites]

    def score(inputs: Tensor) -> Tensor:
        batch = Batch(inputs, case.batch.lengths, case.batch.examples)
        return forward(case.model, batch, range(len(batch.examples)))[1].unsqueeze(0)

    return {
        "captum, list": lambda: LayerGradientXActivation(score, layers).attribute(case.batch.inputs),
        "captum, calls": lambda: [LayerGradientXActivation(score, own).attribute(case.batch.inputs) for own in layers],
    }


def measure(case: Case, rounds: int, seed: int) -> list[Row]:
    """Time all variants."""
    profiles = ProfilesFitter(case.model.sites, group_names(case.groups))
    for parameter in case.model.parameters():
        parameter.requires_grad_(False)  # no variant needs gradients of weights
    ways: dict[str, Callable[[], object]] = {
        "hand": lambda: by_hand(case),
        "hand, again": lambda: by_hand(case),
        "profiles": lambda: add_batch(profiles, case.model, case.groups, case.batch, range(len(case.batch.examples))),
        **captum_ways(case),
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    draw = random.Random(seed)
    for turn in range(rounds + 2):
        for way in draw.sample(list(ways), len(ways)):
            started = time.process_time()
            ways[way]()
            if turn >= 2:
                found[way].append(time.process_time() - started)
    rows = []
    for way, seconds in found.items():
        ratios = [own / hand for own, hand in zip(seconds, found["hand"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        error = largest_error(case) if way == "profiles" else None
        rows.append(
            Row(case.name, way, 1000 * statistics.median(seconds), statistics.median(ratios), (low, high), error)
        )
    return rows


def largest_error(case: Case) -> float:
    """Return the largest difference of gradient times activation from that of the hand-written pass."""
    wanted = {name: x * gradient for name, (x, gradient) in by_hand(case).items()}
    worst = 0.0

    def compare(site, x: Tensor, gradient: Tensor) -> None:
        nonlocal worst
        own = x * gradient if site.unit_axis == -1 else (x * gradient).mT
        largest = float(wanted[site.name].abs().max())
        if largest:
            worst = max(worst, float((own - wanted[site.name]).abs().max()) / largest)

    with capture_gradients(case.model, case.model.sites, compare):
        forward(case.model, case.batch, range(len(case.batch.examples)))[1].backward()
    return worst


def measure_conductance(rounds: int, seed: int, steps: int = 8) -> list[Row]:
    """Time our conductance and captum's. Ratios are relative to ours."""
    import soundfile

    from adapt.introspect.attribution.conductance import conductance
    from adapt.introspect.attribution.network_input import network_input, word_score
    from adapt.introspect.attribution.words import Word, single_batch
    from adapt.models.inference import eval_mode

    case = wav2letter()
    model = case.model.requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "example.wav"
        soundfile.write(path, case.batch.inputs[0, : model.sample_rate].numpy(), model.sample_rate)
        example = Utterance(path, "a test")
        batch = single_batch(model, example)
        with torch.no_grad():
            written = model(batch.inputs, batch.lengths).log_probs[0].argmax(-1).tolist()
        places = range(len(written) // 2, len(written) // 2 + 10)
        word = Word("middle", tuple(places), tuple(written[at] for at in places))
        place = network_input(model, batch)
        score, x, low = word_score(model, batch, place, word), place.x, place.baseline("even")
        layers = {site.name: model.get_submodule(site.name) for site in model.sites}
        ways: dict[str, Callable[[], object]] = {"one pass": lambda: conductance(model, example, word, steps=steps)}
        error = None
        try:
            from captum.attr import LayerConductance

            def by_captum(start: Tensor, end: Tensor) -> dict[str, Tensor]:
                return {
                    name: LayerConductance(score, layer)
                    .attribute(end, start, n_steps=steps, method="riemann_trapezoid", attribute_to_layer_input=False)
                    .sum(-1)[0]
                    for name, layer in layers.items()
                }

            ways["captum, calls"] = lambda: by_captum(low, x)
            found, there, back = ways["one pass"]().conductance, by_captum(low, x), by_captum(x, low)
            wanted = {name: (own - back[name]).double() / 2 for name, own in there.items()}
            error = max(
                float((found[name] - own).abs().max() / own.abs().max()) for name, own in wanted.items() if own.any()
            )
        except ImportError:
            pass
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        draw = random.Random(seed)
        with eval_mode(model):
            for _ in range(rounds):
                for way in draw.sample(list(ways), len(ways)):
                    started = time.process_time()
                    ways[way]()
                    seconds[way].append(time.process_time() - started)
    rows = []
    for way, own in seconds.items():
        ratios = [one / ours for one, ours in zip(own, seconds["one pass"], strict=True)]
        low_, _, high = statistics.quantiles(ratios, n=4)
        middle = statistics.median(ratios)
        rows.append(Row(case.name, way, 1000 * statistics.median(own), middle, (low_, high), error))
        error = None
    return rows


def peak(times: int) -> float:
    """Return the peak memory in MiB of a process that profiles `times` copies of a corpus."""
    folder = str(Path(__file__).resolve().parent)
    code = f"import sys; sys.path[0] = {folder!r}\nimport bench_introspection\nbench_introspection.go_through({times})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def go_through(times: int) -> None:
    """Profile `times` copies of the corpus of the Wav2Letter case, and print the peak memory in MiB."""
    torch.set_num_threads(1)
    case = wav2letter()
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        examples = []
        for number, (example, length) in enumerate(zip(case.batch.examples, case.batch.lengths.tolist(), strict=True)):
            path = Path(folder) / example.audio_filepath.name
            soundfile.write(path, case.batch.inputs[number, :length].numpy(), case.model.sample_rate)
            examples.append(Utterance(path, example.text, phonemes=example.phonemes))
        read_profiles(case.model, examples * 4 * times, Loader(batch_seconds=8), case.groups)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _print(row: Row) -> None:
    quartiles = "{:.3f} - {:.3f}".format(*row.quartiles)
    error = "" if row.error is None else f"{row.error:.0e}"
    print(f"{row.way:16}{row.ms:10.1f}{row.to_hand:9.3f}{quartiles:>18}{error:>10}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--conductance", action="store_true", help="also time the conductance of every layer")
    parser.add_argument("--memory", action="store_true", help="also measure how the peak memory grows with the corpus")
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    add_results_option(parser)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(args.threads)
    print(f"torch {importlib.metadata.version('torch')}, {args.threads} threads, {args.rounds} rounds")
    rows: list[Row] = []
    for name in args.models:
        torch.manual_seed(args.seed)
        case = CASES[name]()
        profiles = ProfilesFitter(case.model.sites, group_names(case.groups))
        size = sum(total.nbytes for own in profiles.sums.values() for total in own.values()) / 1e6
        print(f"\n{name}: {len(case.model.sites)} sites, {len(profiles.groups)} groups, {size:.0f} MB of sums")
        print(f"{'':16}{'ms':>10}{'/ hand':>9}{'quartiles':>18}{'error':>10}")
        for row in measure(case, args.rounds, args.seed):
            _print(row)
            rows.append(row)
    results = {"rows": [asdict(row) for row in rows]}
    if args.conductance:
        torch.manual_seed(args.seed)
        found = measure_conductance(args.rounds, args.seed)
        results["conductance"] = [asdict(row) for row in found]
        print(f"\nconductance of every layer\n{'':16}{'ms':>10}{'/ ours':>9}{'quartiles':>18}{'error':>10}")
        for row in found:
            _print(row)
    if args.memory:
        once, ten = peak(1), peak(10)
        results["peak"] = {"once": once, "ten": ten}
        print(
            f"\npeak memory: {once:.0f} MiB for one copy of the corpus, {ten:.0f} MiB for ten ({ten / once - 1:+.1%})"
        )
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    if args.results:
        write_table(args.results, __doc__ or "", [asdict(row) for row in rows], str(args.seed))


if __name__ == "__main__":
    main()
