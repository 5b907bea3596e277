"""Interventions where two processes train one model (DistributedDataParallel): as in one process."""

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from interventions.hooks import NeverRanError
from interventions.intervene import intervene
from interventions.lowrank import LowRank
from interventions.reduce import Mean
from interventions.sites import site_at
from interventions.steer import Steer

pytestmark = pytest.mark.slow


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.Linear(3, 2))


def inputs() -> torch.Tensor:
    return torch.randn(4, 5, 4, generator=torch.Generator().manual_seed(1))


def edit(model: nn.Module, prefix: str = "") -> Steer:
    return Steer(site_at(model, f"{prefix}0"), torch.arange(6.0), 0.5)


def process(rank: int, folder: str) -> None:
    """What each of the two processes does: its half of the batch, and what comes of it to a file."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model = DistributedDataParallel(network())
    half = inputs()[2 * rank : 2 * rank + 2]
    with intervene(model, edit(model, "module.")):
        out = model(half)
        out.square().mean().backward()
    mean = Mean()
    mean(site_at(model.module, "0"), model.module[0](half).detach())
    shares = [None, None]
    torch.distributed.all_gather_object(shares, mean)
    try:
        with intervene(model, Steer(site_at(model, "module.3"), torch.ones(2))):
            model.module[0](half)
        silent = True
    except NeverRanError:
        silent = False
    trained = LowRank.new(site_at(model, "module.2"), rank=1)
    with intervene(model, trained):
        model(half).square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.module.named_parameters()}
    result = {"out": out.detach(), "silent": torch.tensor(silent), "mean": shares[0].merge(shares[1]).result()["0"]}
    result |= {"lowrank": trained.change.grad} | {f"grad {name}": grad for name, grad in gradients.items()}
    torch.save(result, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    if not torch.distributed.is_available():
        pytest.skip("this PyTorch has no torch.distributed")
    folder = tmp_path_factory.mktemp("processes")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    torch.multiprocessing.spawn(process, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_outputs_are_those_of_one_process(shares: list[dict[str, torch.Tensor]]) -> None:
    model = network()
    with intervene(model, edit(model)):
        expected = model(inputs())
    assert not torch.equal(expected, model(inputs()))
    torch.testing.assert_close(torch.cat([own["out"] for own in shares]), expected.detach())


def test_gradients_are_those_of_one_process(shares: list[dict[str, torch.Tensor]]) -> None:
    model = network()
    with intervene(model, edit(model)):
        model(inputs()).square().mean().backward()
    trained = LowRank.new(site_at(model, "2"), rank=1)
    with intervene(model, trained):
        model(inputs()).square().mean().backward()
    for name, parameter in model.named_parameters():
        for own in shares:
            torch.testing.assert_close(own[f"grad {name}"], parameter.grad, msg=name)
    # Its own parameters are none of the model's: who trains them in several processes averages their gradients.
    mean = (shares[0]["lowrank"] + shares[1]["lowrank"]) / 2
    torch.testing.assert_close(mean, trained.change.grad)


def test_means_over_processes_are_those_of_one(shares: list[dict[str, torch.Tensor]]) -> None:
    mean = Mean()
    model = network()
    mean(site_at(model, "0"), model[0](inputs()).detach())
    for own in shares:
        torch.testing.assert_close(own["mean"], mean.result()["0"])


def test_what_never_ran_is_an_error_in_each(shares: list[dict[str, torch.Tensor]]) -> None:
    assert not any(own["silent"] for own in shares)
