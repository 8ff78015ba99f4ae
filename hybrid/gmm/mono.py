"""Flat-start monophones (Kaldi's steps/train_mono.sh).

Every pdf starts as one Gaussian with the mean and variance of all frames; each utterance is cut into equal
parts; then passes of realignment and update, the Gaussians growing to their target.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Tuple

import numpy as np

from hybrid.errors import DataError
from hybrid.gmm.chunks import Data, align_equally, map_chunks, moments
from hybrid.gmm.diag import DiagGmms
from hybrid.gmm.estimate import update
from hybrid.gmm.model import GmmModel
from hybrid.gmm.passes import Context, PassOptions, gather, run_passes
from hybrid.hmm.senones import Senones

REALIGN = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 18, 20, 23, 26, 29, 32, 35, 38)


def options(*, passes: int = 40, gaussians: int = 1000, **more) -> PassOptions:
    """Returns the options of train_mono.sh: 40 passes, 1000 Gaussians reached ten passes before the end."""
    return PassOptions(
        passes=passes,
        realign=tuple(n for n in REALIGN if n < passes),
        gaussians=gaussians,
        last_increase=max(1, passes - 10),
        **more,
    )


def train_mono(senones: Senones, data: Data, opts: PassOptions, context: Context) -> Tuple[GmmModel, Data]:
    """Trains from nothing but transcripts; `senones` are a monophone tree (Senones.monophone), `data` has their graphs.

    Raises DataError where no utterance fits its transcript.
    """
    start = context.folder / "alignments.0"
    num_aligned = sum(map_chunks(context.executor, partial(align_equally, data=data, folder=start, seed=0), data.store))
    if not num_aligned:
        raise DataError(
            f"none of {data.store.utterances} utterances is as long as its words need",
            remedy="problems.jsonl of the stage says why each was left out",
        )
    data = replace(data, alignments=start)
    count, first, second = 0.0, np.zeros(data.feature_transform.dim), np.zeros(data.feature_transform.dim)
    for frames, sums, squares in map_chunks(context.executor, partial(moments, data=data), data.store):
        count, first, second = count + frames, first + sums, second + squares
    mean = first / count
    variance = np.maximum(second / count - mean**2, opts.variance_floor)
    gmms = DiagGmms.single(np.tile(mean, (senones.num_pdfs, 1)), np.tile(variance, (senones.num_pdfs, 1)))
    model = GmmModel(senones, gmms, data.feature_transform)
    result = gather(model, data, context)
    # Few frames make a state at first: Kaldi's --min-gaussian-occupancy=3 of the flat start.
    model = replace(model, gmms=update(gmms, result.stats, min_count=3.0, variance_floor=opts.variance_floor))
    senones.update_transitions(result.counts)
    return run_passes(model, data, opts, context)
