"""When a training writes its checkpoint, and how it goes on from it.

checkpoint.safetensors holds what all workers have in common, written by the first. What each has of its own (the
optimiser of BMUF's workers, the residual of GTC's) lies beside it in checkpoint-UPDATE-RANK.safetensors, all written
before the common one names their update: a kill at any moment leaves one whole set.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Dict

import torch

from hybrid.errors import ConfigError
from hybrid.train.checkpoint import load_checkpoint, load_own, save_checkpoint, save_own, strategy_tensors
from hybrid.train.loaders import about_batches
from hybrid.train.state import State
from hybrid.train.strategies import Strategy
from hybrid.train.training import Training


class Checkpoints:
    """Writes and reads the checkpoints of one training with its strategy."""

    def __init__(self, training: Training, strategy: Strategy) -> None:
        self.training, self.strategy = training, strategy
        self.saved = time.monotonic()
        self.due = False

    def identity(self) -> Dict[str, Any]:
        """Returns what a checkpoint must agree with to be gone on from."""
        training = self.training
        data = [training.data.about(), about_batches(training.dev)]
        config = training.config.numbers(training.group.world_size)
        return {"config": config, "seed": training.seed, "data": data}

    def resume(self) -> None:
        """Goes on from the checkpoint where there is one. Raises ConfigError where it is of other settings or data."""
        training = self.training
        size = 0
        path = training.checkpoint
        if path.exists():
            saved = load_checkpoint(path, training.model, training.optimizer)
            if saved["identity"] != self.identity():
                raise ConfigError(
                    "the training there was begun with other settings or data",
                    file=path,
                    remedy="delete the folder, or give another --exp",
                )
            training.state = State(**saved["state"])
            training.state.history = [(int(epoch), float(loss)) for epoch, loss in training.state.history]
            training.schedule.load(saved["schedule"])
            private: Dict[str, Any] = {}
            if self.strategy.private:
                private = load_own(self._own(training.state.update), training.optimizer)
            self.strategy.load({**saved.get("strategy", {}), **strategy_tensors(path)}, private)
            size = saved["log_size"]
            training.log(f"going on from epoch {training.state.epoch + 1}, batch {training.state.batch + 1} ({path})")
        if training.group.is_main:
            training.curve.truncate(size)
        training.group.gather(None)  # nobody writes a checkpoint before all have read the last

    def save_if_due(self) -> None:
        """Saves after an update where it is time. A checkpoint that is due waits until all workers hold one model."""
        training, config = self.training, self.training.config
        if config.checkpoint_updates and training.state.update % config.checkpoint_updates == 0:
            self.due = True
        if not self.strategy.settled():
            return
        if config.checkpoint_minutes and time.monotonic() - self.saved > 60 * config.checkpoint_minutes:
            self.due = True
        if (self.strategy.private or training.data.streamed) and config.checkpoint_minutes:
            self.due = training.group.gather(self.due)[0]  # clocks differ, and all must write or none
        if self.due:
            self.save()

    def save(self) -> None:
        """Writes the checkpoint; all workers call it at the same time."""
        training = self.training
        self.saved, self.due = time.monotonic(), False
        update = training.state.update
        if training.data.streamed and training.state.batch:
            training.state.positions = training.group.gather(training.loader.position)
        if self.strategy.private:
            tensors, optimizer = self.strategy.private_state()
            save_own(self._own(update), tensors, training.optimizer if optimizer else None)
            training.group.gather(None)
        if training.group.is_main:
            about: Dict[str, Any] = {"identity": self.identity(), "state": vars(training.state)}
            about.update(schedule=training.schedule.state(), log_size=training.curve.size)
            state = self.strategy.state()
            common = {name: value for name, value in state.items() if torch.is_tensor(value)}
            about["strategy"] = {name: value for name, value in state.items() if name not in common}
            save_checkpoint(training.checkpoint, training.model, training.optimizer, about, common)
        if self.strategy.private:
            training.group.gather(None)  # the common one names ours: the older ones may go
            for path in training.folder.glob(f"checkpoint-*-{training.group.rank}.safetensors"):
                if path != self._own(update):
                    path.unlink(missing_ok=True)

    def _own(self, update: int) -> Path:
        return self.training.folder / f"checkpoint-{update}-{self.training.group.rank}.safetensors"
