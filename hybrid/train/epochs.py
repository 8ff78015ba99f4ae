"""Parameters after each epoch: the best ones stay, and at the end the model is the best of them or their average."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, List

import numpy as np

from hybrid.io import load_tensors, save_tensors
from hybrid.nnet.model_io import load_state, put_state, state_arrays

if TYPE_CHECKING:
    from hybrid.train.trainer import Trainer


def epoch_file(folder: Path, epoch: int) -> Path:
    """Parameters after epoch `epoch` (from 0)."""
    return folder / f"epoch-{epoch:03d}.safetensors"


class EpochFiles:
    """Of one training; the first of its processes writes, all read."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def path(self, epoch: int) -> Path:
        return epoch_file(self.trainer.folder, epoch)

    def write(self, epoch: int) -> None:
        if self.trainer.members.rank == 0:
            save_tensors(self.path(epoch), state_arrays(self.trainer.model))

    def best(self) -> List[int]:
        """The epochs to average, the best first."""
        ranked = sorted(self.trainer.state.history, key=lambda item: (item[1], item[0]))
        return [epoch for epoch, _ in ranked[: max(1, self.trainer.config.average)]]

    def prune(self) -> None:
        """Deletes the files that neither the end nor keep_every wants."""
        trainer = self.trainer
        if trainer.members.rank:
            return
        keep = {self.path(epoch).name for epoch in self.best()}
        every = trainer.config.keep_every
        if every:
            keep |= {self.path(done - 1).name for done in range(every, trainer.state.epoch + 1, every)}
        for path in trainer.folder.glob("epoch-*.safetensors"):
            if path.name not in keep:
                path.unlink(missing_ok=True)

    def restore_best(self) -> None:
        trainer = self.trainer
        chosen = self.best()
        best = self.path(chosen[0])
        load_state(trainer.model, best)
        if len(chosen) < 2:
            return
        before = trainer.evaluate().means()["loss"]
        # In float64 and in the order of the epochs, so that the sum does not depend on their ranks.
        parts = [load_tensors(self.path(epoch)) for epoch in sorted(chosen)]
        mean = {
            name: np.mean([part[name].astype(np.float64) for part in parts], axis=0).astype(parts[0][name].dtype)
            for name in parts[0]
        }
        put_state(trainer.model, mean, best)
        after = trainer.evaluate().means()["loss"]
        trainer.log(f"average of {len(chosen)} epochs: dev loss {after:.4f}, the best alone {before:.4f}")
        if not after < before:
            load_state(trainer.model, best)
