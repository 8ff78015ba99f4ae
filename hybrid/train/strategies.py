"""How the workers of one training put their gradients, or their models, together: TrainerConfig.strategy.

    sum    gradients of all are summed in the order of the ranks: the numbers of one process, whatever the timing
    ddp    torch's DistributedDataParallel: a ring all-reduce that begins while gradients are still computed
    gtc    the same with few large gradients at one bit each (gtc.py)
    gtc_updates   each takes a step of its own, of which few large parts are exchanged in the same way
    bmuf   each trains alone, models are put together once in a block (bmuf.py)

An update of all but bmuf is made of `accumulate` batches, which the workers share; one of bmuf of `accumulate`
batches at each worker. Models are equal on all workers after each update (bmuf: after each block).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from hybrid.errors import ConfigError
from hybrid.nnet.precision import outputs_in
from hybrid.train.bmuf import Bmuf, flat, put
from hybrid.train.gtc import Gtc, gtc_hook
from hybrid.train.loaders import PendingBatch
from hybrid.train.skipped import Skipped
from hybrid.train.state import Record
from hybrid.train.training import Training


class Strategy:
    """Sum, and what the others share. Made when `training` is prepared."""

    private = False  # whether each worker keeps something of its own that a checkpoint needs
    shapes_shared = False  # whether Training.shape_model is called in after_update here, not after an optimiser's step
    decay = 1.0  # of AdamW, in terms of what is configured

    def __init__(self, training: Training) -> None:
        self.training = training
        self.group = training.group
        self.over = False  # whether no worker has anything left of the piece
        self.sent = 0  # bytes that this worker has handed to the others for the model's sake

    @property
    def stride(self) -> int:
        """The batches of an update."""
        return self.training.config.accumulate

    def compute(self, items: List[PendingBatch], ended: bool) -> List[Record]:
        """Compute the batches of an update; return the records of all workers, in the order of the batches.

        Parameters then have the gradient of the mean loss a frame of those that are not bad. ended: this worker has
        nothing left.
        """
        batch_records = [self.training.record(item) for item in items]
        with_gradient = [place for place, p in enumerate(self.training.parameters) if p.grad is not None]
        records, indices = self.meet(batch_records, ended, with_gradient)
        present = sorted({place for rank_indices in indices for place in rank_indices})
        self.group.sum_gradients(self.training.parameters, present)
        self.sent += 4 * sum(self.training.parameters[place].numel() for place in present)
        self.divide(_frames(records))
        return records

    def meet(self, mine: List[Record], ended: bool, more: Any = None) -> Tuple[List[Record], List[Any]]:
        """Return the records of all workers in the order of the batches, and `more` of each worker; set `over`."""
        gathered = self.group.gather((mine, ended, more))
        self.over = all(rank_ended for _, rank_ended, _ in gathered)
        records = [record for rank_records, *_ in gathered for record in rank_records]
        return sorted(records, key=lambda record: record.index), [rank_more for *_, rank_more in gathered]

    def divide(self, by: float) -> None:
        for p in self.training.parameters:
            if p.grad is not None and by:
                p.grad.div_(by)

    def after_update(self, records: List[Record], ended: bool) -> List[Record]:
        """Return what the trainer is to count now of what has been computed."""
        return records

    def settled(self) -> bool:
        """Return whether all workers hold the same model now, so that a checkpoint can be written."""
        return True

    def replaced(self) -> None:
        """Take note that the model's parameters have been set to others, such as the best epoch's."""

    def private_state(self) -> Tuple[Dict[str, Tensor], bool]:
        """Return tensors that this worker alone has, and whether its optimiser is its own too."""
        return {}, False

    def state(self) -> Dict[str, Any]:
        """Return tensors and numbers, the same on all workers, for the checkpoint."""
        return {}

    def load(self, state: Dict[str, Any], private: Dict[str, Tensor]) -> None:
        pass


class Ddp(Strategy):
    gtc: Optional[Gtc] = None

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        # Statistics of batch norm go through add_statistics, in the order of the batches.
        self.module: Any = DistributedDataParallel(
            training.model, process_group=self.group.tensors, broadcast_buffers=False
        )

    def compute(self, items: List[PendingBatch], ended: bool) -> List[Record]:
        training = self.training
        batch_records: List[Record] = []
        for item in items[:-1]:
            with self.module.no_sync():
                batch_records.append(training.record(item, forward=self.module))
        # The last backward pass is where gradients are exchanged: all workers must go through one, and those that
        # compress want to know the number of frames before it.
        records: List[Record] = []

        def backward(value: Optional[Tensor], outputs: Mapping[str, Tensor], last: Optional[Record]) -> None:
            nonlocal records
            records, _ = self.meet(batch_records + ([last] if last is not None else []), ended)
            if self.gtc is not None:
                frames = _frames(records)
                self.gtc.scale = 1 / frames if frames else 0.0
            # All outputs take part, a head too that the criterion does not look at: DDP waits for each parameter.
            zero = 0.0 * torch.stack([x.sum() for x in outputs.values() if x.requires_grad]).sum()
            torch.autograd.backward(zero if value is None else value + zero)

        if items:
            last_record = training.record(items[-1], forward=self.module, backward=backward)
            if last_record.bad or not last_record.frames:
                self._nothing(backward, last_record)
        else:
            self._nothing(backward, None)
        if self.gtc is None:
            self.divide(_frames(records) / self.group.world_size)  # DDP takes the mean over workers
            self.sent += 4 * sum(p.numel() for p in training.parameters)
        else:
            self.sent = self.gtc.sent
        return records

    def _nothing(self, backward: Any, last: Optional[Record]) -> None:
        """A pass over a little of nothing, for a worker that has no batch, or one that gave no finite loss."""
        training = self.training
        dim = training.data.dim
        features = torch.zeros(1, 32, dim, device=training.device)
        gpus = [training.device] if training.device.type == "cuda" else []
        with torch.random.fork_rng(devices=gpus):
            outputs = outputs_in(training.config.precision, self.module, features, torch.tensor([32]))
            backward(None, outputs, last)


class Unsent(Strategy):
    """What each worker keeps of what it has not sent, in its checkpoint."""

    private = True
    gtc: Any

    def private_state(self) -> Tuple[Dict[str, Tensor], bool]:
        return self.gtc.state(self.training.model), False

    def load(self, state: Dict[str, Any], private: Dict[str, Tensor]) -> None:
        self.gtc.load(self.training.model, private)

    def replaced(self) -> None:
        self.gtc.forget()


class GtcDdp(Unsent, Ddp):
    gtc: Gtc

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        config = training.config
        self.gtc = Gtc(config.gtc_threshold, config.gtc_density, self.group.tensors)
        self.module.register_comm_hook(self.gtc, gtc_hook)


class GtcUpdates(Unsent):
    """Threshold compression of what a step changes, instead of the gradient that it is made from.

    With plain SGD both are one: the change is -lr times the gradient. Adam divides by the root of the mean square of
    what it is given. Of compressed gradients, which are 0 but for a spike of +-tau once in tau / |g| steps, that is
    sqrt(tau |g|) where it should be |g|: a gradient that says the same all the time is followed sqrt(tau / |g|) times
    more slowly. Here each worker's optimiser sees its own gradients, whole, and what all share, theta, changes by

        sum_i tau s_i   of   r_i <- r_i + weight (change of worker i)

    (gtc.py): what is not sent stays in r_i, and no change is lost. After each update the model is theta again, the same
    for all. At the end of an epoch (or of a chunk of a schedule) all that is left is sent, in 8 bits an element, so
    that what is evaluated and kept has heard everything.

    The weight. Of N workers each has an N-th of the update's frames. SGD's change is linear in the gradient, so that
    the mean, 1 / N, is what one worker would do. Adam's is the gradient over the root of its mean square, and that is
    mostly noise: of an N-th of the frames it has N times the variance, so that a worker's step goes 1 / sqrt(N) as far
    along the gradient of all, with noise as large as that of one worker's step. Weighed by 1 / sqrt(N), N of them make
    N / sqrt(N)^2 = 1 of its step along the gradient and sqrt(N) / sqrt(N) = 1 of its noise. The mean would be training
    at a learning rate 1 / sqrt(N) as high (the square root rule of Malladi et al., NeurIPS 2022). AdamW's decay does
    not look at gradients; its sum over workers, weighed, is to be one worker's, so each decays 1 / sqrt(N) as much.

    Where gradients are taken. Were all sent at once, parameters would be theta + sum_j r_j, of which worker i knows r_i
    alone. It takes its gradients at  theta + c r_i:  c is 1 if it thinks that the others have moved nowhere, N if it
    thinks that they have moved as it has. Let all follow a valley of the loss in which one worker alone would come down
    by a share k of the way an update, with noise of variance S a step; let a share d of what is unsent go in an update.
    With R = sum_i r_i, in continuous time,

        R' = -d R - k (theta + c R / N) + noise,    theta' = d R

    For c = N these are two decays, at the rates d and k. For less all workers cross the valley before they hear that
    the others do, and where k is large against d they oscillate: theta + R has the stationary variance
    (S / 2k) (k + d) / (k c / N + d), one worker's at c = N and up to N / c times as much below. On the other hand each
    worker's own place scatters around the mean of them with (c^2 / N) S / 2(d + k c / N), up to c times one worker's
    S / 2k, and gradients are taken there. c = sqrt(N) makes the larger of the two bounds least. With Adam that is
    1 / weight: each sees at full size all that it has done itself, as if it trained alone until something is sent.
    One worker alone trains plainly, whatever is sent.

    What a model does to itself after an update (tdnnf.py: its constraint) is done to theta, by all alike, and not sent:
    each of N workers would do the whole of it.
    """

    shapes_shared = True
    gtc: Gtc

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        config = training.config
        size = self.group.world_size
        weight = 1 / size if config.optimizer == "sgd" else size**-0.5
        self.gtc = Gtc(config.gtc_threshold, config.gtc_density, self.group.tensors, scale=weight)
        self.decay = weight if config.optimizer == "adamw" else 1.0
        self.theta = self.ahead = torch.zeros(0)

    def compute(self, items: List[PendingBatch], ended: bool) -> List[Record]:
        parameters = self.training.parameters
        self.theta = flat(parameters)
        self.ahead = self.theta + self.group.world_size**0.5 * self.gtc.unsent(list(parameters))
        put(parameters, self.ahead)
        records = [self.training.record(item) for item in items]
        self.divide(_frames(records))
        if not all(bool(torch.isfinite(p.grad.sum())) for p in parameters if p.grad is not None):  # as in Gtc.message
            self.training.optimizer.zero_grad(set_to_none=True)
            records = [replace(record, bad=True) for record in records]
        return self.meet(records, ended)[0]

    def after_update(self, records: List[Record], ended: bool) -> List[Record]:
        parameters = self.training.parameters
        change = self.gtc.reduce(flat(parameters) - self.ahead, list(parameters))
        if self.over:
            change = change + self.gtc.flush(list(parameters))
        self.sent = self.gtc.sent
        finite = bool(torch.isfinite(change).all())
        put(parameters, self.theta + change if finite else self.theta)
        if finite:
            self.training.shape_model()
            return records
        self.training.fresh_optimizer()  # some worker's step was not finite, and its moments may not be
        return [replace(record, bad=True) for record in records]

    def private_state(self) -> Tuple[Dict[str, Tensor], bool]:
        return super().private_state()[0], True


class BlockMuf(Strategy):
    private = True

    def __init__(self, training: Training, skipped: Skipped) -> None:
        super().__init__(training)
        self.skipped = skipped
        self.config = training.config.bmuf
        self.filter = Bmuf(training.parameters, list(training.model.buffers()), self.group, self.config)
        self.since = 0  # updates since the last block
        self.waiting: List[Record] = []

    @property
    def stride(self) -> int:
        return self.training.config.accumulate * self.group.world_size

    def compute(self, items: List[PendingBatch], ended: bool) -> List[Record]:
        records = [self.training.record(item) for item in items]
        self.divide(_frames(records))
        return records

    def after_update(self, records: List[Record], ended: bool) -> List[Record]:
        self.waiting += records
        self.since += 1
        self.over = False
        # In memory all end with the same update. Streams end when they do, so a block goes on to its end.
        if self.since < self.config.period and not (ended and not self.training.data.streamed):
            return []
        block, _ = self.meet(self.waiting, ended)
        self.waiting, self.since = [], 0
        finite = self.filter.sync(self.over)
        self.sent = self.filter.sent
        if finite:
            return block
        self.training.fresh_optimizer()
        self.skipped.block(block)
        return []

    def settled(self) -> bool:
        return self.since == 0

    def replaced(self) -> None:
        self.filter.restart()

    def private_state(self) -> Tuple[Dict[str, Tensor], bool]:
        return {}, True

    def state(self) -> Dict[str, Any]:
        return self.filter.state()

    def load(self, state: Dict[str, Any], private: Dict[str, Tensor]) -> None:
        self.filter.load(state)


def build_strategy(training: Training, skipped: Skipped) -> Strategy:
    """Makes the strategy of training.config.strategy. One worker has nobody to exchange gradients with.

    Raises ConfigError for fewer batches an update than processes."""
    name, world_size, accumulate = training.config.strategy, training.group.world_size, training.config.accumulate
    if name == "bmuf":
        return BlockMuf(training, skipped)
    if world_size > accumulate:
        raise ConfigError(
            f"{world_size} processes share {accumulate} batches an update",
            remedy="set accumulate to at least the number of processes, or strategy=bmuf",
        )
    if world_size == 1:
        return Strategy(training)
    kinds = {"sum": Strategy, "ddp": Ddp, "gtc": GtcDdp, "gtc_updates": GtcUpdates}
    return kinds[name](training)


def _frames(records: List[Record]) -> float:
    return sum(record.frames for record in records if not record.bad)
