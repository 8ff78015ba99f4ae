"""Parameters after each epoch: the best ones stay, and at the end the model is the best of them or their average."""

from __future__ import annotations

from pathlib import Path
from typing import List

import numpy as np

from hybrid.io import load_tensors, save_tensors
from hybrid.nnet.model_io import load_state, put_state, state_arrays
from hybrid.train.training import Training


def epoch_file(folder: Path, epoch: int) -> Path:
    """Names the file of the parameters after epoch `epoch` (from 0)."""
    return folder / f"epoch-{epoch:03d}.safetensors"


class EpochFiles:
    """Writes and reads the parameters of one training's epochs; its main process writes, all read."""

    def __init__(self, training: Training) -> None:
        self.training = training

    def path(self, epoch: int) -> Path:
        return epoch_file(self.training.folder, epoch)

    def write(self, epoch: int) -> None:
        if self.training.group.is_main:
            save_tensors(self.path(epoch), state_arrays(self.training.model))

    def best(self) -> List[int]:
        """Returns the epochs to average, the best first."""
        ranked = sorted(self.training.state.history, key=lambda item: (item[1], item[0]))
        return [epoch for epoch, _ in ranked[: max(1, self.training.config.average)]]

    def prune(self) -> None:
        """Deletes the files that neither the end nor keep_every wants."""
        training = self.training
        if not training.group.is_main:
            return
        keep = {self.path(epoch).name for epoch in self.best()}
        interval = training.config.keep_every
        if interval:
            keep |= {self.path(number - 1).name for number in range(interval, training.state.epoch + 1, interval)}
        for path in training.folder.glob("epoch-*.safetensors"):
            if path.name not in keep:
                path.unlink(missing_ok=True)

    def restore_best(self) -> None:
        """Gives the model the parameters of the best epoch, or the mean of the best ones where that is better."""
        training = self.training
        epochs = self.best()
        best = self.path(epochs[0])
        load_state(training.model, best)
        if len(epochs) < 2:
            return
        before = training.evaluate().means()["loss"]
        # In float64 and in the order of the epochs, so that the sum does not depend on their ranks.
        models = [load_tensors(self.path(epoch)) for epoch in sorted(epochs)]
        mean = {
            name: np.mean([arrays[name].astype(np.float64) for arrays in models], axis=0).astype(models[0][name].dtype)
            for name in models[0]
        }
        put_state(training.model, mean, best)
        after = training.evaluate().means()["loss"]
        training.log(f"average of {len(epochs)} epochs: dev loss {after:.4f}, the best alone {before:.4f}")
        if not after < before:
            load_state(training.model, best)
