"""Likelihoods and statistics on a GPU through torch: the same sums as diag.py and estimate.py, all Gaussians at once.

On a CPU the frames of one pdf meet its own Gaussians alone. A GPU would rather multiply two large matrices than start
a thousand small products, so here every frame meets every Gaussian,

    S = [x; x^2] L^T + c        [T, G],

the scores of a frame's own pdf are normalised to posteriors, all others are 0, and the sums are P^T [x; x^2]. Frames go
through in blocks, so that S takes a bounded part of the device's memory.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from hybrid.gmm.diag import DiagGmms, with_squares
from hybrid.gmm.estimate import GmmStats

BLOCK_SCORES = 64_000_000  # of S: 256 MB


class DeviceGmms:
    """Mixtures on a device of torch ("cpu" too, for tests)."""

    def __init__(self, gmms: DiagGmms, device: str) -> None:
        import torch

        self.gmms, self.device = gmms, device
        linear, const = gmms.terms
        self._linear = torch.from_numpy(np.ascontiguousarray(linear)).to(device)
        self._const = torch.from_numpy(np.ascontiguousarray(const)).to(device)
        sizes = np.diff(gmms.offsets)
        self._pdf_of = torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)).to(device)
        members = gmms.offsets[:-1, None] + np.arange(sizes.max())
        inside = np.arange(sizes.max()) < sizes[:, None]
        self._members = torch.from_numpy(np.where(inside, members, gmms.offsets[:-1, None])).to(device)
        self._inside = torch.from_numpy(inside).to(device)
        self._block = max(1, BLOCK_SCORES // gmms.num_gaussians)

    def _scores(self, stacked: Any) -> Any:
        import torch

        return torch.addmm(self._const, stacked, self._linear.T)

    def loglikes(self, features: np.ndarray) -> np.ndarray:
        """Returns the log-likelihoods [num_pdfs, T] float32 of features [T, D], as DiagGmms.loglikes."""
        import torch

        parts = []
        for begin in range(0, len(features), self._block):
            stacked = torch.from_numpy(with_squares(features[begin : begin + self._block])).to(self.device)
            scores = self._scores(stacked)
            pdf_scores = scores[:, self._members].masked_fill(~self._inside, -float("inf"))  # [T, pdfs, most]
            parts.append(torch.logsumexp(pdf_scores, 2).T.cpu().numpy())
        return np.concatenate(parts, axis=1) if parts else np.zeros((self.gmms.num_pdfs, 0), np.float32)

    def accumulate(
        self, features: np.ndarray, pdfs: np.ndarray, into: GmmStats, others: Optional[np.ndarray] = None
    ) -> None:
        """Adds frames to the statistics, as estimate.accumulate."""
        import torch

        dim = self.gmms.dim
        for begin in range(0, len(pdfs), self._block):
            block = slice(begin, begin + self._block)
            stacked = torch.from_numpy(with_squares(features[block])).to(self.device)
            pdf = torch.from_numpy(np.asarray(pdfs[block], np.int64)).to(self.device)
            members, inside = self._members[pdf], self._inside[pdf]
            pdf_scores = self._scores(stacked).gather(1, members).masked_fill(~inside, -float("inf"))
            loglike = torch.logsumexp(pdf_scores, 1)
            # Slots outside of a pdf point at its first Gaussian: they must add nothing to it.
            posteriors = torch.exp(pdf_scores - loglike[:, None]).masked_fill(~inside, 0.0)
            dense = torch.zeros(len(pdf), self.gmms.num_gaussians, device=self.device)
            dense.scatter_add_(1, members, posteriors)
            if others is not None:
                stacked = torch.from_numpy(with_squares(others[block])).to(self.device)
            sums = (dense.T @ stacked).double().cpu().numpy()
            into.counts += dense.sum(0, dtype=torch.float64).cpu().numpy()
            into.first += sums[:, :dim]
            into.second += sums[:, dim:]
            into.loglike += float(loglike.double().sum())
        into.frames += len(pdfs)
