"""Blockwise model-update filtering against the paper's formulas in plain numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hybrid.errors import ConfigError
from hybrid.train.bmuf import Bmuf, BmufConfig


class Workers:
    """Several workers in one process: `mean` answers with what was set before."""

    def __init__(self, size):
        self.rank, self.world_size = 0, size
        self.answer = None

    def mean(self, x):
        return self.answer.clone()


def slow(start, changes, eta, zeta, nesterov, last=()):
    """changes[t][i]: what worker i added to its parameters in block t. What each block began with, then the end."""
    theta, delta, begin = float(start), 0.0, float(start)
    begins = [begin]
    for t, block in enumerate(changes):
        mean = np.mean([begin + change for change in block])
        delta = eta(t) * delta + zeta * (mean - begin)
        theta = theta + delta
        begin = theta + eta(t + 1) * delta if nesterov and t not in last else theta
        begins.append(begin)
    return begins


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("zeta", [1.0, 0.7])
@pytest.mark.parametrize("last", [(), (1, 2)])
def test_blocks_follow_the_formulas(nesterov, zeta, last):
    rng = np.random.default_rng(0)
    changes = rng.normal(size=(5, 4))
    group = Workers(4)
    p = torch.nn.Parameter(torch.full((3,), 2.0, dtype=torch.float32))
    running = torch.tensor([1.0])
    bmuf = Bmuf([p], [running], group, BmufConfig(momentum=0.6, lr=zeta, nesterov=nesterov, warmup=3))
    wanted = slow(2.0, changes, lambda t: 0.6 * min(1, t / 3), zeta, nesterov, last)
    for t, block in enumerate(changes):
        assert p[0].item() == pytest.approx(wanted[t], abs=1e-5)
        group.answer = torch.cat([p.detach() + float(np.mean(block)), torch.tensor([float(t)])])
        assert bmuf.sync(last=t in last)
        assert running.item() == t
        if t == 2:  # a checkpoint in between
            state = bmuf.state()
            bmuf = Bmuf([p], [running], group, bmuf.config)
            bmuf.load(state)
    assert p.tolist() == pytest.approx([wanted[-1]] * 3, abs=1e-5)


def test_many_workers_that_do_the_same_move_the_model_as_far_as_all_of_them_one_after_the_other():
    """The reason of eta = 1 - 1/N: a change G in each block comes to N G a block in the end."""
    group = Workers(8)
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float32))
    bmuf = Bmuf([p], [], group, BmufConfig(nesterov=False))
    before = 0.0
    for _ in range(100):
        before = p.item()
        group.answer = p.detach() + 0.01
        bmuf.sync()
    assert p.item() - before == pytest.approx(8 * 0.01, rel=1e-4)


@pytest.mark.parametrize("nesterov", [True, False])
def test_one_worker_is_not_filtered(nesterov):
    group = Workers(1)
    p = torch.nn.Parameter(torch.randn(50))
    bmuf = Bmuf([p], [], group, BmufConfig(nesterov=nesterov))
    for _ in range(3):
        group.answer = p.detach() + torch.randn(50)
        bmuf.sync()
        assert p.detach().equal(group.answer)


def test_a_block_that_is_not_finite_is_lost_whole():
    group = Workers(2)
    p, running = torch.nn.Parameter(torch.ones(2)), torch.ones(1)
    bmuf = Bmuf([p], [running], group, BmufConfig())
    group.answer = torch.tensor([1.5, 2.0, 7.0])
    assert bmuf.sync()
    began, delta = p.detach().clone(), bmuf.delta.clone()
    with torch.no_grad():
        p += 100
        running += 100
    group.answer = torch.tensor([1.0, float("nan"), 1.0])
    assert not bmuf.sync()
    assert p.detach().equal(began) and running.item() == 7.0 and bmuf.delta.equal(delta) and bmuf.block == 1


def test_a_restart_forgets_the_momentum():
    group = Workers(4)
    p = torch.nn.Parameter(torch.zeros(1))
    bmuf = Bmuf([p], [], group, BmufConfig(momentum=0.5))
    group.answer = torch.ones(1)
    bmuf.sync()
    assert p.item() == 1.5  # Nesterov's step on top
    with torch.no_grad():
        p.fill_(7.0)
    bmuf.restart()
    group.answer = torch.full((1,), 9.0)
    bmuf.sync(last=True)
    assert p.item() == 9.0 and bmuf.delta.item() == 2.0


@pytest.mark.parametrize(
    "values, says",
    [({"period": 0}, "period"), ({"momentum": 1.0}, "momentum"), ({"lr": 0.0}, "lr"), ({"warmup": -1}, "warmup"),
     ({"period": 2.5}, "period"), ({"momentum": -0.5}, "momentum")],
)  # fmt: skip
def test_bad_settings(values, says):
    with pytest.raises(ConfigError, match=f"bmuf_{says}"):
        BmufConfig(**values)
