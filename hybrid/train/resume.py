"""When a training writes its checkpoint, and how it goes on from it.

checkpoint.safetensors holds what all workers have in common, written by the first. What each has of its own (the
optimiser of BMUF's workers, the residual of GTC's) lies beside it in checkpoint-UPDATE-RANK.safetensors, all written
before the common one names their update: a kill at any moment leaves one whole set.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict

import torch

from hybrid.errors import ConfigError
from hybrid.train.checkpoint import load_checkpoint, load_own, save_checkpoint, save_own, strategy_tensors
from hybrid.train.feeds import about_batches
from hybrid.train.state import State

if TYPE_CHECKING:
    from hybrid.train.trainer import Trainer


class Checkpoints:
    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.saved = time.monotonic()
        self.due = False

    def identity(self) -> Dict[str, Any]:
        trainer = self.trainer
        data = [trainer.data.about(), about_batches(trainer.dev)]
        config = trainer.config.numbers(trainer.members.size)
        return {"config": config, "seed": trainer.seed, "data": data}

    def resume(self) -> None:
        trainer = self.trainer
        size = 0
        path = trainer.checkpoint
        if path.exists():
            saved = load_checkpoint(path, trainer.model, trainer.optimizer)
            if saved["identity"] != self.identity():
                raise ConfigError(
                    "the training there was begun with other settings or data",
                    file=path,
                    remedy="delete the folder, or give another --exp",
                )
            trainer.state = State(**saved["state"])
            trainer.state.history = [(int(epoch), float(loss)) for epoch, loss in trainer.state.history]
            trainer.schedule.load(saved["schedule"])
            private: Dict[str, Any] = {}
            if trainer.strategy.private:
                private = load_own(self._own(trainer.state.update), trainer.optimizer)
            trainer.strategy.load({**saved.get("strategy", {}), **strategy_tensors(path)}, private)
            size = saved["log_size"]
            trainer.log(f"going on from epoch {trainer.state.epoch + 1}, batch {trainer.state.batch + 1} ({path})")
        if trainer.members.rank == 0:
            trainer.curve.truncate(size)
        trainer.members.gather(None)  # nobody writes a checkpoint before all have read the last

    def save_if_due(self) -> None:
        """After each update. A checkpoint that is due waits until all workers hold the same model."""
        trainer, config = self.trainer, self.trainer.config
        if config.checkpoint_updates and trainer.state.update % config.checkpoint_updates == 0:
            self.due = True
        if not trainer.strategy.settled():
            return
        if config.checkpoint_minutes and time.monotonic() - self.saved > 60 * config.checkpoint_minutes:
            self.due = True
        if (trainer.strategy.private or trainer.data.streamed) and config.checkpoint_minutes:
            self.due = trainer.members.gather(self.due)[0]  # clocks differ, and all must write or none
        if self.due:
            self.save()

    def save(self) -> None:
        trainer = self.trainer
        self.saved, self.due = time.monotonic(), False
        update = trainer.state.update
        if trainer.data.streamed and trainer.state.batch:
            trainer.state.positions = trainer.members.gather(trainer.feed.position)
        if trainer.strategy.private:
            tensors, optimizer = trainer.strategy.private_state()
            save_own(self._own(update), tensors, trainer.optimizer if optimizer else None)
            trainer.members.gather(None)
        if trainer.members.rank == 0:
            about: Dict[str, Any] = {"identity": self.identity(), "state": vars(trainer.state)}
            about.update(schedule=trainer.schedule.state(), log_size=trainer.curve.size)
            state = trainer.strategy.state()
            common = {name: value for name, value in state.items() if torch.is_tensor(value)}
            about["strategy"] = {name: value for name, value in state.items() if name not in common}
            save_checkpoint(trainer.checkpoint, trainer.model, trainer.optimizer, about, common)
        if trainer.strategy.private:
            trainer.members.gather(None)  # the common one names ours: the older ones may go
            for path in trainer.folder.glob(f"checkpoint-*-{trainer.members.rank}.safetensors"):
                if path != self._own(update):
                    path.unlink(missing_ok=True)

    def _own(self, update: int) -> Path:
        return self.trainer.folder / f"checkpoint-{update}-{self.trainer.members.rank}.safetensors"
