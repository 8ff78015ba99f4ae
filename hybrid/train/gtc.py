"""Gradient threshold compression (Strom, Interspeech 2015): workers exchange few large gradients, one bit each.

Worker i keeps a residual r_i, zeros in the beginning. In a step it adds its part g_i of the gradient of the loss,

    r_i <- r_i + g_i;    s_i = sign(r_i) where |r_i| >= tau, else 0;    r_i <- r_i - tau s_i

and sends s_i alone: where it is not 0, and the sign. All workers take  G = sum_i tau s_i  as the gradient.

Nothing is lost, it comes later: summed over steps,  sum G = sum_t sum_i g_i - sum_i r_i, and as long as gradients of
a step stay below tau every |r_i| does too. So the delay of a gradient is its size over tau, and what is sent
a step is of the order |g| / tau a parameter. Every worker adds the same numbers in the order of the ranks, so that the
models stay equal bit for bit.

tau is in the units of the gradient of the mean loss a frame, which changes over a training and between models. Instead
of it a `density` may be given, the share of a bucket's elements to send: tau is then, at each step and worker, that
quantile of |r_i| (of a sample), and the message says which tau it was. tau = 0 without a density: all gradients are
sent as they are, a dense all-reduce.

A message is bytes: tau (float32), the bits of a word (16 or 8, whichever makes it shorter) and 0, then words in
ascending order of places: the sign, and in the other bits how many places lie between this element and the last one;
where these do not fit, 0x7FFF (0x7F) passes over so many places and is no element. Strom packs place and sign into
32 bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from hybrid.errors import ConfigError, ModelError
from hybrid.train.collectives import gather_bytes, sum_in_order

HEAD = 6  # bytes before the words
_SAMPLE = 50_000  # elements of which the quantile is taken


def skip(bits: int) -> int:
    """Return how many places a word passes over which is no element."""
    return (1 << (bits - 1)) - 1


def encode(places: Tensor, negative: Tensor, tau: float) -> Tensor:
    """Write a message uint8 [HEAD + bits / 8 (n + skips)] of places int64 [n], ascending, and negative bool [n]."""
    device = places.device
    between = torch.diff(places, prepend=places.new_full((1,), -1)) - 1
    skips = {bits: torch.div(between, skip(bits), rounding_mode="floor") for bits in (16, 8)}
    bits = min(skips, key=lambda bits: bits * (len(places) + int(skips[bits].sum())))
    ends = torch.cumsum(skips[bits] + 1, 0) - 1
    words = torch.full((int(ends[-1]) + 1 if len(places) else 0,), skip(bits), dtype=torch.int32, device=device)
    words[ends] = ((between - skips[bits] * skip(bits)) | (negative.long() << (bits - 1))).to(torch.int32)
    # torch 1.13 has no uint16: the low 16 bits as int16, of which only the bytes are looked at.
    signed = torch.where(words >= 0x8000, words - 0x10000, words).to(torch.int16)
    packed = signed if bits == 16 else words.to(torch.uint8)
    head = torch.tensor([tau], dtype=torch.float32, device=device).view(torch.uint8)
    return torch.cat([head, head.new_tensor([bits, 0]), packed.view(torch.uint8)])


def decode(message: Tensor, size: int) -> Tuple[Tensor, Tensor]:
    """Read a message: places int64 [n] and values float32 [n], +-tau.

    Raises ModelError for a place outside of `size` elements, and for words of a size that there is not.
    """
    tau = message[:4].clone().view(torch.float32)
    bits = int(message[4])
    if bits not in (8, 16):
        raise ModelError(
            f"a worker sent gradients in words of {bits} bits",
            remedy="all workers must run the same version of this program",
        )
    body = message[HEAD:].clone()
    words = body.view(torch.int16).long() & 0xFFFF if bits == 16 else body.long()
    low = words & skip(bits)
    element = low != skip(bits)
    if bool(element.all()):  # mostly, and twice as fast
        places = torch.cumsum(low.add_(1), 0).sub_(1)
    else:
        places, words = (torch.cumsum(low + element.long(), 0) - 1)[element], words[element]
    if len(places) and int(places[-1]) >= size:
        raise ModelError(
            f"a worker sent the gradient of element {int(places[-1])} of {size}",
            remedy="all workers must train the same model with the same version of this program",
        )
    return places, torch.where(words > skip(bits), -tau, tau)


def total(messages: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return the sum of what messages say, float32 as long as `like` [n]; nan where one of them is no number."""
    gradient = torch.zeros_like(like)
    for message in messages:
        if not torch.isfinite(message[:4].clone().view(torch.float32)):
            return gradient.fill_(float("nan"))
        places, values = decode(message, like.numel())
        gradient.index_add_(0, places, values)  # places of one message are all different: in no order
    return gradient


def _at_least(tau: float, x: Tensor) -> Tensor:
    """Places int64 at which |x| [n] is so much."""
    mask = x.abs() >= tau
    # numpy takes a sixth of the time of torch.nonzero.
    return torch.from_numpy(np.flatnonzero(mask.numpy())) if x.device.type == "cpu" else torch.nonzero(mask).flatten()


@dataclass
class Gtc:
    """What one worker keeps, and the state of the hook: `DDP.register_comm_hook(gtc, gtc_hook)`.

    Gradients go in multiplied by `scale` (set it before each backward pass that is reduced; 1 over all frames of the
    step makes tau a threshold of the mean gradient) and come out as the sum over the workers of `group` (None: all).
    `sent`: bytes that this worker has handed to the others so far, `elements` how many values; `dense`: bytes of
    the same gradients in float32.
    """

    threshold: float = 0.0
    density: float = 0.0
    group: Optional[Any] = None
    scale: float = 1.0
    sent: int = 0
    elements: int = 0
    dense: int = 0
    _residuals: Dict[int, Tensor] = field(default_factory=dict, repr=False)  # by id of the parameter, flat

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < float("inf"):
            raise ConfigError(f"the threshold is {self.threshold}", remedy="0 for dense gradients, or above")
        if not 0 <= self.density <= 1:
            raise ConfigError(f"the density is {self.density}", remedy="a share of the gradients, such as 0.002")
        if self.threshold and self.density:
            raise ConfigError("both a threshold and a density", remedy="set one of them to 0")

    def reduce(self, gradient: Tensor, parameters: List[Tensor]) -> Tensor:
        """Return the sum over workers of what they send of `gradient`, float32 [n]: that of `parameters`, flat."""
        self.dense += 4 * gradient.numel()
        if not (self.threshold or self.density):
            self.sent += 4 * gradient.numel()
            return sum_in_order(gradient * self.scale, self.group)
        message = self.message(gradient, parameters)
        self.sent += message.numel()
        return total(gather_bytes(message, self.group), gradient)

    def message(self, gradient: Tensor, parameters: List[Tensor]) -> Tensor:
        """Write what this worker says of `gradient`; the rest stays in its residuals."""
        residual = self._residual(parameters, gradient)
        # A gradient that is not finite would stay in the residual for good. It goes to all, who leave the step out.
        # The sum tells, in a thirtieth of the time of a look at each.
        finite = bool(torch.isfinite(gradient.sum() * self.scale))
        if finite:
            residual.add_(gradient, alpha=self.scale)
        tau = self._tau(residual) if finite else float("nan")
        places = _at_least(tau, residual) if tau > 0 else residual.new_zeros(0, dtype=torch.int64)
        negative = residual[places] < 0
        residual[places] -= torch.where(negative, -residual.new_tensor(tau), residual.new_tensor(tau))
        self._keep(parameters, residual)
        self.elements += len(places)
        return encode(places, negative, tau)

    def _tau(self, residual: Tensor) -> float:
        if self.threshold:
            return self.threshold
        sample = residual[:: max(1, residual.numel() // _SAMPLE)].abs()
        count = max(1, round(self.density * sample.numel()))
        return float(torch.topk(sample, count).values[-1])

    def _residual(self, parameters: List[Tensor], gradient: Tensor) -> Tensor:
        """DDP puts parameters into other buckets after the first step: each keeps its own."""
        parts = [self._residuals.get(id(p)) for p in parameters]
        flat = [torch.zeros(p.numel(), device=gradient.device) if r is None else r for p, r in zip(parameters, parts)]
        return torch.cat(flat).to(gradient)

    def _keep(self, parameters: List[Tensor], residual: Tensor) -> None:
        for p, chunk in zip(parameters, residual.split([p.numel() for p in parameters])):
            self._residuals[id(p)] = chunk

    def flush(self, parameters: List[Tensor]) -> Tensor:
        """Return the sum over workers of what is unsent, of which all is sent but the rounding to 8 bits.

        Sent are whole numbers of -127 to 127 times a 127th of the largest of a parameter. What is rounded off stays
        with its worker.
        """
        residual = self.unsent(parameters)
        if not (self.threshold or self.density):
            return residual
        sizes = torch.tensor([p.numel() for p in parameters], device=residual.device)
        steps = torch.stack([part.abs().max() / 127 for part in residual.split(sizes.tolist())])
        step = steps.repeat_interleave(sizes)
        counts = torch.where(step > 0, residual / step, torch.zeros_like(residual)).round_()
        self._keep(parameters, residual - counts * step)
        message = torch.cat([steps.view(torch.uint8), counts.to(torch.int8).view(torch.uint8)])
        self.sent += message.numel()
        gradient = torch.zeros_like(residual)
        for sent in gather_bytes(message, self.group):
            sent_steps = sent[: 4 * len(steps)].clone().view(torch.float32).repeat_interleave(sizes)
            gradient += sent[4 * len(steps) :].view(torch.int8) * sent_steps
        return gradient

    def unsent(self, parameters: List[Tensor]) -> Tensor:
        """Return the residuals of these parameters [n], zeros before the first `reduce`."""
        return self._residual(parameters, parameters[0])

    def forget(self) -> None:
        """Forget what has not been sent; for parameters that were set to others."""
        self._residuals.clear()

    def state(self, model: nn.Module) -> Dict[str, Tensor]:
        """Return residuals by the names of the model's parameters, for a checkpoint of this worker."""
        residuals = {name: self._residuals.get(id(p)) for name, p in model.named_parameters()}
        return {name: r.detach().cpu().clone() for name, r in residuals.items() if r is not None}

    def load(self, model: nn.Module, residuals: Mapping[str, Tensor]) -> None:
        """Take the residuals of a checkpoint. Raises ModelError for residuals of another model."""
        parameters = dict(model.named_parameters())
        for name, residual in residuals.items():
            if name not in parameters or parameters[name].numel() != residual.numel():
                raise ModelError(f"a residual of '{name}', which the model has not in this size")
            self._residuals[id(parameters[name])] = residual.to(parameters[name].device)


def gtc_hook(state: Gtc, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """Sum gradients as a hook of torch's DistributedDataParallel, over gloo and NCCL; DDP's own hook takes means."""
    future: torch.futures.Future[Tensor] = torch.futures.Future()
    future.set_result(state.reduce(bucket.buffer(), bucket.parameters()))
    return future


# DDP looks at the annotations themselves, which are texts in this file.
gtc_hook.__annotations__.update(bucket=dist.GradBucket, **{"return": torch.futures.Future[Tensor]})
