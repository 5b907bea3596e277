"""Several processes read a share of the examples each, and all have the profiles that one would have."""

import subprocess
import sys

import torch
from tone_speech import write_tones

from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.introspect.groups import groupings
from adapt.introspect.profiles import Profiles
from adapt.introspect.read_profiles import read_profiles
from adapt.models.wav2letter import wav2letter_small

PROCESS = """
import sys
import torch
from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.introspect.groups import groupings
from adapt.introspect.read_profiles import read_profiles
from adapt.models.wav2letter import wav2letter_small

rank, ranks, folder, manifest = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=ranks)
torch.manual_seed(0)
model = wav2letter_small(labels=" abcde", inner=16, big=24, n_features=20).model
examples = read_manifest(manifest)[0]
groups = groupings(model, examples, ["letter", "speaker"])
read_profiles(model, examples, Loader(batch_seconds=2), groups).save(f"{folder}/{rank}.safetensors")
torch.distributed.destroy_process_group()
"""


def test_two_processes_as_one(tmp_path):
    manifest = write_tones(tmp_path, "a", 5, speaker="x")
    ranks = 2
    started = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(n), str(ranks), str(tmp_path), str(manifest)],
                         stderr=subprocess.PIPE, text=True)
        for n in range(ranks)
    ]  # fmt: skip
    try:
        for process in started:
            _, errors = process.communicate(timeout=90)
            assert process.returncode == 0, errors
    finally:
        for process in started:
            process.kill()
    torch.manual_seed(0)
    model = wav2letter_small(labels=" abcde", inner=16, big=24, n_features=20).model
    examples = read_manifest(manifest)[0]
    alone = read_profiles(model, examples, Loader(), groupings(model, examples, ["letter", "speaker"]))
    for n in range(ranks):
        found = Profiles.load(tmp_path / f"{n}.safetensors")
        assert found.groups == alone.groups and found.steps(model.sites[0]) == alone.steps(model.sites[0]) > 0
        for site in model.sites:
            for name, total in alone.sums[site.name].items():
                size = max(1.0, float(total.abs().max()))
                torch.testing.assert_close(found.sums[site.name][name], total, atol=1e-5 * size, rtol=1e-4)
