"""What torchrun starts in test_torchrun.py: FOLDER STRATEGY FAULT. In the first attempt the second process fails."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch
from test_strategies import of
from test_trainer import trainer_of

from hybrid.io import save_tensors
from hybrid.nnet.model_io import state_arrays
from hybrid.train.ce import CrossEntropy
from hybrid.train.torchrun import crew


class Faulty:
    """Cross-entropy; at its fifth batch in the second process, once, what `fault` says."""

    def __init__(self, fault: str, folder: str) -> None:
        self.fault, self.folder, self.calls, self.plain = fault, Path(folder), 0, CrossEntropy()

    def __call__(self, output, batch):
        self.calls += torch.is_grad_enabled()
        done = self.folder / "failed"
        if self.calls == 5 and os.environ["RANK"] == "1" and self.fault != "none" and not done.exists():
            done.touch()
            if self.fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "hangs":
                time.sleep(1000)
            raise RuntimeError("made to fail")
        return self.plain(output, batch)


if __name__ == "__main__":
    folder, strategy, fault = sys.argv[1:]
    with crew() as first:
        if first:
            config = of(strategy, workers=1, timeout_minutes=0.1, checkpoint_updates=2)
            trainer = trainer_of(folder, config, criterion=Faulty(fault, folder), log=print)
            save_tensors(Path(folder) / "trained.safetensors", state_arrays(trainer.fit()))
