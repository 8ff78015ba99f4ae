"""A teacher without a network, and a process that writes its targets until it kills itself:

python tests/toy_targets.py FOLDER BATCHES
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from typing import Dict, List

import numpy as np
from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource

from hybrid.data.targets import TargetsAbout, write_targets

ABOUT = TargetsAbout(teacher="a" * 64, senones="b" * 64, num_pdfs=300, frame_shift=0.03, k=8)
OPTIONS = {"shard_size": 5, "batch": 2}


def make_cut(number: int, start: float = 0.0) -> MonoCut:
    identifier = f"spk.{number % 3}-utt{number:03d}"
    duration = 0.6 + 0.03 * number
    source = AudioSource(type="file", channels=[0], source=f"/nowhere/{identifier}.wav")
    recording = Recording(identifier, [source], 16000, 16000 * 10, 10.0, channel_ids=[0])
    text = SupervisionSegment(identifier, identifier, 0.0, duration, text="GO HOME", speaker="spk")
    return MonoCut(identifier, start, duration, 0, recording=recording, supervisions=[text])


CUTS = [make_cut(number) for number in range(12)]


def logits_of(cut: MonoCut, num_pdfs: int = 300) -> np.ndarray:
    frames = round(cut.duration / 0.03)
    return 3 * np.random.default_rng(frames).standard_normal((frames, num_pdfs)).astype(np.float32)


def teacher(cuts: List[MonoCut]) -> Dict[str, np.ndarray]:
    return {cut.id: logits_of(cut) for cut in cuts}


@dataclass
class Killer:
    """SIGKILL to its own process instead of the batch after `left`."""

    left: int

    def __call__(self, cuts: List[MonoCut]) -> Dict[str, np.ndarray]:
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        return teacher(cuts)


if __name__ == "__main__":
    write_targets(sys.argv[1], CUTS, Killer(int(sys.argv[2])), ABOUT, **OPTIONS)  # type: ignore[arg-type]
