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
from typing import Any, Callable, Iterable, Iterator, List, Optional, Tuple, Union

import torch
from torch import nn

from hybrid.data.batches import Batches
from hybrid.errors import HybridError
from hybrid.nnet.model_io import load_state
from hybrid.nnet.precision import products_in
from hybrid.nnet.recurrence import directions_in_parallel
from hybrid.train.config import TrainerConfig
from hybrid.train.epochs import EpochFiles, epoch_file
from hybrid.train.loaders import DataLoader, Streamed
from hybrid.train.loss import Loss
from hybrid.train.process_group import SingleProcess, check_same_model
from hybrid.train.resume import Checkpoints
from hybrid.train.schedule import ScheduleConfig
from hybrid.train.skipped import Skipped
from hybrid.train.state import Record, Sums
from hybrid.train.strategies import build_strategy
from hybrid.train.training import Criterion, Training
from hybrid.train.workers import process_group

__all__ = ["Criterion", "Loss", "ScheduleConfig", "Trainer", "TrainerConfig", "epoch_file"]


class Trainer(Training):
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
        super().__init__(model, criterion, train, dev, config, folder, seed, log=log)
        self.progress = progress or (lambda items, total, desc: items)
        self.on_update = on_update

    def fit(self) -> nn.Module:
        """Returns the model with the parameters of the best epoch (or their average), in evaluation mode."""
        config = self.config
        cuda = config.find_device().type == "cuda"
        with process_group(
            _fit_with, self.arguments(), config.workers, minutes=config.timeout_minutes, cuda=cuda
        ) as group:
            return self.fit_in(group)

    def fit_in(self, group: SingleProcess) -> nn.Module:
        """Does the part of `fit` of one process of `group`."""
        threads = torch.get_num_threads()
        torch.set_num_threads(self.config.threads)
        device = self.config.find_device()
        try:
            directions = directions_in_parallel(self.config.parallel_directions)
            gpus = [device] if device.type == "cuda" else []
            with torch.random.fork_rng(devices=gpus), directions, products_in(self.config.precision):
                return self._run(group)
        finally:
            torch.set_num_threads(threads)

    def _run(self, group: SingleProcess) -> nn.Module:
        self.prepare(group)
        self.skipped = Skipped(self)
        self.strategy = build_strategy(self, self.skipped)
        self.epochs = EpochFiles(self)
        self.checkpoints = Checkpoints(self, self.strategy)
        self.checkpoints.resume()
        self.begun = self.state.update
        while not self.state.finished:
            self._epoch()
        self.epochs.restore_best()
        return self.model.eval()

    # --- one epoch

    def _epoch(self) -> None:
        state, config = self.state, self.config
        begin = time.monotonic() - state.seconds
        totals, recent = Sums(**state.epoch_sums), Sums(**state.recent_sums)
        self.model.train()
        while state.piece < self.data.pieces(state.epoch):
            for share in self._updates():
                self.lr = self.schedule.rate(state.update, share) * self.loader.rate
                if self.dropout is not None:
                    self.call("set_dropout", self.dropout.dropout(share))
                for record in self._update(self.loader):
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
                self.skipped.shards(self.loader)
            state.piece, state.batch, state.positions = state.piece + 1, 0, []
        self.row("train", totals, lr=self.lr, grad_norm=state.grad_norm)
        self._end_epoch(totals, begin)

    def _updates(self) -> Iterable[float]:
        """Makes self.loader of the piece that the state stands in; yields what is done before each update of it."""
        state, group, data = self.state, self.group, self.data
        position = state.positions[group.rank] if state.positions else state.batch
        stride = self.strategy.stride
        self.loader = data.loader(state.epoch, state.piece, position, stride, group.rank, group.world_size)

        def until_all_have_ended() -> Iterator[float]:
            over = all(group.gather(self.loader.ended))
            while not over:
                yield self.loader.done()
                over = self.strategy.over

        if not group.is_main:
            return until_all_have_ended()
        pieces = data.pieces(state.epoch)
        name = f"epoch {state.epoch + 1}/{self.config.epochs}" + (f", {state.piece + 1}/{pieces}" if pieces > 1 else "")
        return self.progress(until_all_have_ended(), self.loader.total, name)

    def _end_epoch(self, totals: Sums, begin: float) -> None:
        state, config = self.state, self.config
        check_same_model(self.group, self.model, state.epoch, self.checkpoint)
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
        self.group.gather(None)  # the others read that file
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
        if self.group.world_size == 1 or not updates:
            return ""
        num_bytes, gradients = self.strategy.sent / updates, 4 * sum(p.numel() for p in self.parameters)
        return f", sent {num_bytes / 1e3:.1f} kB an update ({100 * num_bytes / gradients:.2f} % of the gradients)"

    def _update(self, loader: DataLoader) -> List[Record]:
        """One optimiser step; returns the records to count now, in order."""
        self.optimizer.zero_grad(set_to_none=True)
        items = loader.take()
        self.skipped.begun(items)
        records = self.strategy.compute(items, loader.ended)
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
                self.call("add_statistics", record.statistics)
        self.state.grad_norm = norm
        counted = self.strategy.after_update(records, loader.ended)
        self.skipped.counted(counted)
        return [record for record in counted if not record.bad]


def _fit_with(group: SingleProcess, arguments: Tuple[Any, ...]) -> None:
    """Trains with the main process, whose Training.arguments() these are."""
    Trainer(*arguments, log=_silent).fit_in(group)


def _silent(_: str) -> None:
    pass
