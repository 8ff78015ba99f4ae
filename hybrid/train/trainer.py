"""The one trainer: any model, any criterion, exact resume.

    per update:  gradient of  (sum over batches of loss.value) / (sum of loss.frames),  clipped, one optimiser step
    per epoch:   loss on the development set -> learning rate, best epoch (schedule.py)

What a model may have besides forward: `set_dropout(p)` for config.dropout_schedule; `after_update(update)`, called
after each optimiser step; `batch_statistics()` after a batch and `add_statistics(...)`, called for every good batch of
an update in order, whichever process computed it.

Exact: batches follow from (seed, epoch), dropout from (seed, epoch, batch), everything else is in the checkpoint; so a
training killed at any moment and begun again ends with bit-identical parameters.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, List, Mapping, Optional, Protocol, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

from hybrid.data.batches import Batch, Batches, check_seed
from hybrid.errors import ConfigError, HybridError
from hybrid.nnet.model_io import load_state
from hybrid.nnet.precision import outputs_in, products_in
from hybrid.nnet.recurrence import directions_in_parallel
from hybrid.train.checkpoint import Curve
from hybrid.train.config import TrainerConfig
from hybrid.train.epochs import EpochFiles, epoch_file
from hybrid.train.feeds import Data, Feed, InMemory, Item, Streamed
from hybrid.train.left_out import LeftOut
from hybrid.train.loss import Loss
from hybrid.train.resume import Checkpoints
from hybrid.train.schedule import Schedule, ScheduleConfig
from hybrid.train.state import Record, State, Sums
from hybrid.train.strategies import build_strategy
from hybrid.train.workers import Alone, check_same_model, group

__all__ = ["Criterion", "Loss", "ScheduleConfig", "Trainer", "TrainerConfig", "epoch_file"]


class Criterion(Protocol):
    """output: what the model returned for the batch. For more than one worker it must be picklable."""

    def __call__(self, output: Mapping[str, Tensor], batch: Batch) -> Loss: ...


class Trainer:
    """Trains `model` in place. `fit` may be called again after a kill: it goes on from the checkpoint in `folder`.

    Files of folder: log.jsonl (rows epoch, step, split: update | train | dev | skipped, loss, frame_accuracy, lr,
    grad_norm, seconds and the criterion's stats per frame), checkpoint.safetensors, epoch-NNN.safetensors.
    on_update(trainer) is called after every update. Raises ConfigError where folder holds the checkpoint of other
    settings or data, HybridError where the training diverges.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        train: Union[Batches, Streamed],
        dev: Batches,
        config: TrainerConfig,
        folder: Path,
        seed: int = 0,
        *,
        log: Callable[[str], None] = print,
        progress: Optional[Callable[[Iterable[Any], int, str], Iterable[Any]]] = None,
        on_update: Optional[Callable[[Trainer], None]] = None,
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.train = train
        self.dev = dev
        self.config = config
        self.folder = Path(folder)
        self.seed = check_seed(seed)
        self.log = log
        self.progress = progress or (lambda items, total, desc: items)
        self.on_update = on_update
        self.state = State()
        self.schedule = Schedule(config.schedule, config.lr)
        self.dropout = config.plan_dropout()
        self.curve = Curve(self.folder / "log.jsonl")
        self.lr = config.lr
        self.left_out = LeftOut(self)

    def arguments(self) -> Tuple[Any, ...]:
        """What a second process needs to make the same updates."""
        return self.model, self.criterion, self.train, self.dev, self.config, self.folder, self.seed

    def fit(self) -> nn.Module:
        """Returns the model with the parameters of the best epoch (or their average), in evaluation mode."""
        with group(self, self.config.workers) as members:
            return self._fit(members)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def _fit(self, members: Alone) -> nn.Module:
        self.members = members
        threads = torch.get_num_threads()
        torch.set_num_threads(self.config.threads)
        try:
            directions = directions_in_parallel(self.config.parallel_directions)
            with torch.random.fork_rng(), directions, products_in(self.config.precision):
                return self._run()
        finally:
            torch.set_num_threads(threads)

    def _run(self) -> nn.Module:
        train = self.train
        self.data: Data = train if isinstance(train, Streamed) else InMemory(train, self.config.epochs)
        self.device = self.config.find_device()
        self.model.to(self.device)
        self._check_dropout()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.fresh_optimizer()
        self.strategy = build_strategy(self)
        self.epochs = EpochFiles(self)
        self.checkpoints = Checkpoints(self)
        self.checkpoints.resume()
        self.begun = self.state.update
        while not self.state.finished:
            self._epoch()
        self.epochs.restore_best()
        return self.model.eval()

    def fresh_optimizer(self) -> None:
        self.optimizer = self.config.build_optimizer(self.parameters)

    # --- one epoch

    def _epoch(self) -> None:
        state, config = self.state, self.config
        begin = time.monotonic() - state.seconds
        totals, recent = Sums(**state.epoch_sums), Sums(**state.recent_sums)
        self.model.train()
        while state.piece < self.data.pieces(state.epoch):
            for done in self._updates():
                self.lr = self.schedule.rate(state.update, done) * self.feed.rate
                if self.dropout is not None:
                    self._call("set_dropout", self.dropout.dropout(done))
                for record in self._update(self.feed):
                    totals.add(record)
                    recent.add(record)
                state.update += 1
                state.batch += self.strategy.stride
                state.seconds = time.monotonic() - begin
                if config.log_every and state.update % config.log_every == 0:
                    self.row("update", recent, lr=self.lr, grad_norm=state.grad_norm)
                    recent = Sums()
                state.epoch_sums, state.recent_sums = vars(totals), vars(recent)
                self.checkpoints.save_if_due()
                if self.on_update is not None:
                    self.on_update(self)
            if self.data.streamed:
                self.left_out.shards(self.feed)
            state.piece, state.batch, state.positions = state.piece + 1, 0, []
        self.row("train", totals, lr=self.lr, grad_norm=state.grad_norm)
        self._end_epoch(totals, begin)

    def _updates(self) -> Iterable[float]:
        """Makes self.feed of the piece that the state stands in; yields what is done before each update of it."""
        state, members, data = self.state, self.members, self.data
        position = state.positions[members.rank] if state.positions else state.batch
        self.feed = data.feed(state.epoch, state.piece, position, self.strategy.stride, members.rank, members.size)

        def until_all_have_ended() -> Iterator[float]:
            over = all(members.gather(self.feed.ended))
            while not over:
                yield self.feed.done()
                over = self.strategy.over

        if members.rank:
            return until_all_have_ended()
        pieces = data.pieces(state.epoch)
        name = f"epoch {state.epoch + 1}/{self.config.epochs}" + (f", {state.piece + 1}/{pieces}" if pieces > 1 else "")
        return self.progress(until_all_have_ended(), self.feed.total, name)

    def _end_epoch(self, totals: Sums, begin: float) -> None:
        state, config = self.state, self.config
        check_same_model(self.members, self.model, state.epoch, self.checkpoint)
        dev = self.evaluate()
        state.seconds = time.monotonic() - begin
        self.row("dev", dev, lr=self.lr)
        loss = dev.means()["loss"]
        decision = self.schedule.after_epoch(state.epoch, loss)
        if self.schedule.best_epoch < 0:
            raise HybridError(
                "the training diverged: the loss on the development set is not finite after the first epoch",
                file=self.curve.path,
                remedy="lower train.lr, or set train.clip smaller",
            )
        if math.isfinite(loss):
            state.history.append((state.epoch, loss))
            self.epochs.write(state.epoch)
        self.members.gather(None)  # the others read that file
        if decision.restart:
            load_state(self.model, self.epochs.path(self.schedule.best_epoch))
            self.strategy.replaced()
        means = totals.means()
        accuracy = "".join(
            f", frame accuracy {100 * m['frame_accuracy']:.1f} %" for m in (dev.means(),) if "frame_accuracy" in m
        )
        self.log(
            f"epoch {state.epoch + 1}/{config.epochs}: loss {means['loss']:.4f}, dev {loss:.4f}{accuracy}, "
            f"lr {self.lr:.2e}, {state.seconds:.0f} s{self._traffic()}"
            + (f"; back to epoch {self.schedule.best_epoch + 1}" if decision.restart else "")
        )
        state.epoch += 1
        state.piece, state.batch, state.positions, state.seconds, state.epoch_sums = 0, 0, [], 0.0, {}
        state.finished = decision.stop or state.epoch >= config.epochs
        self.checkpoints.save()
        self.epochs.prune()

    def _traffic(self) -> str:
        """What a worker has handed to the others since this process began to train."""
        updates = self.state.update - self.begun
        if self.members.size == 1 or not updates:
            return ""
        sent, gradients = self.strategy.sent / updates, 4 * sum(p.numel() for p in self.parameters)
        return f", sent {sent / 1e3:.1f} kB an update ({100 * sent / gradients:.2f} % of the gradients)"

    def _update(self, feed: Feed) -> List[Record]:
        """One optimiser step; returns the records to count now, in order."""
        self.optimizer.zero_grad(set_to_none=True)
        items = feed.take()
        self.left_out.begun(items)
        records = self.strategy.compute(items, feed.ended)
        norm = 0.0
        if any(record.frames for record in records if not record.bad):
            norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.clip or math.inf))
            if math.isfinite(norm):
                for settings in self.optimizer.param_groups:
                    settings.update(lr=self.lr, weight_decay=self.config.weight_decay * self.strategy.decay)
                self.optimizer.step()
                if not self.strategy.shapes_shared:
                    self.shape_model()
            else:
                for record in records:
                    record.bad = True
        for record in records:
            if record.statistics is not None and not record.bad:
                self._call("add_statistics", record.statistics)
        self.state.grad_norm = norm
        known = self.strategy.after_update(records, feed.ended)
        self.left_out.counted(known)
        return [record for record in known if not record.bad]

    def record(
        self,
        item: Item,
        forward: Optional[Callable[..., Mapping[str, Tensor]]] = None,
        backward: Optional[Callable[[Tensor, Mapping[str, Tensor], Record], None]] = None,
    ) -> Record:
        """Loss and gradient (added to .grad) of one batch, by the model and Tensor.backward, or what is given."""
        index = item.number
        torch.manual_seed(_batch_seed(self.seed, self.state.epoch, index, self.state.piece))
        batch = item.load().to(self.device)
        output = outputs_in(self.config.precision, forward or self.model, batch.features, batch.lengths)
        loss = self.criterion(output, batch)
        value = float(loss.value.detach())
        if not math.isfinite(value):
            return Record(index, bad=True)
        record = Record(index, value, loss.frames, dict(loss.stats), statistics=self._call("batch_statistics"))
        if loss.frames > 0 and backward is not None:
            backward(loss.value, output, record)
        elif loss.frames > 0:
            loss.value.backward()
        return record

    def shape_model(self) -> None:
        """What a model does to itself after an update."""
        self._call("after_update", self.state.update)

    def _call(self, name: str, *arguments: Any) -> Any:
        """A method that a model may have."""
        method = getattr(self.model, name, None)
        return None if method is None else method(*arguments)

    def _check_dropout(self) -> None:
        if self.dropout is None:
            return
        if not hasattr(self.model, "set_dropout"):
            raise ConfigError("dropout_schedule is set, the model has no dropout", remedy='set dropout_schedule to ""')
        for _, value in self.dropout.points:
            self._call("set_dropout", value)  # better now than in the last epoch

    def _loss(self, batch: Batch) -> Loss:
        batch = batch.to(self.device)
        return self.criterion(outputs_in(self.config.precision, self.model, batch.features, batch.lengths), batch)

    def evaluate(self, batches: Optional[Batches] = None) -> Sums:
        """The criterion over `batches` (the development set), in evaluation mode."""
        epoch = (batches or self.dev).epoch(0)
        members = self.members
        self.model.eval()
        mine = []
        with torch.no_grad():
            for index in range(len(epoch))[members.rank :: members.size]:
                loss = self._loss(epoch[index])
                mine.append(Record(index, float(loss.value), loss.frames, dict(loss.stats)))
        sums = Sums()
        for record in sorted((r for part in members.gather(mine) for r in part), key=lambda record: record.index):
            sums.add(record)
        return sums

    def row(self, split: str, sums: Sums, **more: Any) -> None:
        """One of log.jsonl."""
        if self.members.rank == 0:
            state = self.state
            row = {"epoch": state.epoch, "step": state.update, "split": split}
            self.curve.add({**row, **sums.means(), "frames": sums.frames, **more, "seconds": round(state.seconds, 3)})


def _batch_seed(seed: int, epoch: int, index: int, piece: int) -> int:
    key = [seed, 2, epoch, index] + ([piece] if piece else [])
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1
