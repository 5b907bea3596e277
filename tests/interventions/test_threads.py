"""Threads, tasks and copies: a block edits the calls of whoever opened it, and no copy of a model keeps an edit."""

import asyncio
import copy
import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from correcting import Frames, correct_one, inputs, protected
from torch.utils.data import DataLoader

from interventions.blocks import OtherThreadError
from interventions.capture import capture
from interventions.corrections.memory import Memory
from interventions.fold import fold
from interventions.gradients import capture_gradients
from interventions.hooks import NeverRanError
from interventions.intervene import Edits, intervene
from interventions.intervention import Custom
from interventions.scope import Scope
from interventions.sites import find_sites
from interventions.steer import Steer

ROUNDS = 30


@pytest.fixture
def net():
    return Frames().eval()


def site_of(net, name="third"):
    return next(site for site in find_sites(net) if site.name == name)


def steering(net, strength):
    site = site_of(net)
    return Steer(site, torch.linspace(-1, 1, site.units), strength)


@torch.no_grad()
def put(net, number=1):
    return net(inputs(number))


def alone(net, intervention, number=1):
    with intervene(net, intervention):
        return put(net, number)


def in_threads(*functions):
    """Run functions at the same time, each in a thread of its own. Raises the first error."""
    start = threading.Barrier(len(functions))

    def run(function):
        start.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result() for future in [pool.submit(run, function) for function in functions]]


@pytest.mark.parametrize("outside", [False, True])
def test_threads_with_a_block_each_get_their_own_results(net, outside):
    wanted = {strength: alone(net, steering(net, strength)) for strength in (-3.0, 1.0, 2.0)}
    plain = put(net)

    def edited(strength):
        found = []
        if outside:  # one block for all calls
            with intervene(net, steering(net, strength)):
                found = [put(net) for _ in range(ROUNDS)]
        else:
            for _ in range(ROUNDS):
                with intervene(net, steering(net, strength)):
                    found.append(put(net))
        return found

    def unedited():
        with intervene(net):
            return [put(net) for _ in range(ROUNDS)]

    found = in_threads(*(lambda strength=strength: edited(strength) for strength in wanted), unedited)
    for one, other in zip(found, [*wanted.values(), plain], strict=True):
        assert all(torch.equal(each, other) for each in one)
    assert torch.equal(put(net), plain) and not hooks(net)


def hooks(net):
    return [hook for module in net.modules() for hook in (*module._forward_hooks, *module._forward_pre_hooks)]


def test_a_thread_without_a_block_is_refused_while_another_has_one(net):
    site = site_of(net)
    for block in (lambda: intervene(net, steering(net, 1.0)), lambda: capture(net, site)):
        with block(), ThreadPoolExecutor(1) as pool:
            with pytest.raises(OtherThreadError, match="Open a block in each thread"):
                pool.submit(put, net).result()
            put(net)
    with capture_gradients(net, site, lambda *found: None), ThreadPoolExecutor(1) as pool:
        with pytest.raises(OtherThreadError):
            pool.submit(put, net).result()
        net(inputs(1)).sum().backward()
    with ThreadPoolExecutor(1) as pool:  # afterwards, no thread needs a block
        assert torch.equal(pool.submit(put, net).result(), put(net))


def test_another_model_is_not_concerned(net):
    other = Frames().eval()
    with intervene(net, steering(net, 1.0)), ThreadPoolExecutor(1) as pool:
        assert torch.equal(pool.submit(put, other).result(), put(other))
        put(net)


def test_nested_blocks_in_threads(net):
    def nested(first, second):
        with intervene(net, steering(net, first)):
            before = put(net)
            with intervene(net, steering(net, second)):
                both = put(net)
            return before, both, put(net)

    wanted = [nested(1.0, 2.0), nested(-2.0, 0.5)]
    for _ in range(5):
        found = in_threads(lambda: nested(1.0, 2.0), lambda: nested(-2.0, 0.5))
        for one, other in zip(found, wanted, strict=True):
            assert all(map(torch.equal, one, other))


def test_captures_of_threads_are_apart(net):
    site = site_of(net)

    def captured(number):
        with capture(net, site) as found:
            for _ in range(ROUNDS):
                put(net, number)
        return found.calls(site)

    wanted = [captured(number) for number in (1, 2, 3)]
    found = in_threads(*(lambda number=number: captured(number) for number in (1, 2, 3)))
    for one, other in zip(found, wanted, strict=True):
        assert len(one) == len(other) == ROUNDS and all(map(torch.equal, one, other))


def test_edits_apply_in_every_thread_with_each_threads_own_inputs_and_steps(net):
    memory = Memory.new(protected(net), 30.0)
    for number in (1, 2, 3):
        assert correct_one(net, memory, number).fixed
    wanted = {number: alone(net, memory, number) for number in (1, 2, 3)}
    edits = Edits(net)
    edits.add(memory)
    found = in_threads(*(lambda number=number: [put(net, number) for _ in range(ROUNDS)] for number in wanted))
    for one, other in zip(found, wanted.values(), strict=True):
        assert all(torch.equal(each, other) for each in one)
    edits.clear()
    scoped = Steer(site_of(net), torch.ones(16), 1.0, scope=Scope(positions=(3, 9)))
    wanted = {number: alone(net, scoped, number) for number in (1, 2, 3)}
    edits.add(scoped)
    found = in_threads(*(lambda number=number: [put(net, number) for _ in range(ROUNDS)] for number in wanted))
    for one, other in zip(found, wanted.values(), strict=True):
        assert all(torch.equal(each, other) for each in one)
    edits.check()
    edits.clear()


def test_memories_of_threads(net):
    memories = [Memory.new(protected(net), 30.0) for _ in range(2)]
    for number, memory in enumerate(memories, 1):
        assert correct_one(net, memory, number).fixed
    wanted = [[alone(net, memory, number) for number in (1, 2)] for memory in memories]

    def taught(memory):
        found = []
        for _ in range(ROUNDS):
            with intervene(net, memory):
                found.append([put(net, number) for number in (1, 2)])
        return found

    for found, one in zip(in_threads(*(lambda memory=m: taught(memory) for m in memories)), wanted, strict=True):
        assert all(all(map(torch.equal, each, one)) for each in found)


def test_asyncio_tasks_with_a_block_each(net):
    wanted = {strength: alone(net, steering(net, strength)) for strength in (-3.0, 1.0, 2.0)}

    async def edited(strength):
        with intervene(net, steering(net, strength)):
            found = []
            for _ in range(5):
                await asyncio.sleep(0)
                found.append(put(net))
                found.append(await asyncio.to_thread(put, net))  # belongs to the task
        return found

    async def every():
        return await asyncio.gather(*(edited(strength) for strength in wanted))

    for one, other in zip(asyncio.run(every()), wanted.values(), strict=True):
        assert all(torch.equal(each, other) for each in one)
    assert torch.equal(put(net), alone(net, steering(net, 0.0)))


def test_an_error_in_one_thread_leaves_the_others(net):
    wanted = alone(net, steering(net, 2.0))

    def fails():
        for _ in range(ROUNDS):
            with pytest.raises(NeverRanError), intervene(net, steering(net, 1.0)):
                pass

    def holds():
        with intervene(net, steering(net, 2.0)):
            return [put(net) for _ in range(ROUNDS)]

    _, found = in_threads(fails, holds)
    assert all(torch.equal(one, wanted) for one in found) and not hooks(net)


def test_what_a_backward_pass_computes_again_is_edited(net):
    x = inputs(1).requires_grad_()
    gradients = []
    for again in (False, True):
        with intervene(net, steering(net, 5.0)):
            hidden = nn_checkpoint(net, x) if again else net(x)
            gradients += torch.autograd.grad(hidden.square().sum(), x)
    torch.testing.assert_close(*gradients)


def nn_checkpoint(net, x):
    return torch.utils.checkpoint.checkpoint(net, x, use_reentrant=False)


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, number):
        return inputs(number)[0]


@pytest.mark.slow
def test_with_workers_of_a_loader_in_threads(net):
    def read(strength, workers):
        found = []
        with intervene(net, steering(net, strength)), torch.no_grad():
            for batch in DataLoader(Numbers(), batch_size=2, num_workers=workers):
                found.append(net(batch))
        return torch.cat(found)

    wanted = [read(1.0, 0), read(-2.0, 0)]
    assert all(map(torch.equal, in_threads(lambda: read(1.0, 2), lambda: read(-2.0, 2)), wanted))


# ------------------------------------------------------------------------------------------------------------ copies


def every_block(net):
    site = site_of(net)
    double = Custom(site, lambda x: 2 * x)
    yield intervene(net, double)
    yield intervene(net, double, Steer(site_of(net, "first"), torch.ones(12), 1.0, scope=Scope(positions=(0, 4))))
    yield capture(net, site)


def test_a_deep_copy_within_a_block_is_clean(net):
    plain = put(net)
    for block in every_block(net):
        with block:
            twin, part = copy.deepcopy(net), copy.deepcopy(net.third)
            both = copy.deepcopy({"whole": net, "part": net.third})
            put(net)
            assert hooks(net) and not hooks(twin) and not hooks(part) and not hooks(both["whole"])
            assert torch.equal(put(twin), plain) and both["whole"].third is both["part"]
        assert torch.equal(put(twin), plain) and torch.equal(put(net), plain)
        fold(twin, steering(twin, 1.0))
        assert not torch.equal(put(twin), plain)
    with capture_gradients(net, site_of(net), lambda *found: None):
        twin = copy.deepcopy(net)
        net(inputs(1)).sum().backward()
    assert not hooks(twin)


def test_a_deep_copy_of_a_model_with_edits_is_clean_and_the_original_keeps_them(net):
    plain = put(net)
    edits = Edits(net)
    edits.add(steering(net, 2.0))
    edited = put(net)
    twin = copy.deepcopy(net)
    assert not hooks(twin) and torch.equal(put(twin), plain) and torch.equal(put(net), edited)
    edits.clear()
    assert torch.equal(put(net), plain) and torch.equal(put(twin), plain)


def test_hooks_of_others_are_copied(net):
    calls = []
    net.third.register_forward_hook(lambda *parts: calls.append(1))
    with intervene(net, steering(net, 1.0)):
        twin = copy.deepcopy(net)
        put(net)
    put(twin)
    assert len(calls) == 2


def test_a_shallow_copy_shares_the_modules_and_is_clean_after_the_block(net):
    plain = put(net)
    with intervene(net, steering(net, 1.0)):
        twin, part = copy.copy(net), copy.copy(net.third)
        assert torch.equal(put(twin), put(net))
    assert torch.equal(put(twin), plain) and not hooks(twin) and not hooks(part)


def test_a_model_with_interventions_cannot_be_pickled(net):
    for block in every_block(net):
        with block:
            for write in (pickle.dumps, lambda one: torch.save(one, io.BytesIO())):
                with pytest.raises(pickle.PicklingError, match="Leave the `with` block first"):
                    write(net)
            put(net)
        assert torch.equal(put(pickle.loads(pickle.dumps(net))), put(net))
