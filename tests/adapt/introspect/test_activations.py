"""Activations do not depend on the batches, nor on the number of processes that read them."""

from dataclasses import replace

import pytest
import soundfile
import torch
from small_hf import save_ctc

from adapt.data.loader import Loader
from adapt.data.manifest import read_manifest
from adapt.introspect.activations import read_activations, read_means
from adapt.models.checkpoint import load_model
from interventions.reduce import Mean


@pytest.fixture(scope="module")
def examples(speech, tmp_path_factory):
    """Utterances of different lengths."""
    folder, cut = tmp_path_factory.mktemp("cut"), []
    for number, example in enumerate(read_manifest(speech["low_test"])[0][:4]):
        samples, rate = soundfile.read(example.audio_filepath, dtype="float32")
        path = folder / f"{number}.wav"
        soundfile.write(path, samples[: len(samples) - 1600 * number], rate)
        cut.append(replace(example, audio_filepath=path, text="ab", duration=len(samples) / rate - 0.1 * number))
    return cut


@pytest.mark.parametrize("kind", ["Wav2Vec2", "SEW"])
def test_activations_do_not_depend_on_the_batches(examples, tmp_path, kind):
    """Also for a network that reads one utterance at a time, such as SEW."""
    model = load_model(str(save_ctc(tmp_path / "model", kind))).model
    found = []
    for loader in (Loader(batch_seconds=100), Loader(batch_seconds=0)):
        mean = Mean()
        read_activations(model, examples, loader, model.sites, mean)
        found.append((mean.result(), read_means(model, examples, loader, model.sites)))
    assert all(own.keys() == {site.name for site in model.sites} for pair in found for own in pair)
    for together, alone in zip(*found, strict=True):
        for name in together:
            torch.testing.assert_close(together[name], alone[name], atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_means_are_in_the_order_of_the_examples(base, examples):
    model = load_model(str(base)).model
    here, elsewhere = (
        read_means(model, examples, Loader(batch_seconds=2, workers=workers), model.sites[:1]) for workers in (0, 2)
    )
    (name,) = here
    assert torch.equal(here[name], elsewhere[name])
    assert len({row.sum().item() for row in here[name]}) == len(examples)
