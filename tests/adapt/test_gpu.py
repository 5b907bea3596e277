"""On a GPU, models give the texts of the CPU in 32 bits, and close figures. Skipped without a GPU."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import adapt
from adapt import Splits, load_model, read_pairs, read_splits, tunings
from adapt.data.loader import Loader
from adapt.evaluation.selection import choose
from adapt.files import read_json
from adapt.introspect.profiles.measure import profiles
from adapt.models.devices import device_of, free_memory, place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.fixture(scope="module")
def splits(speech: dict[str, Path]) -> Splits:
    parts = {
        "train": "high_train", "source_train": "low_train", "validation": "high_validation", "test": "high_test",
        "source_test": "low_test",
    }  # fmt: skip
    return read_splits(**{part: speech[name] for part, name in parts.items()})


def test_transcripts_with_their_words(base: Path, whisper: Path, splits: Splits):
    for path, options in ((base, {}), (whisper, {"language": "en"})):
        found = [
            load_model(path, device=name, **options).transcripts(splits.test, vad=False) for name in ("cpu", "cuda")
        ]
        for here, there in zip(*found, strict=True):
            assert [word.text for word in here.words] == [word.text for word in there.words]
            assert [word.start for word in here.words] == pytest.approx([word.start for word in there.words], abs=0.05)


def test_transcripts_in_16_bits(base: Path, splits: Splits):
    exact = load_model(base).evaluate(splits).figures()["source"]["wer"]
    for precision in ("bf16", "16"):
        rough = load_model(base, device="cuda", precision=precision).evaluate(splits).figures()["source"]["wer"]
        assert abs(rough - exact) < 5


def test_translations(marian: Path, language: dict[str, Path]):
    sentences = list(read_pairs(test=language["test"]).test)
    assert load_model(marian, device="cuda").translate(sentences) == load_model(marian).translate(sentences)


def test_the_evaluation_of_a_command(
    base: Path, speech: dict[str, Path], tmp_path: Path, innertune: Callable[..., Path]
):
    folders = [
        innertune("evaluate", f"model.pretrained={base}", f"data.test={speech['low_test']}", f"device={device}",
                  f"output={tmp_path / device}")
        for device in ("cpu", "cuda")
    ]  # fmt: skip
    texts = [(folder / "transcripts.jsonl").read_text() for folder in folders]
    assert texts[0] == texts[1]


def test_profiles_and_scores(base: Path, splits: Splits):
    few = replace(splits, test=splits.test[:6], source_test=splits.source_test[:6])
    found = []
    for name in ("cpu", "cuda"):
        loaded = load_model(base, device=name)
        chosen = choose(loaded, few, ["activation_gap"], top=0.05, examples=4, loader=Loader())
        found.append((profiles(loaded, few, loader=Loader()).summary, chosen.summary))
    assert found[0] == found[1]


def test_a_correction_made_on_one_device_holds_on_the_other(base: Path, splits: Splits, tmp_path: Path):
    example: Any = splits.test[0]
    for made, used in (("cpu", "cuda"), ("cuda", "cpu")):
        store = tmp_path / f"{made}.db"
        loaded = load_model(base, device=made)
        loaded.memory(store, protected=list(splits.source_test))
        outcome = loaded.correct(example, "abc de", store=store, force=True)
        assert outcome.number is not None
        for name in (made, used):
            assert load_model(base, device=name).transcribe([example], corrections=store) == [outcome.after]


def test_adapt_reads_before_and_after_on_the_gpu(
    base: Path, speech: dict[str, Path], tmp_path: Path, innertune: Callable[..., Path]
):
    before, wer = [], []
    for device in ("cpu", "cuda"):
        folder = innertune(
            "adapt", "data=manifest", f"model.pretrained={base}", f"data.train={speech['high_train']}",
            f"data.validation={speech['high_validation']}", f"data.test={speech['high_test']}", "trainer.max_epochs=2",
            f"device={device}", f"output={tmp_path / device}", "non_speech=0",
        )  # fmt: skip
        metrics = read_json(folder / "metrics.json")
        before.append(metrics["target"]["before"])
        wer.append(metrics["target"]["after"]["wer"])
        again = load_model(folder)
        assert device_of(again.model).type == "cpu"
        few = replace(read_splits(test=speech["high_test"]))
        assert again.evaluate(few).figures()["target"]["wer"] == pytest.approx(wer[-1], abs=2)
    assert before[0] == before[1]
    assert wer[1] == pytest.approx(wer[0], abs=15)  # training rounds differently


def test_fine_tuning_stays_on_the_device_of_its_base(base: Path, splits: Splits):
    adapted = adapt.fine_tune(load_model(base, device="cuda"), splits, tunings.head(), epochs=1, blend="off")
    assert device_of(adapted.model).type == "cuda"
    assert adapted.transcribe(list(splits.test[:2])) == place_on_cpu(adapted).transcribe(list(splits.test[:2]))


def place_on_cpu(loaded: Any) -> Any:
    place(loaded, "cpu")
    return loaded


def test_a_budget_knows_the_memory_of_the_gpu(base: Path):
    device = device_of(load_model(base, device="cuda").model)
    free, whole = free_memory(device), torch.cuda.mem_get_info(device)[1]
    assert free is not None and 0 < free <= whole
