"""Every intervention on every kind of model in every use: each cell is run, against hooks written by hand.

`EXPECTED` says what a cell is to do. "yes": the effect is exactly that of the plain hook in `by_hand`. "refused": it is
an error that says why. "-": the model has no such use (a CTC model does not generate).
"""

import copy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import pytest
import small_models
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from interventions.ablate import Ablate
from interventions.bits import changed_bits
from interventions.capture import capture
from interventions.clamp import Clamp
from interventions.erase import EraseFitter
from interventions.files import FileError
from interventions.fold import fold, unfold
from interventions.intervene import intervene
from interventions.intervention import Intervention
from interventions.neurons import Neurons
from interventions.patch import Patch
from interventions.sites import Site, site_at
from interventions.steer import Steer
from interventions.store import load, save

EDITS = ("steer", "ablate", "patch", "erase", "clamp")
MODELS = ("wav2letter", "wav2vec2", "whisper", "marian", "musicgen")
USES = ("forward", "generate", "train", "save/load", "fold")

UNITS = [0, 2, 5]  # the neurons that are ablated or clamped
TOKENS = 6  # that a decoder reads in a forward pass; as many are generated


def expected(edit: str, model: str, use: str) -> str:
    if use == "generate" and model in ("wav2letter", "wav2vec2"):
        return "-"
    # Bounds are not affine, and a patch is of one input.
    return "refused" if use == "fold" and edit in ("patch", "clamp") else "yes"


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(seed: int, *shape: int, below: int = 40) -> Tensor:
    return torch.randint(3, below, shape, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Case:
    """A model, where it is edited, and what it is called with. `inputs(seed, batch)` are those of a forward pass."""

    make: Callable[[], nn.Module]
    places: tuple[str, ...]
    inputs: Callable[[int, int], dict[str, Tensor]]
    generation: tuple[str, ...] = ()
    ways: tuple[dict[str, object], ...] = ()  # of generating

    def sites(self, net: nn.Module) -> list[Site]:
        return [site_at(net, place) for place in self.places]

    def forward(self, net: nn.Module) -> Tensor:
        return logits(net(**self.inputs(1, 2)))

    def generate(self, net: nn.Module) -> list[Tensor]:
        given = {name: value for name, value in self.inputs(1, 2).items() if name in self.generation}
        made = []
        for way in self.ways:
            torch.manual_seed(0)
            with torch.no_grad():
                made.append(net.generate(**given, max_new_tokens=TOKENS, **way))
        return made


GREEDY, SAMPLING, BEAMS = {"do_sample": False}, {"do_sample": True}, {"do_sample": False, "num_beams": 3}

CASES = {
    "wav2letter": Case(
        small_models.wav2letter,
        ("acoustic_model.4", "acoustic_model.16"),
        lambda seed, batch: {"x": draw(seed, batch, 13, 40)},
    ),
    "wav2vec2": Case(
        small_models.wav2vec2,
        ("wav2vec2.encoder.layers.0.feed_forward.intermediate_dense", "wav2vec2.encoder.layers.1.attention.v_proj"),
        lambda seed, batch: {"input_values": draw(seed, batch, 400)},
    ),
    "whisper": Case(
        small_models.whisper,
        ("model.encoder.layers.0.fc2", "model.decoder.layers.1.fc1"),
        lambda seed, batch: {
            "input_features": draw(seed, batch, 8, 32), "decoder_input_ids": tokens(seed, batch, TOKENS),
        },
        ("input_features",),
        (GREEDY, SAMPLING, BEAMS),
    ),
    "marian": Case(
        small_models.marian,
        ("model.encoder.layers.1.fc1", "model.decoder.layers.0.self_attn.out_proj"),
        lambda seed, batch: {
            "input_ids": tokens(seed, batch, 7), "decoder_input_ids": tokens(seed, batch, TOKENS),
        },
        ("input_ids",),
        (GREEDY, SAMPLING, BEAMS),
    ),
    "musicgen": Case(
        small_models.musicgen,
        ("text_encoder.encoder.block.0.layer.1.DenseReluDense.wo", "decoder.model.decoder.layers.0.fc2"),
        lambda seed, batch: {
            "input_ids": tokens(seed, batch, 7), "decoder_input_ids": tokens(seed, 2 * batch, TOKENS, below=16),
        },
        ("input_ids",),
        ({**GREEDY, "guidance_scale": None}, {**SAMPLING, "guidance_scale": None}),
    ),
}  # fmt: skip


def logits(output: object) -> Tensor:
    return output if isinstance(output, Tensor) else output.logits


# Each edit by hand, of a hidden state `(batch, time, units)` that begins at a position.


def steered(h: Tensor, at: int, vector: Tensor) -> Tensor:
    return h + 1.5 * vector


def ablated(h: Tensor, at: int) -> Tensor:
    return h.index_fill(-1, torch.tensor(UNITS), 0.0)


def clamped(h: Tensor, at: int) -> Tensor:
    return torch.stack([h[..., u].clamp(0.1, 0.2) if u in UNITS else h[..., u] for u in range(h.shape[-1])], -1)


def patched(h: Tensor, at: int, source: Tensor) -> Tensor:
    return source[:, at : at + h.shape[1]].repeat(len(h), 1, 1)


def erased(h: Tensor, at: int, projection: Tensor, mean: Tensor) -> Tensor:
    return h - (h - mean) @ projection.T


@dataclass(frozen=True)
class Cell:
    """One edit of one model: an intervention at each site, and the function that says the same by hand."""

    case: Case
    net: nn.Module
    interventions: list[Intervention]
    edits: dict[str, Callable[[Tensor, int], Tensor]]

    def by_hand(self, run: Callable[[nn.Module], object]) -> object:
        """What `run` gives while plain forward hooks edit."""
        position = 0

        def note(module: nn.Module, args: tuple, named: dict[str, object]) -> None:
            nonlocal position
            cache = named.get("past_key_values")
            position = 0 if cache is None else cache.get_seq_length()

        def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            edit = edits[module]
            if isinstance(module, nn.Conv1d):
                return edit(output.transpose(1, 2), position).transpose(1, 2)
            return edit(output, position)

        def leave(module: nn.Module, args: tuple, output: object) -> None:
            nonlocal position
            position = 0

        edits = {self.net.get_submodule(path): edit for path, edit in self.edits.items()}
        handles = [module.register_forward_hook(hook) for module in edits]
        handles.append(self.net.register_forward_pre_hook(note, with_kwargs=True))
        handles.append(self.net.register_forward_hook(leave))
        try:
            return run(self.net)
        finally:
            for handle in handles:
                handle.remove()


def activations(case: Case, net: nn.Module, seed: int, batch: int) -> dict[str, Tensor]:
    with torch.no_grad(), capture(net, case.sites(net)) as acts:
        net(**case.inputs(seed, batch))
    return {name: acts[name] for name in acts}


@cache
def built(model: str) -> nn.Module:
    return CASES[model].make()


def make(edit: str, model: str) -> Cell:
    case, net = CASES[model], copy.deepcopy(built(model))
    usual = activations(case, net, 2, 8)
    interventions, by_hand = [], {}
    for number, site in enumerate(case.sites(net)):
        rows = usual[site.name].flatten(0, 1)
        if edit == "steer":
            vector = 2 * rows.std(0).mean() * draw(number, site.units)
            interventions.append(Steer(site, vector, 1.5))
            by_hand[site.name] = partial(steered, vector=vector)
        elif edit == "ablate":
            interventions.append(Ablate(Neurons({site: UNITS})))
            by_hand[site.name] = ablated
        elif edit == "clamp":
            interventions.append(Clamp(Neurons({site: UNITS}), 0.1, 0.2))
            by_hand[site.name] = clamped
        elif edit == "patch":
            source = activations(case, net, 3, 1)[site.name][:1]  # MusicGen's decoder has a row a codebook
            interventions.append(Patch(site, source))
            by_hand[site.name] = partial(patched, source=source.clone())
        else:
            fitter = EraseFitter(site, 2)
            fitter.update(rows, (rows[:, 0] + rows[:, 1] > (rows[:, 0] + rows[:, 1]).median()).long())
            erase = fitter.fit()
            interventions.append(erase)
            by_hand[site.name] = partial(erased, projection=(erase.left @ erase.right).float(), mean=erase.mean.float())
    return Cell(case, net, interventions, by_hand)


def close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    """Within `tolerance` of the greatest number; `erase` by hand multiplies in another order, the others are equal."""
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, atol=tolerance * scale, rtol=0)


def state(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    return list(before) == list(after) and not any(changed_bits(before[name], after[name]).any() for name in before)


@torch.no_grad()
def check_forward(cell: Cell, edit: str) -> None:
    bare = cell.case.forward(cell.net)
    with intervene(cell.net, *cell.interventions):
        found = cell.case.forward(cell.net)
    close(found, cell.by_hand(cell.case.forward))
    assert float((found - bare).abs().max() / bare.abs().max()) > 1e-3
    assert torch.equal(cell.case.forward(cell.net), bare)


def check_generate(cell: Cell, edit: str) -> None:
    bare = cell.case.generate(cell.net)
    with intervene(cell.net, *cell.interventions):
        found = cell.case.generate(cell.net)
    wanted = cell.by_hand(cell.case.generate)
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)
    assert any(one.shape != other.shape or not torch.equal(one, other) for one, other in zip(found, bare, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(cell.case.generate(cell.net), bare, strict=True))


def check_train(cell: Cell, edit: str) -> None:
    """Gradients, and what three steps make of the weights, are as under the hooks; a trained vector gets its own."""

    def train(net: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        net = net.train()
        optimizer = torch.optim.SGD(net.parameters(), 0.01)
        gradients = {}
        for _ in range(3):
            optimizer.zero_grad()
            cell.case.forward(net).log_softmax(-1)[..., 1].mean().neg().backward()
            gradients = gradients or {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
            optimizer.step()
        return gradients, state(net)

    start = state(cell.net)
    bare, _ = train(cell.net)
    cell.net.load_state_dict(start)
    wanted, trained = cell.by_hand(train)
    cell.net.load_state_dict(start)
    with intervene(cell.net, *cell.interventions):
        found, weights = train(cell.net)
    assert found.keys() == wanted.keys() and cell.net.training
    scale = max(float(gradient.abs().max()) for gradient in wanted.values())
    for name in found:
        torch.testing.assert_close(found[name], wanted[name], atol=1e-5 * scale, rtol=1e-3, msg=name)
        torch.testing.assert_close(weights[name], trained[name], atol=1e-5, rtol=1e-4, msg=name)
    assert any(not torch.allclose(found[name], bare[name], atol=1e-3 * scale) for name in found)
    if edit == "steer":
        cell.net.load_state_dict(start)
        check_trained_vectors(cell)


def check_trained_vectors(cell: Cell) -> None:
    """A vector that requires a gradient gets the one that it gets by hand."""

    def gradients(vectors: list[Tensor], run: Callable[[], Tensor]) -> list[Tensor]:
        return list(torch.autograd.grad(run().log_softmax(-1)[..., 1].mean(), vectors))

    vectors = [one.vector.clone().requires_grad_() for one in cell.interventions]
    steers = [Steer(one.site, vector, 1.5) for one, vector in zip(cell.interventions, vectors, strict=True)]
    by_hand = {
        one.site.name: partial(steered, vector=vector) for one, vector in zip(cell.interventions, vectors, strict=True)
    }
    with intervene(cell.net, *steers):
        found = gradients(vectors, lambda: cell.case.forward(cell.net))
    wanted = gradients(vectors, lambda: Cell(cell.case, cell.net, [], by_hand).by_hand(cell.case.forward))
    for one, other in zip(found, wanted, strict=True):
        assert other.abs().max() > 0
        close(one, other)


def check_fold(cell: Cell, edit: str) -> None:
    before = state(cell.net)
    with torch.no_grad(), intervene(cell.net, *cell.interventions):
        hooked, generated = cell.case.forward(cell.net), cell.case.generate(cell.net)
    folded = fold(cell.net, *cell.interventions)
    with torch.no_grad():
        close(cell.case.forward(cell.net), hooked, 1e-6)
    for one, other in zip(cell.case.generate(cell.net), generated, strict=True):
        assert torch.equal(one, other) if one.dtype == torch.int64 else torch.allclose(one, other, atol=1e-5)
    unfold(folded)
    assert same(before, cell.net.state_dict())


IN_A_FRESH_PROCESS = """
import sys, torch
sys.path[:0] = [{root!r}, {tests!r}, {here!r}]
from pathlib import Path
from safetensors.torch import save_file
import test_matrix as matrix
from interventions.intervene import intervene
from interventions.store import load
found = {{}}
for model in matrix.MODELS:
    case = matrix.CASES[model]
    net = case.make()
    for edit in matrix.EDITS:
        with torch.no_grad(), intervene(net, *load(Path({folder!r}) / f"{{edit}}-{{model}}.safetensors", net).values()):
            found[f"{{edit}}-{{model}}"] = case.forward(net).contiguous()
save_file(found, {folder!r} + "/found")
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """Every cell's file, and what each gives in another process that knows nothing but the file and the model."""
    folder = tmp_path_factory.mktemp("stored")
    for model in MODELS:
        for edit in EDITS:
            cell = make(edit, model)
            save(folder / f"{edit}-{model}.safetensors", cell.interventions, cell.net)
    here = Path(__file__).parent
    code = IN_A_FRESH_PROCESS.format(
        folder=str(folder), root=str(here.parent.parent), tests=str(here.parent), here=str(here)
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, load_file(folder / "found")


def check_stored(cell: Cell, edit: str, model: str, stored: tuple[Path, dict[str, Tensor]]) -> None:
    folder, found = stored
    with torch.no_grad(), intervene(cell.net, *cell.interventions):
        assert torch.equal(found[f"{edit}-{model}"], cell.case.forward(cell.net))
    other = copy.deepcopy(cell.net)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1
    with pytest.raises(FileError, match="belongs to another model"):
        load(folder / f"{edit}-{model}.safetensors", other)


@pytest.mark.parametrize(
    "use", [pytest.param(use, marks=[pytest.mark.slow] if use == "save/load" else []) for use in USES]
)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("edit", EDITS)
def test_cell(edit: str, model: str, use: str, request: pytest.FixtureRequest) -> None:
    cell, wanted = make(edit, model), expected(edit, model, use)
    if wanted == "-":
        assert not hasattr(cell.net, "generate")
    elif wanted == "refused":
        before = state(cell.net)
        with pytest.raises(ValueError, match=f"{edit.title()} cannot be folded"):
            fold(cell.net, *cell.interventions)
        assert same(before, cell.net.state_dict())
    elif use == "save/load":
        check_stored(cell, edit, model, request.getfixturevalue("stored"))
    else:
        {"forward": check_forward, "generate": check_generate, "train": check_train, "fold": check_fold}[use](
            cell, edit
        )
