"""Several processes share the examples, and all return the results of a single process."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from tone_speech import write_tones

from adapt.data.loader import Loader
from adapt.data.manifest import Splits, read_manifest
from adapt.files import write_json
from adapt.introspect.bias.errors import GroupErrors
from adapt.introspect.bias.measure import bias
from adapt.introspect.probes.probe import Probe, probe
from adapt.introspect.profiles.groupings import groupings
from adapt.introspect.profiles.profiles import Profiles
from adapt.introspect.profiles.read import read_profiles
from adapt.introspect.similarity.similarity import Similarity, similarity
from adapt.models.wav2letter import wav2letter_small

pytestmark = pytest.mark.slow

PROCESS = """
import sys
import torch
from test_introspect_ddp import measure

rank, ranks, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
measure(sys.argv[4].split(), f"{folder}/{rank}")
torch.distributed.destroy_process_group()
"""


def measure(manifests, folder):
    """Measure a model on 21 utterances of two speakers with different pitch, in batches of one to three."""
    torch.manual_seed(0)
    loaded = wav2letter_small(labels=" abcde", inner=16, big=24, n_features=20)
    model = loaded.model
    examples = [one for path in manifests for one in read_manifest(path)[0]]
    loader = Loader(batch_seconds=2)
    groups = groupings(model, examples, ["letter", "speaker"])
    read_profiles(model, examples, loader, groups).save(Path(folder) / "profiles.safetensors")
    for method in ("cka", "procrustes"):
        similarity(model, examples, loader, method=method, sites=model.sites[2:5]).save(Path(folder) / method)
    probe(model, examples, loader, "speaker", sites=model.sites[2:4], controls=1).save(Path(folder) / "speaker")
    errors = np.random.default_rng(0).random(
        len(examples)
    )  # random, because the untrained network gets everything wrong
    with patch.object(GroupErrors, "each", property(lambda self: errors, lambda self, given: None), create=True):
        found = bias(
            loaded, Splits(test=tuple(examples)), loader, "speaker", sites=[site.name for site in model.sites[2:5]],
            min_examples=8, false_discovery_rate=0.5, confirm=True,
        )  # fmt: skip
    (comparison,) = found.comparisons
    neurons = [asdict(row) for row in sorted(comparison.neurons, key=lambda row: (row.site, row.unit))]
    write_json(Path(folder) / "bias.json", {"found": found.figures, "neurons": neurons})


def close(one, other):
    """Whether two values are equal up to rounding: numbers, texts, or lists or dicts of these."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    return one == pytest.approx(other, rel=1e-3, abs=1e-4) if isinstance(one, float) else one == other


def test_two_processes_as_one(tmp_path):
    manifests = [
        write_tones(tmp_path, name, count, pitch, speaker=name)
        for name, count, pitch in (("x", 10, 1.0), ("y", 11, 1.25))
    ]
    ranks, here = 2, Path(__file__).parent
    paths = [str(here), str(here.parent.parent)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path += {paths!r}\n{PROCESS}", str(n), str(ranks), str(tmp_path),
             " ".join(map(str, manifests))],
            stderr=subprocess.PIPE, text=True,
        )
        for n in range(ranks)
    ]  # fmt: skip
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # as in the other processes: more threads sum in another order
        measure(manifests, tmp_path / "alone")
        for process in started:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
    finally:
        torch.set_num_threads(threads)
        for process in started:
            process.kill()
    alone = Profiles.load(tmp_path / "alone" / "profiles.safetensors")
    for n in range(ranks):
        found = Profiles.load(tmp_path / str(n) / "profiles.safetensors")
        assert found.groups == alone.groups and found.steps(found.sites[0]) == alone.steps(alone.sites[0]) > 0
        for site in found.sites:
            for name, total in alone.sums[site.name].items():
                size = max(1.0, float(total.abs().max()))
                torch.testing.assert_close(found.sums[site.name][name], total, atol=1e-5 * size, rtol=1e-4)
        for method in ("cka", "procrustes"):
            one, several = (Similarity.load(tmp_path / str(run) / method) for run in ("alone", n))
            assert one.count == several.count > 64  # more than one block
            torch.testing.assert_close(several.matrix, one.matrix, atol=1e-12, rtol=1e-12)
        one, several = (Probe.load(tmp_path / str(run) / "speaker") for run in ("alone", n))
        assert several.rows == one.rows and several.scores == one.scores and several.tested == one.tested > 0
        one, several = (json.loads((tmp_path / str(run) / "bias.json").read_text()) for run in ("alone", n))
        assert close(one, several), f"{one}\n{several}"
        assert len(one["neurons"]) > 5 and any(abs(own["error_correlation"]) > 0.2 for own in one["neurons"])
