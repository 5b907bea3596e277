"""Several processes read a share of the examples each, and all have the profiles, similarities and probes of one."""

import subprocess
import sys
from pathlib import Path

import torch
from tone_speech import write_tones

from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.introspect.groups import groupings
from adapt.introspect.probes.probe import Probe, probe
from adapt.introspect.profiles import Profiles
from adapt.introspect.read_profiles import read_profiles
from adapt.introspect.similarity import Similarity, similarity
from adapt.models.wav2letter import wav2letter_small

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
    """11 utterances of two speakers in batches of one to three: an odd number of batches."""
    torch.manual_seed(0)
    model = wav2letter_small(labels=" abcde", inner=16, big=24, n_features=20).model
    examples = [one for path in manifests for one in read_manifest(path)[0]]
    loader = Loader(batch_seconds=2)
    groups = groupings(model, examples, ["letter", "speaker"])
    read_profiles(model, examples, loader, groups).save(Path(folder) / "profiles.safetensors")
    for method in ("cka", "procrustes"):
        similarity(model, examples, loader, method=method, sites=model.sites[2:5]).save(Path(folder) / method)
    probe(model, examples, loader, "speaker", sites=model.sites[2:4], controls=1).save(Path(folder) / "speaker")


def test_two_processes_as_one(tmp_path):
    manifests = [write_tones(tmp_path, name, count, speaker=name) for name, count in (("x", 5), ("y", 6))]
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
        torch.set_num_threads(1)  # as in the others: more of them add up in another order
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
            assert one.count == several.count > 64  # rows of more than one block
            torch.testing.assert_close(several.matrix, one.matrix, atol=1e-12, rtol=1e-12)
        one, several = (Probe.load(tmp_path / str(run) / "speaker") for run in ("alone", n))
        assert several.rows == one.rows and several.scores == one.scores and several.tested == one.tested > 0
