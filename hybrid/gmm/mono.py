"""Flat-start monophones (Kaldi's steps/train_mono.sh).

Every pdf starts as one Gaussian with the mean and variance of all frames; each utterance is cut into equal
parts; then passes of realignment and update, the Gaussians growing to their target.
"""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import replace
from typing import Optional, Sequence

import numpy as np

from hybrid.errors import DataError
from hybrid.gmm.align import equal_alignments
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.estimate import update
from hybrid.gmm.train import GmmModel, Log, PassOptions, Progress, TrainingSet, _plain, gather, run_passes
from hybrid.hmm.senones import Senones
from hybrid.io import PathLike

REALIGN = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 23, 26, 29, 32, 35, 38)


def options(*, passes: int = 40, gaussians: int = 1000, **more) -> PassOptions:
    """train_mono.sh: 40 passes, 1000 Gaussians reached ten passes before the end."""
    return PassOptions(
        passes=passes,
        realign=tuple(n for n in REALIGN if n < passes),
        gaussians=gaussians,
        last_increase=max(1, passes - 10),
        **more,
    )


def train_mono(
    senones: Senones,
    data: TrainingSet,
    opts: PassOptions,
    *,
    folder: PathLike,
    seed: int = 0,
    executor: Optional[Executor] = None,
    log: Log = print,
    progress: Progress = _plain,
    silence_phones: Sequence[int] = (),
) -> GmmModel:
    """Trains from nothing but transcripts; `senones` are a monophone tree (Senones.monophone).

    Raises DataError where there is no utterance, or none that fits its transcript.
    """
    if not data.ids:
        raise DataError("no utterances to train on", remedy="problems.jsonl of the stage says why each was left out")
    frames = np.concatenate([data.features[i] for i in data.ids]).astype(np.float64)
    mean, variance = frames.mean(0), np.maximum(frames.var(0), opts.variance_floor)
    gmms = DiagGmms.single(np.tile(mean, (senones.num_pdfs, 1)), np.tile(variance, (senones.num_pdfs, 1)))
    model = GmmModel(senones, gmms)
    start = equal_alignments(data.ids, {i: len(data.features[i]) for i in data.ids}, data.graphs)
    stats, transitions = gather(model, data, start)
    # Few frames make a state at first: Kaldi's --min-gaussian-occupancy=3 of the flat start.
    model = replace(model, gmms=update(gmms, stats, min_count=3.0, variance_floor=opts.variance_floor))
    senones.update_transitions(transitions)
    return run_passes(
        model,
        data,
        start,
        opts,
        folder=folder,
        seed=seed,
        executor=executor,
        log=log,
        progress=progress,
        silence_phones=silence_phones,
    )
