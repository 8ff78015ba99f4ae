"""Blockwise model-update filtering (Chen & Huo, ICASSP 2016): workers train alone and meet once in a while.

After a block of `period` updates each worker i has its own parameters theta_i. With theta_g, from which all began the
block, and N workers:

    mean   = 1/N sum_i theta_i
    G      = mean - theta_g                        what the block did to the model
    Delta <- eta Delta + zeta G                    block momentum eta, block learning rate zeta
    theta <- theta + Delta                         the global model
    theta_g <- theta                               classical block momentum, or
    theta_g <- theta + eta Delta                   Nesterov's: the next block begins where momentum would take it

Why a momentum: averaging divides by N the steps that N workers made side by side. A change G of each block goes
into the model as  zeta (1 + eta + eta^2 + ...) G = zeta / (1 - eta) G  in the end; with zeta = 1 and eta = 1 - 1/N that
is N G, the N workers' steps one after the other. One worker: eta = 0, plain training.

As computed: theta = theta_g + zeta G for Nesterov's and theta_g + eta Delta + zeta G for the classical one, with
theta_g + zeta G = mean + (zeta - 1) G, so that for zeta = 1 nothing is rounded off: one worker's numbers are those of
plain training, bit for bit.

The momentum of the inner optimiser is each worker's own and goes on over blocks, as in the paper. Running statistics
of batch norm are averaged. Where a worker's parameters are not finite after a block, all go back to theta_g, with fresh
inner optimisers: the block is lost, the models stay equal. What comes out of an epoch (for evaluation, and to keep) is
theta: a block that ends an epoch is not followed by Nesterov's step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Sequence

import torch
from torch import Tensor

from hybrid.errors import ConfigError
from hybrid.train.process_group import SingleProcess


@dataclass(frozen=True)
class BmufConfig:
    """period: updates a block. momentum: eta; -1: 1 - 1/N. lr: zeta. warmup: blocks over which eta rises from 0."""

    period: int = 50
    momentum: float = -1.0
    lr: float = 1.0
    nesterov: bool = True
    warmup: int = 0

    def __post_init__(self) -> None:
        for name, least in (("period", 1), ("warmup", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"bmuf_{name} is {value!r}", remedy=f"a whole number, at least {least}")
        if not (self.momentum == -1 or 0 <= self.momentum < 1):
            raise ConfigError(f"bmuf_momentum is {self.momentum!r}", remedy="0 to below 1, or -1 for 1 - 1/workers")
        if not 0 < self.lr < float("inf"):
            raise ConfigError(f"bmuf_lr is {self.lr!r}", remedy="above 0, e.g. 1")

    def momentum_at(self, block: int, workers: int) -> float:
        """Return eta of block `block` (from 0)."""
        full = 1 - 1 / workers if self.momentum == -1 else self.momentum
        return full * min(1.0, block / self.warmup) if self.warmup else full


class Bmuf:
    """Filters `parameters` (and averages `buffers`) in place at each `sync`, which all ranks call together."""

    def __init__(
        self, parameters: Sequence[Tensor], buffers: Sequence[Tensor], group: SingleProcess, config: BmufConfig
    ) -> None:
        self.parameters = list(parameters)
        self.buffers = [b for b in buffers if b.is_floating_point()]
        self.group = group
        self.config = config
        self.block = 0
        self.ahead = False  # whether start holds Nesterov's step
        self.start = flat(self.parameters)  # theta_g
        self.delta = torch.zeros_like(self.start)
        self.statistics = flat(self.buffers)  # as the block began
        self.sent = 0  # bytes that this worker has handed in

    def sync(self, last: bool = False) -> bool:
        """End a block; `last`: an epoch too. Return False where the block was lost: parameters are those before it."""
        config = self.config
        state = torch.cat([flat(self.parameters), flat(self.buffers).to(self.start)])
        mean = self.group.mean(state)
        self.sent += state.element_size() * state.numel()
        if not bool(torch.isfinite(mean).all()):
            put(self.parameters, self.start)
            put(self.buffers, self.statistics)
            return False
        mean, self.statistics = mean[: self.start.numel()], mean[self.start.numel() :]
        eta = config.momentum_at(self.block, self.group.world_size)
        change = mean - self.start
        model = mean if config.lr == 1 else mean + (config.lr - 1) * change
        if eta and not self.ahead:
            model = model + eta * self.delta
        self.delta = eta * self.delta + config.lr * change
        self.block += 1
        following = config.momentum_at(self.block, self.group.world_size)
        self.ahead = config.nesterov and not last and following > 0
        self.start = model + following * self.delta if self.ahead else model.clone()
        put(self.parameters, self.start)
        put(self.buffers, self.statistics)
        return True

    def restart(self) -> None:
        """Begin again from the parameters as they are now, without momentum."""
        self.start, self.statistics = flat(self.parameters), flat(self.buffers)
        self.delta = torch.zeros_like(self.start)
        self.ahead = False

    def state(self) -> Dict[str, Any]:
        """Return what a checkpoint needs, the same on every worker.

        The parameters are the model's own, `start` follows from them.
        """
        return {"block": self.block, "ahead": self.ahead, "delta": self.delta.detach().cpu()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take a checkpoint's state, after the parameters and buffers have been put back, as they were after a sync."""
        self.block, self.ahead = int(state["block"]), bool(state["ahead"])
        self.start, self.statistics = flat(self.parameters), flat(self.buffers)
        self.delta = state["delta"].to(self.start)


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Copy all elements of `tensors` into one row."""
    return torch.cat([t.detach().reshape(-1).float() for t in tensors]) if tensors else torch.zeros(0)


def put(tensors: Sequence[Tensor], values: Tensor) -> None:
    with torch.no_grad():
        for t, chunk in zip(tensors, values.split([t.numel() for t in tensors])):
            t.copy_(chunk.view_as(t))
