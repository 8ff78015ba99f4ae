"""log sum exp over the Gaussians of each pdf.

Time is the last axis, so that everything runs along rows. Maxima and sums are compiled; exp and log are NumPy's, which
are vectorised where a compiled loop's are not. Some pdfs at a time, for their rows to stay in the processor's cache
from one step to the next. The slow form, pdf by pdf, is in tests/test_gmm.py and gives the same bits.
"""

from __future__ import annotations

import numpy as np

from hybrid.compiled import compiled

BLOCK = 1 << 18  # scores at a time: a megabyte


def log_sums(scores: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Returns log sum exp of the rows starts[j] .. starts[j + 1] of scores [G, T] float32, [num_pdfs, T] float32;
    starts int64 [num_pdfs + 1], each pdf with a row. `scores` are used up."""
    pdfs, frames = len(starts) - 1, scores.shape[1]
    best, sums = np.empty((pdfs, frames), np.float32), np.empty((pdfs, frames), np.float32)
    rows = max(BLOCK // max(frames, 1), 1)
    begin = 0
    while begin < pdfs:
        end = max(int(np.searchsorted(starts, starts[begin] + rows, side="right")) - 1, begin + 1)
        part, first = scores[starts[begin] : starts[end]], starts[begin : end + 1] - starts[begin]
        less_best(part, first, best[begin:end])
        np.exp(part, out=part)
        add_rows(part, first, sums[begin:end])
        begin = end
    np.log(sums, out=sums)
    sums += best
    return sums


@compiled
def less_best(scores, starts, best):
    """Write the greatest of each pdf's rows into `best`, and take it off them."""
    for pdf in range(len(starts) - 1):
        greatest = best[pdf]
        greatest[:] = scores[starts[pdf]]
        for row in range(starts[pdf] + 1, starts[pdf + 1]):
            values = scores[row]
            for frame in range(len(values)):
                greatest[frame] = values[frame] if values[frame] > greatest[frame] else greatest[frame]
        for row in range(starts[pdf], starts[pdf + 1]):
            values = scores[row]
            for frame in range(len(values)):
                values[frame] -= greatest[frame]


@compiled
def add_rows(scores, starts, sums):
    """Write the sum of each pdf's rows into `sums`."""
    for pdf in range(len(starts) - 1):
        total = sums[pdf]
        total[:] = scores[starts[pdf]]
        for row in range(starts[pdf] + 1, starts[pdf + 1]):
            values = scores[row]
            for frame in range(len(values)):
                total[frame] += values[frame]
