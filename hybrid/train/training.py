"""One training's model, data, settings and progress, and what a batch does to them: what the trainer's parts share.

The trainer (trainer.py) has the loop. Its parts (strategies.py, epochs.py, resume.py, skipped.py) each take a
Training and do one thing to it; none of them knows the trainer or, but by what it is given, another part.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable, Mapping, Optional, Protocol, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

from hybrid.data.batches import Batch, Batches, check_seed
from hybrid.errors import ConfigError
from hybrid.nnet.precision import outputs_in
from hybrid.train.checkpoint import Curve
from hybrid.train.config import TrainerConfig
from hybrid.train.loaders import DataLoader, PendingBatch, Streamed, TrainingData, WholeEpochs
from hybrid.train.loss import Loss
from hybrid.train.process_group import SingleProcess
from hybrid.train.schedule import Schedule
from hybrid.train.state import Record, State, Sums


class Criterion(Protocol):
    """output: what the model returned for the batch. For more than one worker it must be picklable."""

    def __call__(self, output: Mapping[str, Tensor], batch: Batch) -> Loss: ...


class Training:
    """Holds one training. `prepare` makes what depends on the processes that share it: `group`, `data`, `device`,
    `parameters`, `optimizer`; `loader` reads the part of the epoch that is next, `lr` the last rate used.

    Raises ConfigError for a seed out of range.
    """

    group: SingleProcess
    data: TrainingData
    device: torch.device
    optimizer: torch.optim.Optimizer
    loader: DataLoader

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
    ) -> None:
        self.model = model
        self.criterion = criterion
        self.train = train
        self.dev = dev
        self.config = config
        self.folder = Path(folder)
        self.seed = check_seed(seed)
        self.log = log
        self.state = State()
        self.schedule = Schedule(config.schedule, config.lr)
        self.dropout = config.plan_dropout()
        self.curve = Curve(self.folder / "log.jsonl")
        self.lr = config.lr

    def arguments(self) -> Tuple[Any, ...]:
        """Returns what a second process needs to make the same updates."""
        return self.model, self.criterion, self.train, self.dev, self.config, self.folder, self.seed

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    def prepare(self, group: SingleProcess) -> None:
        """Puts the model on its device and makes the optimiser. Raises ConfigError where cuda is asked for and absent,
        or the model has no dropout to schedule."""
        self.group = group
        train = self.train
        self.data = train if isinstance(train, Streamed) else WholeEpochs(train, self.config.epochs)
        self.device = self.config.find_device()
        self.model.to(self.device)
        self._check_dropout()
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.fresh_optimizer()

    def fresh_optimizer(self) -> None:
        """Makes the optimiser anew, without moments."""
        self.optimizer = self.config.build_optimizer(self.parameters)

    def record(
        self,
        item: PendingBatch,
        forward: Optional[Callable[..., Mapping[str, Tensor]]] = None,
        backward: Optional[Callable[[Tensor, Mapping[str, Tensor], Record], None]] = None,
    ) -> Record:
        """Computes one batch: its loss, and its gradient added to .grad, by the model and Tensor.backward or what is
        given."""
        index = item.number
        torch.manual_seed(_batch_seed(self.seed, self.state.epoch, index, self.state.piece))
        batch = item.load().to(self.device)
        output = outputs_in(self.config.precision, forward or self.model, batch.features, batch.lengths)
        loss = self.criterion(output, batch)
        value = float(loss.value.detach())
        if not math.isfinite(value):
            return Record(index, bad=True)
        record = Record(index, value, loss.frames, dict(loss.stats), statistics=self.call("batch_statistics"))
        if loss.frames > 0 and backward is not None:
            backward(loss.value, output, record)
        elif loss.frames > 0:
            loss.value.backward()
        return record

    def evaluate(self, batches: Optional[Batches] = None) -> Sums:
        """Sums the criterion over `batches` (the development set), in evaluation mode."""
        epoch = (batches or self.dev).epoch(0)
        self.model.eval()
        records = []
        with torch.no_grad():
            for index in range(len(epoch))[self.group.rank :: self.group.world_size]:
                loss = self._loss(epoch[index])
                records.append(Record(index, float(loss.value), loss.frames, dict(loss.stats)))
        sums = Sums()
        gathered = [record for rank_records in self.group.gather(records) for record in rank_records]
        for record in sorted(gathered, key=lambda record: record.index):
            sums.add(record)
        return sums

    def _loss(self, batch: Batch) -> Loss:
        batch = batch.to(self.device)
        return self.criterion(outputs_in(self.config.precision, self.model, batch.features, batch.lengths), batch)

    def shape_model(self) -> None:
        """Does what a model does to itself after an update."""
        self.call("after_update", self.state.update)

    def call(self, name: str, *arguments: Any) -> Any:
        """Calls a method that a model may have; None where it has not."""
        method = getattr(self.model, name, None)
        return None if method is None else method(*arguments)

    def row(self, split: str, sums: Sums, **more: Any) -> None:
        """Writes one of log.jsonl."""
        if self.group.is_main:
            state = self.state
            row = {"epoch": state.epoch, "step": state.update, "split": split}
            self.curve.add({**row, **sums.means(), "frames": sums.frames, **more, "seconds": round(state.seconds, 3)})

    def _check_dropout(self) -> None:
        if self.dropout is None:
            return
        if not hasattr(self.model, "set_dropout"):
            raise ConfigError("dropout_schedule is set, the model has no dropout", remedy='set dropout_schedule to ""')
        for _, value in self.dropout.points:
            self.call("set_dropout", value)  # better now than in the last epoch


def _batch_seed(seed: int, epoch: int, index: int, piece: int) -> int:
    key = [seed, 2, epoch, index] + ([piece] if piece else [])
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1
