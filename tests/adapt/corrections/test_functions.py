"""What the commands do can be done in a notebook: with plain arguments, and without Hydra."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapt.corrections import manage
from adapt.corrections.correct import correct_examples, open_or_create
from adapt.corrections.evaluate import evaluate_memory
from adapt.corrections.model_memory import corrected
from adapt.data.loader import Loader
from adapt.data.pairs import Pair
from adapt.data.synthetic.domains import domains
from adapt.errors import InputError
from adapt.models.checkpoint import load_model
from adapt.models.inference import decode_examples
from interventions.fold import fold

WANTED = Pair("Will it be foggy tomorrow?", "Ist es morgen neblig?")


@pytest.fixture(scope="module")
def loaded():
    return load_model("weather-en-de")


@pytest.fixture(scope="module")
def protected():
    return domains(train=0, validation=0, test=0, source_test=0, source_train=120).source_train


@pytest.mark.slow
def test_correct_list_undo_export_import_fold_and_evaluate(loaded, protected, tmp_path):
    path, task = tmp_path / "c.db", loaded.model.task
    seen = []
    memory = open_or_create(loaded, [Pair(WANTED.source, ""), *protected], path)
    outcomes = correct_examples(memory, [WANTED, WANTED], "ann", report=lambda example, outcome: seen.append(outcome))
    assert [outcome.number for outcome in outcomes] == [1, None] and outcomes == seen
    assert outcomes[0].fixed and outcomes[1].fixed and not outcomes[1].refused
    assert outcomes[0].itself and outcomes[0].checked == 19  # of 20, one of which is corrected itself
    # The memory is opened the second time, and needs no protected examples.
    assert open_or_create(loaded, None, path).site == memory.site
    with pytest.raises(InputError, match=f"are at '{memory.site}'"):
        open_or_create(loaded, None, path, site="another")

    (record,) = manage.list_corrections(loaded, path)
    assert (record.number, record.author, record.facts["text"]) == (1, "ann", WANTED.target)
    assert manage.get_correction(loaded, 1, path) == record
    found = evaluate_memory(manage.open_memory(loaded, path))
    assert (found.numbers, found.held, found.held_in_batches) == ((1,), (True,), (True,))
    assert found.protected == 19 and found.protected_unchanged >= 18

    assert manage.export_corrections(loaded, tmp_path / "c.safetensors", path) == [record]
    assert manage.import_corrections(loaded, tmp_path / "c.safetensors", tmp_path / "new.db") == [1]
    assert manage.import_corrections(loaded, tmp_path / "c.safetensors", path) == []

    weights_outside_the_fold_must_be_the_models(loaded, tmp_path, path, memory.site)
    assert manage.fold_corrections(loaded, tmp_path / "folded", path) == [1]
    folded = load_model(str(tmp_path / "folded"))
    with corrected(folded):
        assert decode_examples(folded.model, folded.model.task, [WANTED], Loader()) == [WANTED.target]
    assert manage.undo_correction(loaded, 1, path) == record
    with corrected(loaded, str(path)):
        assert decode_examples(loaded.model, task, [WANTED], Loader()) == [outcomes[0].before]
    with pytest.raises(InputError, match="no correction 1. There are: none"):
        manage.undo_correction(loaded, 1, path)


@pytest.mark.slow
def test_what_holds_in_batches_is_read_in_batches(loaded, protected, monkeypatch):
    """The cache of the encoder runs it on one input at a time, which rounds otherwise than a batch."""
    facts = [{"example": {"source": one.source, "target": one.target}, "text": one.target} for one in protected[:3]]
    records = [SimpleNamespace(number=number, facts=own) for number, own in enumerate(facts)]
    memory: Any = SimpleNamespace(
        model=loaded.model, records=lambda: records, protected_examples=lambda: protected[:2], on=nullcontext
    )
    norm = next(one for one in loaded.model.net.get_encoder().modules() if "LayerNorm" in type(one).__name__)
    original, sizes = norm.forward, []
    monkeypatch.setattr(norm, "forward", lambda x: sizes.append(len(x)) or original(x))
    assert evaluate_memory(memory).held_in_batches
    assert 3 in sizes


def weights_outside_the_fold_must_be_the_models(loaded, tmp_path, path, site):
    """A fold that touches another weight, or starts from weights that are not the loaded ones, saves nothing."""
    folder = tmp_path / "refused"
    other = "net.model.encoder.layers.0.fc1.weight"

    def fold_too_much(model, *interventions):
        fold(model, *interventions)
        with torch.no_grad():
            model.get_parameter(other).view(-1)[0].neg_()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("adapt.corrections.manage.fold", fold_too_much)
        with pytest.raises(InputError, match=f"Only '{site}' may change .* but '{other}' differs"):
            manage.fold_corrections(loaded, folder, path)
    first = loaded.model.get_parameter(other).detach().view(-1)[:1]
    before = first.clone()
    first.neg_()
    try:
        with pytest.raises(InputError, match="changed after it was loaded"):
            manage.fold_corrections(loaded, folder, path)
    finally:
        first.copy_(before)
    assert not (folder / "adaptation").exists()


def test_mistakes_are_errors_of_the_user(loaded, protected, tmp_path):
    with pytest.raises(InputError, match="has no corrections"):
        manage.list_corrections(loaded, tmp_path / "none.db")
    with pytest.raises(InputError, match="needs protected=FILE: sentences"):
        open_or_create(replace(loaded, reference="another"), None, tmp_path / "c.db")
    open_or_create(loaded, protected, tmp_path / "c.db")
    with pytest.raises(InputError, match="nothing to fold"):
        manage.fold_corrections(loaded, tmp_path / "folded", tmp_path / "c.db")
    with pytest.raises(InputError, match="no correction whose input still exists"):
        evaluate_memory(manage.open_memory(loaded, tmp_path / "c.db"))


def test_overrides_of_older_stores_still_apply(loaded, protected, tmp_path):
    memory = open_or_create(loaded, protected, tmp_path / "c.db")
    (before,) = decode_examples(loaded.model, loaded.model.task, [WANTED], Loader())
    # Version 0.1 called an output override a hint.
    memory.store.add(None, "ann", example={}, before=before, text="Demain", hint="it is no translation.")
    with memory.on():
        assert decode_examples(loaded.model, loaded.model.task, [WANTED], Loader()) == ["Demain"]
