#!/usr/bin/env python3
"""Compare the speed of a model with corrections, live or folded into its weights, with that of the unmodified model.

    scripts/bench_corrections.py                                    # all models
    scripts/bench_corrections.py --models wav2letter --rounds 40

Models: `wav2letter` is torchaudio's (23 M random weights) on 4 x 1 s. `embedded` is `us-english` on 4 Scottish
utterances. `marian` is a random Marian of 6 + 6 layers (256 wide) that generates 20 tokens for 8 sentences. The
corrections are synthetic: layer inputs of other examples, with a random change at each step. Their cost depends only on
their number of steps, which is that of a Scottish utterance (80) or of a sentence (12).

All variants are copies of one model in one process. Every round measures them in a new order, each together with the
unmodified model, which comes first every second time. A row is the median over rounds of the CPU time ratios of such
pairs, with quartiles. "none" is a second copy of the unmodified model; its deviation from 1 is noise. "folded" has the
ridge map in the weights and no codebook; "folded + codebook" is the model that `innertune corrections fold` saves.
"""

import argparse
import copy
import json
import logging
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import torch
from result_table import add_results_option, write_table
from torch import Tensor, nn

from interventions.capture import capture
from interventions.corrections.layer import AffineLayer, layer_inputs
from interventions.corrections.memory import Memory
from interventions.corrections.protect import Protected
from interventions.fold import fold
from interventions.intervene import Edits
from interventions.sites import site_at

TOKENS = {"max_new_tokens": 20, "min_new_tokens": 20, "do_sample": False, "num_beams": 1}
Run = Callable[[nn.Module], object]


@dataclass(frozen=True)
class Case:
    """A model to benchmark.

    Attributes:
        model: The model, in eval mode.
        site: The site of its corrections.
        run: The forward pass that is timed.
        other: A forward pass on the example with this number.
        steps: The number of steps of a correction at the site.
    """

    model: nn.Module
    site: str
    run: Run
    other: Callable[[nn.Module, int], object]
    steps: int


def wav2letter() -> Case:
    from torchaudio.models import Wav2Letter

    sound = torch.randn(4, 13, 100)

    def other(model: nn.Module, number: int) -> Tensor:
        sound = torch.randn(1, 13, 160, generator=torch.Generator().manual_seed(number))
        return model.acoustic_model[:7](sound)  # up to the site

    model = Wav2Letter(num_classes=40, input_type="mfcc", num_features=13)
    return Case(model, "acoustic_model.6", lambda model: model(sound), other, 80)


def embedded() -> Case:
    from adapt.corrections.layers import correction_layer
    from adapt.data.loader import collate
    from adapt.data.synthetic.accents import accents
    from adapt.models.checkpoint import load_model

    splits = accents(train=100, validation=0, test=4, source_train=0, source_test=0)
    model = load_model("us-english").model

    def batch(examples: list) -> object:
        return collate([(example, model.reader.read(example)) for example in examples])

    timed = batch(list(splits.test))
    others = [batch([example]) for example in splits.train]

    def run(model: nn.Module) -> object:
        return model.task.decode(model, timed)

    def other(model: nn.Module, number: int) -> object:
        return model.task.loss(model, others[number % len(others)])

    return Case(model, correction_layer(model).site.name, run, other, 80)


def marian() -> Case:
    from transformers import MarianConfig, MarianMTModel

    model = MarianMTModel(
        MarianConfig(
            vocab_size=2048, d_model=256, encoder_layers=6, decoder_layers=6, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=1024, decoder_ffn_dim=1024, max_position_embeddings=128,
            pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        )
    )  # fmt: skip
    ids = torch.randint(5, 900, (8, 32))
    source = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def other(model: nn.Module, number: int) -> object:
        draw = torch.Generator().manual_seed(number)
        own = {"input_ids": torch.randint(5, 900, (1, 12), generator=draw),
               "decoder_input_ids": torch.randint(5, 900, (1, 12), generator=draw)}  # fmt: skip
        return model(**own)

    site = "model.decoder.layers.5.encoder_attn.out_proj"
    return Case(model, site, lambda model: model.generate(**source, **TOKENS), other, 12)


CASES = {case.__name__: case for case in (wav2letter, embedded, marian)}


def memories(case: Case, numbers: list[int], protected: int = 40) -> dict[int, Memory]:
    """Return one memory for each of the given numbers of corrections."""
    layer = AffineLayer.at_site(case.model, site_at(case.model, case.site))

    def read(number: int) -> tuple[Tensor, Tensor]:
        with layer_inputs(case.model, layer) as found, capture(case.model, layer.site) as acts:
            case.other(case.model, number)
        return found[0][0], acts[layer.site][0]

    inputs, outputs = zip(*(read(number) for number in range(protected)), strict=True)
    memory, made, number = Memory.new(Protected.fit(layer, inputs, outputs)), {}, protected
    for correction in range(max(numbers)):
        read_so_far: list[Tensor] = []
        while sum(map(len, read_so_far)) < layer.needed(case.steps):  # as many examples as these steps take
            read_so_far.append(read(number)[0])
            number += 1
        values = 0.1 * memory.protected.output_scale * torch.randn(case.steps, layer.site.units)
        memory.add(correction, memory.entry(torch.cat(read_so_far)[: layer.needed(case.steps)], values))
        if correction + 1 in numbers:
            made[correction + 1] = copy.deepcopy(memory)
    return made


@dataclass(frozen=True)
class Row:
    """The cost of a variant: medians over rounds. `keys` is the size of its codebook."""

    model: str
    way: str
    keys: int
    ratio: float
    quartiles: tuple[float, float]
    unmodified_ms: float


def measure(name: str, case: Case, counts: list[int], rounds: int, seed: int) -> list[Row]:
    """Time each variant together with the unmodified model."""
    made = memories(case, counts)
    models, keys = {"none": copy.deepcopy(case.model)}, {"none": 0}

    def way(called: str, memory: Memory, *live: Memory, folded: bool = False) -> None:
        models[called], keys[called] = copy.deepcopy(case.model), len(memory.corrections.fitted()[2]) if live else 0
        if folded:
            fold(models[called], replace(memory, parts="ridge"))
        for one in live:
            Edits(models[called]).add(one)

    for count in counts:
        way(f"{count} live", made[count], made[count])
    most = max(counts)
    memory = Memory.new(made[most].protected, gated=False)  # weights cannot have a gate
    for number, entry in made[most].entries.items():
        memory.add(number, entry)
    way(f"{most} folded", memory, folded=True)
    way(f"{most} folded + codebook", memory, replace(memory, parts="codebook"), folded=True)
    order, draw = list(models), random.Random(seed)
    pairs: dict[str, list[tuple[float, float]]] = {called: [] for called in models}
    for number in range(rounds):
        draw.shuffle(order)
        for place, called in enumerate(order):
            both = [case.model, models[called]]
            first = (number + place) % 2
            timed = [_time(case.run, one) for one in (both if first else both[::-1])]
            pairs[called].append(tuple(timed if first else timed[::-1]))
    rows = []
    for called, found in pairs.items():
        ratios = [live / unmodified for unmodified, live in found]
        low, _, high = statistics.quantiles(ratios, n=4)
        unmodified = statistics.median(seconds for seconds, _ in found)
        rows.append(Row(name, called, keys[called], statistics.median(ratios), (low, high), 1e3 * unmodified))
    return rows


def _time(run: Run, model: nn.Module) -> float:
    run(model)  # brings the weights of this copy into the cache
    started = time.process_time()
    run(model)
    return time.process_time() - started


def show(rows: list[Row]) -> None:
    """Print rows as a table."""
    print(f"\n{rows[0].model}: {rows[0].unmodified_ms:.1f} ms unmodified")
    print(f"{'corrections':26}{'keys':>8}{'CPU ratio':>11}{'quartiles':>16}")
    for row in rows:
        quartiles = "{:.3f} - {:.3f}".format(*row.quartiles)
        print(f"{row.way:26}{row.keys:8}{row.ratio:11.3f}{quartiles:>16}", flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--corrections", nargs="+", type=int, default=[10, 100, 300])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    add_results_option(parser)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    rows: list[Row] = []
    for name in args.models:
        torch.manual_seed(args.seed)
        with torch.no_grad():
            case = CASES[name]()
            case.model.eval()
            found = measure(name, case, sorted(args.corrections), args.rounds, args.seed)
        show(found)
        rows += found
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if args.results:
        write_table(args.results, __doc__ or "", [asdict(row) for row in rows], str(args.seed))


if __name__ == "__main__":
    main()
