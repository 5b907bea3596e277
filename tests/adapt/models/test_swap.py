"""Applying and removing adaptations, in memory and in a model's file: stacked, bit for bit, and atomic."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapt.errors import InputError
from adapt.models import swap_files
from adapt.models.adaptation_files import save_adaptation
from adapt.models.checkpoint import load_model
from adapt.models.labels import Labels
from adapt.models.model_files import save_model
from adapt.models.state import model_fingerprint
from adapt.models.swap import apply
from adapt.models.swap_files import apply_to_file, remove_from_file
from adapt.tuning.layers import head, layers
from adapt.tuning.neurons import neurons
from interventions.freeze import freeze_all_but
from interventions.rows import merge_rows


def adaptation(base, folder, tuning, seed=0):
    """Save an adaptation with noise on the parameters that `tuning` trains."""
    loaded, model = load_model(str(base)), copy.deepcopy(load_model(str(base)).model)
    freeze_all_but(model, tuning(model).names)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
    merge_rows(model)
    save_adaptation(folder / "adaptation", loaded, model)
    return str(folder)


@pytest.fixture(params=["wav2letter", "wav2vec2", "marian"])
def base(request, tmp_path):
    """A model that may be changed: our own format in 16 bits, or a folder in the transformers format."""
    if request.param == "wav2letter":
        save_model(tmp_path / "base" / "model.safetensors", load_model("us-english").model, half=True, seed=3)
    else:
        shutil.copytree(request.getfixturevalue(request.param), tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def first(base, tmp_path):
    return adaptation(base, tmp_path / "first", lambda model: neurons(model, choose="random", per_site=True, top=0.2))


@pytest.fixture
def second(first, tmp_path):
    return adaptation(first, tmp_path / "second", head, seed=1)


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_apply_and_remove_in_memory(base, first, second):
    model = load_model(str(base)).model
    parameters, before = list(model.parameters()), bits(model)
    one = apply(model, first)
    assert one.fingerprint == model_fingerprint(model) == load_model(first).fingerprint
    between = bits(model)
    two = apply(model, second)
    assert same(bits(model), bits(load_model(second).model))
    assert all(mine is theirs for mine, theirs in zip(model.parameters(), parameters, strict=True))
    with pytest.raises(InputError, match=r"second' was applied on top of .*first'. Remove it first"):
        one.remove()
    assert same(bits(model), bits(load_model(second).model))
    two.remove()
    assert same(bits(model), between)
    one.remove()
    assert same(bits(model), before) and model_fingerprint(model) == load_model(str(base)).fingerprint
    with pytest.raises(InputError, match="was already removed"):
        one.remove()
    with apply(model, first, check=False):
        assert same(bits(model), between)
    assert same(bits(model), before)


@pytest.mark.parametrize("check", [True, False])
def test_another_base_and_another_order_are_errors(base, first, second, check):
    model = load_model(str(base)).model
    before = bits(model)
    if check:  # without the check, it is not noticed
        with pytest.raises(InputError, match="belongs to another base"):
            apply(model, second)
    applied = apply(model, first, check)
    with pytest.raises(InputError, match=r"another base.*with .*first' applied"):
        apply(model, first, check)
    with torch.no_grad():
        site = next(name for name in applied._before)
        model.net.state_dict()[site].add_(1)
    with pytest.raises(InputError, match="were changed since it was applied"):
        applied.remove()
    with torch.no_grad():
        model.net.load_state_dict({site: load_model(first).model.net.state_dict()[site]}, strict=False)
    applied.remove()
    assert same(bits(model), before)


def test_a_damaged_adaptation_leaves_the_model_unchanged(base, first):
    model = load_model(str(base)).model
    before = bits(model)
    path = Path(first) / "adaptation" / "weights.safetensors"
    stored = load_file(path)
    stored[next(name for name in sorted(stored) if name != ":rows")].add_(1)
    save_file(stored, path)
    with pytest.raises(InputError, match="changed or damaged"):
        apply(model, first)
    assert same(bits(model), before)
    apply(model, adaptation(base, Path(first).parent / "other", head)).remove()


def test_another_alphabet_can_be_applied_to_files_only(tmp_path):
    base = load_model("us-english")
    wider = base.model.with_labels(Labels((*base.model.labels.characters, "ä"), base.model.labels.blank))
    save_adaptation(tmp_path / "a" / "adaptation", base, wider)
    with pytest.raises(InputError, match="output layer of another size"):
        apply(base.model, str(tmp_path / "a"))
    assert model_fingerprint(base.model) == base.fingerprint
    save_model(tmp_path / "m.safetensors", base.model)
    apply_to_file(str(tmp_path / "m.safetensors"), str(tmp_path / "a"))
    assert load_model(str(tmp_path / "m.safetensors")).model.labels.characters[-1] == "ä"
    remove_from_file(str(tmp_path / "m.safetensors"))
    assert load_model(str(tmp_path / "m.safetensors")).fingerprint == base.fingerprint


def contents(base):
    return load_file(base / "model.safetensors"), swap_files._read(base / "model.safetensors")[1]


def test_apply_and_remove_in_a_file(base, first, second, tmp_path):
    whole, metadata = contents(base)
    files = {path.name for path in base.iterdir()}
    one = apply_to_file(str(base), first)
    assert load_model(str(base)).fingerprint == one.after
    kept = base / "model.replaced.safetensors"
    assert {path.name for path in base.iterdir()} == files | {kept.name}
    replaced = sum(whole[name].nbytes for name in one.tensors)
    assert replaced <= kept.stat().st_size < replaced + 200 * len(one.tensors) + 8000
    two = apply_to_file(str(base), second)
    assert two.before == one.after and load_model(str(base)).fingerprint == two.after
    with pytest.raises(InputError, match=r"last adaptation applied to .*second'"):
        remove_from_file(str(base), first)
    shutil.rmtree(first)  # the replaced tensors are enough to go back
    shutil.rmtree(second)
    assert remove_from_file(str(base)) == two
    assert load_model(str(base)).fingerprint == one.after
    assert remove_from_file(str(base), first) == one
    restored, said = contents(base)
    assert same(restored, whole) and said == metadata and {path.name for path in base.iterdir()} == files
    assert all(restored[name].dtype == whole[name].dtype for name in whole)
    with pytest.raises(InputError, match="nothing to remove"):
        remove_from_file(str(base))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", ["kept", "model"])
@pytest.mark.parametrize("doing", ["apply", "remove"])
def test_a_kill_leaves_the_old_or_the_new_model(base, first, monkeypatch, step, doing):
    whole, _ = contents(base)
    if doing == "remove":
        level = apply_to_file(str(base), first)
    old = load_model(str(base)).fingerprint
    name = {"kept": "_write_levels", "model": "_write"}[step]
    real = getattr(swap_files, name)

    def killed(*arguments):
        real(*arguments)
        raise Killed

    monkeypatch.setattr(swap_files, name, killed)
    with pytest.raises(Killed):
        apply_to_file(str(base), first) if doing == "apply" else remove_from_file(str(base))
    monkeypatch.undo()
    now = load_model(str(base)).fingerprint
    changed = (doing, step) in {("apply", "model"), ("remove", "model"), ("remove", "kept")}
    assert (now != old) == changed
    # Repeating the command, or undoing it, works afterwards.
    if doing == "apply":
        if not changed:
            assert apply_to_file(str(base), first).before == old
        assert remove_from_file(str(base)).before == old
    else:
        assert now == level.before
        with pytest.raises(InputError, match="nothing to remove"):
            remove_from_file(str(base))
        apply_to_file(str(base), first)
        remove_from_file(str(base))
    assert same(contents(base)[0], whole)


def test_errors(base, first, second, tmp_path):
    before = (base / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="belongs to another base"):
        apply_to_file(str(base), second)
    with pytest.raises(InputError, match="is a whole model, not an adaptation"):
        apply_to_file(str(base), str(base))
    for place in (first, "us-english", str(tmp_path / "gone")):
        with pytest.raises(InputError, match="has no weights file that can be changed"):
            apply_to_file(place, first)
    assert (base / "model.safetensors").read_bytes() == before
    apply_to_file(str(base), first)
    tensors, metadata = contents(base)
    tensors[next(iter(tensors))] += 1
    save_file(tensors, base / "model.safetensors", {name: text for name, text in metadata.items() if name == "format"})
    if (base / "config.json").exists():
        with pytest.raises(InputError, match="was changed since .*first' was applied"):
            remove_from_file(str(base))


def test_commands(innertune, base, first, capsys):
    fingerprint = load_model(str(base)).fingerprint
    innertune("apply", f"to={base}", f"adaptation={first}")
    assert load_model(str(base)).fingerprint != fingerprint
    innertune("remove", f"from={base}", f"adaptation={first}")
    assert load_model(str(base)).fingerprint == fingerprint
    assert fingerprint[:12] in capsys.readouterr().out


def test_layers_of_a_wav2letter_include_their_batch_norm(tmp_path):
    base = load_model("us-english")
    path = adaptation("us-english", tmp_path / "a", lambda model: layers(model, layers=[3]))
    applied = apply(base.model, path)
    assert {name.split(".")[1] for name in applied._before} == {"conv3", "norm3"}
    applied.remove()


@pytest.mark.parametrize("place", ["", "model.safetensors"])
def test_the_export_of_an_embedded_model_can_be_read_and_changed(innertune, tmp_path, place):
    path = adaptation("us-english", tmp_path / "a", head)
    innertune("export", "model.pretrained=us-english", f"output={tmp_path / 'out'}")
    exported = str(tmp_path / "out" / place) if place else str(tmp_path / "out")
    base = load_model("us-english").fingerprint
    assert load_model(exported).fingerprint == base
    apply_to_file(exported, path)
    assert load_model(exported).fingerprint == load_model(path).fingerprint != base
    remove_from_file(exported)
    assert load_model(exported).fingerprint == base
    assert same(load_model(exported).model.state_dict(), load_model("us-english").model.state_dict())
    (tmp_path / "out" / "model.json").unlink()
    with pytest.raises(InputError, match="contains weights without a header"):
        load_model(exported)
