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
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Protocol, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from hybrid.data.batches import Batch, Batches, Epoch, check_seed
from hybrid.errors import ConfigError, HybridError
from hybrid.io import load_tensors, save_tensors
from hybrid.nnet.model_io import load_state, put_state, state_arrays
from hybrid.nnet.recurrence import directions_in_parallel
from hybrid.train.checkpoint import Curve, load_checkpoint, save_checkpoint
from hybrid.train.config import TrainerConfig
from hybrid.train.loss import Loss
from hybrid.train.schedule import Schedule, ScheduleConfig
from hybrid.train.state import Record, State, Sums
from hybrid.train.workers import Alone, group

__all__ = ["Criterion", "Loss", "ScheduleConfig", "Trainer", "TrainerConfig"]


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
        train: Batches,
        dev: Batches,
        config: TrainerConfig,
        folder: Path,
        seed: int = 0,
        *,
        log: Callable[[str], None] = print,
        progress: Optional[Callable[[Iterable[int], int, str], Iterable[int]]] = None,
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
        self.grad_norm = math.nan

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
            with torch.random.fork_rng(), directions_in_parallel(self.config.parallel_directions):
                return self._run()
        finally:
            torch.set_num_threads(threads)

    def _run(self) -> nn.Module:
        self.device = self.config.find_device()
        self.model.to(self.device)
        self._check_dropout()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = self.config.build_optimizer(self.parameters)
        self._resume()
        self.saved = time.monotonic()
        while not self.state.finished:
            self._epoch()
        self._restore_best()
        return self.model.eval()

    # --- one epoch

    def _epoch(self) -> None:
        state, config = self.state, self.config
        begin = time.monotonic() - state.seconds
        batches = self.train.epoch(state.epoch)
        totals, recent = Sums(**state.epoch_sums), Sums(**state.recent_sums)
        starts: Iterable[int] = range(state.batch, len(batches), config.accumulate)
        if self.members.rank == 0:
            starts = self.progress(starts, len(starts), f"epoch {state.epoch + 1}/{config.epochs}")  # type: ignore[arg-type]
        self.model.train()
        for start in starts:
            done = (state.epoch + start / len(batches)) / config.epochs
            self.lr = self.schedule.rate(state.update, done)
            if self.dropout is not None:
                self._call("set_dropout", self.dropout.dropout(done))
            for record in self._update(batches, start):
                totals.add(record)
                recent.add(record)
            state.update += 1
            state.batch = start + config.accumulate
            state.seconds = time.monotonic() - begin
            if config.log_every and state.update % config.log_every == 0:
                self._row("update", recent, lr=self.lr, grad_norm=self.grad_norm)
                recent = Sums()
            state.epoch_sums, state.recent_sums = vars(totals), vars(recent)
            self._checkpoint_if_due()
            if self.on_update is not None:
                self.on_update(self)
        self._row("train", totals, lr=self.lr, grad_norm=self.grad_norm)
        self._end_epoch(totals, begin)

    def _end_epoch(self, totals: Sums, begin: float) -> None:
        state, config = self.state, self.config
        dev = self.evaluate()
        state.seconds = time.monotonic() - begin
        self._row("dev", dev, lr=self.lr)
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
            if self.members.rank == 0:
                save_tensors(self._epoch_file(state.epoch), state_arrays(self.model))
        self.members.gather(None)  # the others read that file
        if decision.restart:
            load_state(self.model, self._epoch_file(self.schedule.best_epoch))
        means = totals.means()
        accuracy = "".join(
            f", frame accuracy {100 * m['frame_accuracy']:.1f} %" for m in (dev.means(),) if "frame_accuracy" in m
        )
        self.log(
            f"epoch {state.epoch + 1}/{config.epochs}: loss {means['loss']:.4f}, dev {loss:.4f}{accuracy}, "
            f"lr {self.lr:.2e}, {state.seconds:.0f} s"
            + (f"; back to epoch {self.schedule.best_epoch + 1}" if decision.restart else "")
        )
        state.epoch += 1
        state.batch, state.seconds, state.epoch_sums = 0, 0.0, {}
        state.finished = decision.stop or state.epoch >= config.epochs
        self._save()
        self._prune()

    def _update(self, batches: Epoch, start: int) -> List[Record]:
        """One optimiser step over batches[start : start + accumulate]; returns the good ones' records, in order."""
        members = self.members
        self.optimizer.zero_grad(set_to_none=True)
        mine: List[Record] = []
        for index in range(start, min(start + self.config.accumulate, len(batches)))[members.rank :: members.size]:
            torch.manual_seed(_batch_seed(self.seed, self.state.epoch, index))
            loss = self._loss(batches[index])
            value = float(loss.value.detach())
            if not math.isfinite(value):
                mine.append(Record(index, bad=True))
                continue
            if loss.frames > 0:
                loss.value.backward()
            mine.append(Record(index, value, loss.frames, dict(loss.stats), statistics=self._call("batch_statistics")))
        have = [index for index, p in enumerate(self.parameters) if p.grad is not None]
        every = members.gather((mine, have))
        records = sorted((record for part, _ in every for record in part), key=lambda record: record.index)
        members.sum_gradients(self.parameters, sorted({index for _, part in every for index in part}))
        bad = [record.index for record in records if record.bad]
        good = [record for record in records if not record.bad]
        frames = sum(record.frames for record in good)
        self.grad_norm = 0.0
        if frames:
            gradients = [p.grad for p in self.parameters if p.grad is not None]
            for gradient in gradients:
                gradient.div_(frames)
            self.grad_norm = float(nn.utils.clip_grad_norm_(self.parameters, self.config.clip or math.inf))
            if not math.isfinite(self.grad_norm):
                bad = [record.index for record in records]
                good = []
            else:
                for settings in self.optimizer.param_groups:
                    settings["lr"] = self.lr
                self.optimizer.step()
                self._call("after_update", self.state.update)
        for record in good:
            if record.statistics is not None:
                self._call("add_statistics", record.statistics)
        if bad:
            self._skipped(batches, bad)
        return good

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
        return self.criterion(self.model(batch.features, batch.lengths), batch)

    def _skipped(self, batches: Epoch, bad: List[int]) -> None:
        state = self.state
        state.skipped += len(bad)
        names = [name for index in bad for name in batches.ids(index)]
        self._row("skipped", Sums(), utterances=names)
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        self.log(f"loss or gradient not finite, batch left out: {shown}")
        if state.skipped > self.config.max_skipped:
            raise HybridError(
                f"{state.skipped} batches gave a loss or gradient that is not finite; the last: {shown}",
                file=self.curve.path,
                remedy="look at the utterances named there (split: skipped), or lower train.lr",
            )

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

    # --- files

    def _epoch_file(self, epoch: int) -> Path:
        return epoch_file(self.folder, epoch)

    def _row(self, split: str, sums: Sums, **more: Any) -> None:
        if self.members.rank == 0:
            state = self.state
            row = {"epoch": state.epoch, "step": state.update, "split": split}
            self.curve.add({**row, **sums.means(), "frames": sums.frames, **more, "seconds": round(state.seconds, 3)})

    def _identity(self) -> Dict[str, Any]:
        data = [[len(b.utterances), b.num_frames, b.max_frames, b.seed] for b in (self.train, self.dev)]
        return {"config": self.config.numbers(), "seed": self.seed, "data": data}

    def _resume(self) -> None:
        size = 0
        if self.checkpoint.exists():
            saved = load_checkpoint(self.checkpoint, self.model, self.optimizer)
            if saved["identity"] != self._identity():
                raise ConfigError(
                    "the training there was begun with other settings or data",
                    file=self.checkpoint,
                    remedy="delete the folder, or give another --exp",
                )
            self.state = State(**saved["state"])
            self.state.history = [(int(epoch), float(loss)) for epoch, loss in self.state.history]
            self.schedule.load(saved["schedule"])
            size = saved["log_size"]
            self.log(f"going on from epoch {self.state.epoch + 1}, batch {self.state.batch + 1} ({self.checkpoint})")
        if self.members.rank == 0:
            self.curve.truncate(size)
        self.members.gather(None)  # nobody writes a checkpoint before all have read the last

    def _checkpoint_if_due(self) -> None:
        config = self.config
        due = config.checkpoint_updates and self.state.update % config.checkpoint_updates == 0
        if config.checkpoint_minutes and time.monotonic() - self.saved > 60 * config.checkpoint_minutes:
            due = True
        if due:
            self._save()

    def _save(self) -> None:
        self.saved = time.monotonic()
        if self.members.rank == 0:
            about: Dict[str, Any] = {"identity": self._identity(), "state": vars(self.state)}
            about.update(schedule=self.schedule.state(), log_size=self.curve.size)
            save_checkpoint(self.checkpoint, self.model, self.optimizer, about)

    def _best_epochs(self) -> List[int]:
        ranked = sorted(self.state.history, key=lambda item: (item[1], item[0]))
        return [epoch for epoch, _ in ranked[: max(1, self.config.average)]]

    def _prune(self) -> None:
        if self.members.rank == 0:
            keep = {self._epoch_file(epoch).name for epoch in self._best_epochs()}
            every = self.config.keep_every
            if every:
                keep |= {self._epoch_file(done - 1).name for done in range(every, self.state.epoch + 1, every)}
            for path in self.folder.glob("epoch-*.safetensors"):
                if path.name not in keep:
                    path.unlink(missing_ok=True)

    def _restore_best(self) -> None:
        chosen = self._best_epochs()
        best = self._epoch_file(chosen[0])
        load_state(self.model, best)
        if len(chosen) < 2:
            return
        before = self.evaluate().means()["loss"]
        # In float64 and in the order of the epochs, so that the sum does not depend on their ranks.
        parts = [load_tensors(self._epoch_file(epoch)) for epoch in sorted(chosen)]
        mean = {
            name: np.mean([part[name].astype(np.float64) for part in parts], axis=0).astype(parts[0][name].dtype)
            for name in parts[0]
        }
        put_state(self.model, mean, best)
        after = self.evaluate().means()["loss"]
        self.log(f"average of {len(chosen)} epochs: dev loss {after:.4f}, the best alone {before:.4f}")
        if not after < before:
            load_state(self.model, best)


def epoch_file(folder: Path, epoch: int) -> Path:
    """Parameters after epoch `epoch` (from 0)."""
    return folder / f"epoch-{epoch:03d}.safetensors"


def _batch_seed(seed: int, epoch: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, 2, epoch, index]).generate_state(1, np.uint64)[0]) >> 1
