"""Matrices kept semi-orthogonal up to a scale while they are trained: the constraint of TDNN-F.

Povey et al. 2018, "Semi-orthogonal low-rank matrix factorization for deep neural networks", section 2; Kaldi's
nnet-utils.cc, ConstrainOrthonormalInternal with a floating scale (orthonormal-constraint = -1).

A matrix M [rows, columns], rows <= columns, is semi-orthogonal with scale a where P = M M' = a^2 I. How far it is from
that is measured by

    f(M) = || Q ||^2 = tr(Q Q'),   Q = P - a^2 I

With a held, df = 2 tr(Q dP) and dP = dM M' + M dM'. As Q is symmetric both terms give the same, df = 4 tr(M' Q dM), so

    df/dM = 4 Q M

A step down that gradient, of the size s / a^2 (s the update speed, a^2 to make the step independent of the scale), is

    M <- M - 4 s / a^2 (P - a^2 I) M                                                                      (1)

What (1) does is seen in M = U S V': it leaves U and V, and takes each singular value a (1 + e) to

    a (1 + e) (1 - 4 s ((1 + e)^2 - 1))  =  a (1 + e (1 - 8 s) - 12 s e^2 - 4 s e^3)

The term linear in e is gone for s = 1/8: near the constraint the error is squared by each step, e <- -3/2 e^2 - e^3/2
(Newton's iteration for the polar factor). Far from it (1) may overshoot and diverge.

The scale floats: a is chosen so that the step is orthogonal to M as a vector, and thus, to first order, neither
shrinks nor grows it: the size is left to the training. With the step X = -4 s / a^2 (P - a^2 I) M,

    tr(M X') = 0   <=>   tr(P (P - a^2 I)) = 0   <=>   a^2 = tr(P P) / tr(P)

tr(P) is the sum of P's eigenvalues and tr(P P) that of their squares, so the ratio  r = tr(P P) rows / tr(P)^2  is 1
where they are all the same and greater elsewhere. The step is halved for r > 1.02 and quartered for r > 1.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hybrid.errors import ModelError

SPEED = 0.125


@torch.no_grad()
def constrain(matrix: Tensor) -> None:
    """Take one step towards semi-orthogonality, in place; a matrix with rows > columns is taken as its transpose.

    matrix: [rows, columns]. A matrix of zeros, which has no direction to go, stays. Raises ModelError where the matrix
    is not finite.
    """
    m = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t()
    p = m @ m.t()
    trace, trace_of_square = float(p.trace()), float((p * p).sum())
    if trace == 0.0:
        return
    scale_squared = trace_of_square / trace
    ratio = trace_of_square * m.shape[0] / (trace * trace) if trace_of_square < float("inf") else float("nan")
    if not ratio >= 0.999:  # below 1 by rounding alone
        raise ModelError(
            "a matrix that is to be semi-orthogonal is not finite", remedy="lower the learning rate or clip harder"
        )
    speed = SPEED
    if ratio > 1.02:
        speed *= 0.5
    if ratio > 1.1:
        speed *= 0.5
    p.diagonal().sub_(scale_squared)
    m.sub_(p @ m, alpha=4.0 * speed / scale_squared)


def deviation(matrix: Tensor) -> float:
    """Return sqrt(r - 1) of above, the deviation of the eigenvalues of M M' as a share of their mean.

    0: semi-orthogonal.
    """
    m = matrix.detach().double()
    m = m if m.shape[0] <= m.shape[1] else m.t()
    eigenvalues = torch.linalg.eigvalsh(m @ m.t())
    return float(eigenvalues.std(unbiased=False) / eigenvalues.mean())
