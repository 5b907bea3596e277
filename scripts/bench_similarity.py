#!/usr/bin/env python3
"""Time and accuracy of CKA, compared with the forward passes, and of the linear probe, compared with other fits.

    scripts/bench_similarity.py                        # both
    scripts/bench_similarity.py --rounds 9 --only cka

`cka`: 11 x 11 layers of torchaudio's Wav2Letter (23 M random weights), before and after an edit. This takes two passes
over batches of 4 x 3 s; CKA uses 8 steps of each utterance. A row has the median over rounds of the CPU time, and of
the ratios within a round. `passes, again` repeats the passes without CKA; its deviation from 1 is noise. `beyond` is
the time of CKA alone, measured within the passes, so this noise does not affect it.

`probe`: predict the phonemes of synthetic speech in two accents from layers of the embedded recogniser, on held-out
utterances. The fits are ours; scikit-learn's LogisticRegression on the same standardised rows and on raw rows; and
Adam on raw rows with the settings of NeuroX (learning rate 0.001, 10 epochs, batches of 32, penalties of 1e-5). A row
has the CPU time in seconds and the balanced accuracy.
"""

import argparse
import copy
import importlib.metadata
import json
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import torch
from result_table import add_results_option, write_table
from torch import Tensor, nn

from adapt.introspect.probes.linear import linear
from adapt.introspect.sampling import Evenly
from adapt.introspect.similarity.cka import CKA
from adapt.models.steps import steps_after, window
from interventions.capture import capture
from interventions.sites import Site, find_sites


@dataclass(frozen=True)
class CkaRow:
    """CPU seconds of a round, and their ratio to the passes without CKA."""

    way: str
    seconds: float
    ratio: float


@dataclass(frozen=True)
class ProbeRow:
    """One fit of a linear probe at one layer: CPU seconds, and the accuracy averaged over classes."""

    layer: str
    rows: int
    units: int
    classes: int
    way: str
    seconds: float
    accuracy: float


def cka(rounds: int, batches: int, seed: int, seconds: float = 3.0, net: nn.Module | None = None) -> list[CkaRow]:
    """Time two passes over each batch, without and with CKA, in turn."""
    torch.manual_seed(seed)
    before = (net or _wav2letter()).eval()
    after = copy.deepcopy(before)
    sites = find_sites(before)
    with torch.no_grad():
        weight = after.get_submodule(sites[8].name).weight
        weight.add_(0.5 * weight.std() * torch.randn_like(weight))
    windows = [window(before.get_submodule(site.name)) for site in sites]
    frames = round(100 * seconds)
    inputs = [
        torch.randn(4, windows[0] and before.get_submodule(sites[0].name).in_channels, frames) for _ in range(batches)
    ]
    valid = {site.name: steps_after(windows[: n + 1], torch.full((4,), frames)) for n, site in enumerate(sites)}
    count = torch.stack(list(valid.values())).amin(0).clamp(max=8)
    spent = [0.0]

    def passes() -> None:
        for x in inputs:
            before(x), after(x)

    def read() -> None:
        aligned = CKA()

        def rows(model: nn.Module, x: Tensor) -> list[Tensor]:
            found, pick = [], Evenly(count)

            def keep(site: Site, activation: Tensor) -> None:
                start = time.process_time()
                places, times = pick(site, valid[site.name])
                found.append(activation[places, times])
                spent[0] += time.process_time() - start

            with capture(model, sites, keep):
                model(x)
            return found

        for x in inputs:
            both = rows(before, x) + rows(after, x)
            start = time.process_time()
            aligned.update(both)
            spent[0] += time.process_time() - start
        start = time.process_time()
        matrix = aligned.result()
        spent[0] += time.process_time() - start
        assert matrix.isfinite().all() and float(matrix.diagonal().min()) > 0.999

    ways: dict[str, Callable[[], None]] = {"passes": passes, "passes, again": passes, "passes with CKA": read}
    times: dict[str, list[float]] = {way: [] for way in ways}
    beyond = []
    with torch.no_grad():
        for turn in range(rounds + 1):
            names = list(ways)[turn % 3 :] + list(ways)[: turn % 3]
            for way in names:
                spent[0] = 0.0
                start = time.process_time()
                ways[way]()
                if turn:  # the first turn warms up
                    times[way].append(time.process_time() - start)
                    beyond += [spent[0]] if way == "passes with CKA" else []
    found = [
        CkaRow(way, statistics.median(own), statistics.median(a / b for a, b in zip(own, times["passes"], strict=True)))
        for way, own in times.items()
    ]
    shares = [a / b for a, b in zip(beyond, times["passes"], strict=True)]
    return [*found, CkaRow("beyond", statistics.median(beyond), statistics.median(shares))]


def _wav2letter() -> nn.Module:
    from torchaudio.models import Wav2Letter

    return Wav2Letter(num_classes=40, input_type="mfcc", num_features=13)


def probe(layers: list[int], utterances: int, seed: int) -> list[ProbeRow]:
    """Fit phoneme probes at some layers of the embedded recogniser, in each way."""
    from adapt.data.loader import Loader
    from adapt.data.synthetic.accents import accents
    from adapt.introspect.probes.held_out import split_rows, standardise
    from adapt.introspect.probes.target import make_target, read_target
    from adapt.models.checkpoint import load_model

    splits = accents(train=1, validation=1, test=utterances, source_test=utterances)
    model, examples = load_model("us-english").model, (*splits.test, *splits.source_test)
    target, _, test = split_rows(make_target(model, examples, "phoneme", seed=seed), examples, "example", 0.25, seed)
    sites = [model.sites[layer] for layer in layers]
    read = read_target(model, examples, Loader(), target, sites)
    found, classes = [], len(target.classes)
    for site in sites:
        raw, scaled = read[site.name], standardise(read[site.name], ~test)
        ways: dict[str, Callable[[], Tensor]] = {
            "ours": lambda x=scaled: linear(x[~test], target.labels[~test], classes).predict(x[test]),
            "scikit-learn, standardised": lambda x=scaled: _sklearn(x, target.labels, test),
            "scikit-learn, raw": lambda x=raw: _sklearn(x, target.labels, test),
            "Adam, raw": lambda x=raw: _adam(x, target.labels, test, classes, seed),
        }
        for way, fit in ways.items():
            start = time.process_time()
            answers = fit()
            seconds = time.process_time() - start
            right = (answers == target.labels[test]).double()
            share = [float(right[target.labels[test] == label].mean()) for label in range(classes)]
            found.append(ProbeRow(site.name, len(target), site.units, classes, way, seconds, float(np.mean(share))))
    return found


def _sklearn(x: Tensor, labels: Tensor, test: Tensor) -> Tensor:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(max_iter=1000).fit(x[~test].numpy(), labels[~test].numpy())
    return torch.from_numpy(fitted.predict(x[test].numpy()))


def _adam(x: Tensor, labels: Tensor, test: Tensor, classes: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    inputs, wanted = x[~test], labels[~test]
    fitted = nn.Linear(x.shape[1], classes)
    optimizer = torch.optim.Adam(fitted.parameters(), lr=1e-3)
    for _ in range(10):
        for own in torch.randperm(len(inputs)).split(32):
            penalty = 1e-5 * fitted.weight.abs().sum() + 1e-5 * fitted.weight.norm()
            loss = nn.functional.cross_entropy(fitted(inputs[own]), wanted[own]) + penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return fitted(x[test]).argmax(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["cka", "probe"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--layers", type=int, nargs="+", default=[0, 4, 7, 9])
    parser.add_argument("--utterances", type=int, default=100, help="utterances in each of two accents")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    add_results_option(parser)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    print(
        f"torch {torch.__version__}, scikit-learn {importlib.metadata.version('scikit-learn')}; {args.threads} threads"
    )
    results: dict[str, list[dict[str, object]]] = {}
    if args.only != "probe":
        rows = cka(args.rounds, args.batches, args.seed)
        print(f"\nCKA, 11 x 11 layers (goal for `beyond`: 0.010)\n{'':20}{'CPU s':>9}{'/ passes':>10}")
        for row in rows:
            print(f"{row.way:20}{row.seconds:9.3f}{row.ratio:10.4f}", flush=True)
        results["cka"] = [asdict(row) for row in rows]
    if args.only != "cka":
        rows = probe(args.layers, args.utterances, args.seed)
        for layer in dict.fromkeys(row.layer for row in rows):
            own = [row for row in rows if row.layer == layer]
            print(f"\n{layer}: {own[0].rows:,} rows, {own[0].units} units, {own[0].classes} phonemes")
            for row in own:
                print(f"{row.way:28}{row.seconds:8.2f} s{row.accuracy:9.1%}", flush=True)
        results["probe"] = [asdict(row) for row in rows]
    if args.json:
        args.json.write_text(json.dumps(results, indent=1))
    if args.results:
        write_table(args.results, __doc__ or "", [row for rows in results.values() for row in rows], str(args.seed))


if __name__ == "__main__":
    main()
