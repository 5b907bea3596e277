"""Everything that runs a model gives on a device what it gives on the CPU. Run by `tests/adapt/models/test_devices.py`.

The device must exist before the first backward pass of a process, so these tests have a process of their own.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pretend_device import pretended
from tone_speech import timed

import adapt
from adapt import LoadedModel, Splits, load_model, read_pairs, read_splits
from adapt.blending.blend import blend
from adapt.data.loader import Loader
from adapt.evaluation.selection import choose
from adapt.introspect.attribution.measure import attribution
from adapt.introspect.bias.measure import bias
from adapt.introspect.probes.measure import probes
from adapt.introspect.profiles.measure import profiles
from adapt.introspect.similarity.measure import similarity
from adapt.introspect.topography.measure import topography
from adapt.models.adaptation_files import save_adaptation
from adapt.models.devices import device_of, place
from adapt.models.state import model_fingerprint
from adapt.unlabelled.entropy import adapting

with pretended():
    pass

Models = dict[str, tuple[Path, Splits]]


@pytest.fixture(scope="session")
def models(base: Path, wav2vec2: Path, whisper: Path, marian: Path, speech: Any, language: Any) -> Models:
    parts = {
        "train": "low_train", "source_train": "high_train", "test": "low_test", "source_test": "high_test",
        "validation": "low_validation",
    }  # fmt: skip
    read = read_splits(**{part: speech[name] for part, name in parts.items()})
    cut = {part: tuple(timed(getattr(read, part)[:8])) for part in parts}
    pairs = read_pairs(train=language["train"], test=language["test"])
    pairs = replace(pairs, train=pairs.train[:20], test=pairs.test[:8])
    found = dict.fromkeys(("base", "wav2vec2", "whisper"), Splits(**cut))
    paths = {"base": base, "wav2vec2": wav2vec2, "whisper": whisper, "marian": marian}
    return {name: (path, found.get(name, pairs)) for name, path in paths.items()}


def load(path: Path, name: str) -> LoadedModel:
    return load_model(path, **({"language": "en"} if name == "whisper" else {}))


def both(models: Models, name: str, run: Callable[[LoadedModel, Splits], Any]) -> None:
    """Check that `run` returns the same on the CPU and on the device."""
    path, splits = models[name]
    expected = run(load(path, name), splits)
    assert expected is not None
    with pretended() as device:
        loaded = load(path, name)
        place(loaded, device)
        assert device_of(loaded.model) == device
        assert run(loaded, splits) == expected


EVERY = pytest.mark.parametrize("name", ["base", "wav2vec2", "whisper", "marian"])
SPEECH = pytest.mark.parametrize("name", ["base", "wav2vec2", "whisper"])


def test_the_device_refuses_tensors_of_the_cpu_and_numpy():
    with pretended() as device:
        there = torch.ones(3, device=device)
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(3)
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
        assert (there + 1).cpu().numpy().tolist() == [2, 2, 2]


@EVERY
def test_answers_and_scores(models: Models, name: str):
    both(models, name, lambda loaded, splits: loaded.evaluate(splits, loader=Loader(memory=0.5)).figures())


@SPEECH
def test_words_with_times(models: Models, name: str):
    both(models, name, lambda loaded, splits: [
        [(word.text, round(word.start, 3), round(word.end, 3)) for word in one.words]
        for one in loaded.transcripts(list(splits.test)[:3], vad=False)
    ])  # fmt: skip


def test_voice_activity_stays_on_the_cpu(models: Models):
    both(models, "base", lambda loaded, splits: [one.text for one in loaded.transcripts(list(splits.test)[:2])])


def test_sequential_decoding(models: Models):
    both(models, "whisper", lambda loaded, splits: [
        one.text for one in loaded.transcripts(list(splits.test)[:1], vad=False, decoding="sequential")
    ])  # fmt: skip


def test_corrections(models: Models, tmp_path: Path):
    def run(loaded: LoadedModel, splits: Splits) -> Any:
        store = tmp_path / f"{device_of(loaded.model).type}.db"
        loaded.memory(store, protected=list(splits.train[1:7]))
        outcome = loaded.correct(splits.train[0], "abc de", store=store, force=True)  # pyright: ignore[reportArgumentType]
        again = loaded.transcribe([splits.train[0]], corrections=store)  # pyright: ignore[reportArgumentType]
        return outcome.number is None, outcome.after, again

    both(models, "whisper", run)


def test_a_correction_made_on_a_ctc_model(models: Models):
    from adapt.models.ctc import ctc_greedy_loss

    def run(loaded: LoadedModel, splits: Splits) -> Any:
        from adapt.data.loader import collate

        example = splits.test[0]
        batch = collate([(example, loaded.model.reader.read(example))]).to(device_of(loaded.model))
        loss = ctc_greedy_loss(loaded.model, batch)  # pyright: ignore[reportArgumentType]
        loss.backward()
        return round(float(loss.detach()), 4)

    both(models, "base", run)


@pytest.mark.parametrize("name", ["base", "marian"])
def test_profiles_and_similarity(models: Models, name: str):
    def run(loaded: LoadedModel, splits: Splits) -> Any:
        path = str(models[name][0])
        similar = similarity(loaded, splits, loader=Loader(), reference_model=path if name == "base" else None)
        return profiles(loaded, splits, loader=Loader()).summary, similar.summary

    both(models, name, run)


def test_probes_maps_and_bias(models: Models):
    both(models, "base", lambda loaded, splits: (
        probes(loaded, splits, loader=Loader(), targets="accent", sites="*conv2", controls=1).summary,
        topography(loaded, splits, loader=Loader(), sites="*conv2").summary,
        bias(loaded, splits, loader=Loader(), group_by="accent", min_examples=8, sites="*conv2").summary,
    ))  # fmt: skip


def test_attribution(models: Models):
    both(models, "marian", lambda loaded, splits: attribution(loaded, Splits(test=splits.test[:1])).summary)


@pytest.mark.parametrize("name", ["base", "marian"])
def test_scores_of_neurons(models: Models, name: str):
    measures = ["rgn", "weight", "fisher", "activation_gap", "gradient_gap"] if name == "base" else ["rgn", "fisher"]
    both(models, name, lambda loaded, splits: choose(
        loaded, splits, measures, top=0.05, examples=2, loader=Loader()
    ).summary)  # fmt: skip


def test_adapting_to_each_recording(models: Models):
    def run(loaded: LoadedModel, splits: Splits) -> Any:
        with adapting(loaded.model, "utterance"):
            return loaded.transcribe(list(splits.test)[:2])

    both(models, "base", run)


def changed(loaded: LoadedModel) -> LoadedModel:
    """A copy of a model with other weights, on the same device."""
    device = device_of(loaded.model)
    other = load_model(loaded.reference)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=draw))
    other = replace(other, fingerprint=model_fingerprint(other.model))
    place(other, device)
    return other


def test_comparison_with_causes_and_neurons(models: Models):
    def run(loaded: LoadedModel, splits: Splits) -> Any:
        found = adapt.compare(loaded, changed(loaded), splits, causes=2, compare_neurons=2, audio_clips=0)
        assert found.causes is not None and found.neurons is not None
        return {name: value for name, value in found.figures().items() if name != "seconds"}

    both(models, "base", run)


@pytest.mark.parametrize("how", [{"factor": "auto"}, {"factor": 0.5, "statistics": "recompute"}, {"method": "fisher"}])
def test_blending(models: Models, tmp_path: Path, how: dict[str, Any]):
    path, splits = models["base"]
    loaded = load_model(path)
    save_adaptation(tmp_path / "other", loaded, changed(loaded).model, (), trained=[])
    names = [str(tmp_path / "other")] * (2 if "method" in how else 1)
    expected = blend(names, splits=splits, loader=Loader(), **how).loaded.fingerprint
    with pretended() as device:
        found = blend(names, splits=splits, loader=Loader(), device=device, **how)
        assert device_of(found.loaded.model) == device
        found.save(tmp_path / "saved")
    assert found.loaded.fingerprint == expected
    assert load_model(tmp_path / "saved").fingerprint == expected  # files hold tensors of the CPU
