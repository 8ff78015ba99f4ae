"""Maximising a function of a square matrix row by row: what MLLT and fMLLR share.

The determinant is linear in each row: |A| = sum_j A_ij C_ij with the cofactors C_i of row i, which depend on the other
rows only. Up to the factor |A| they are a column of the inverse, C_i = |A| (A^{-1})_{.i}, and when row i changes by a
vector u the inverse follows without a new inversion (Sherman and Morrison):

    A' = A + e_i u^T,    A'^{-1} = A^{-1} - A^{-1} e_i u^T A^{-1} / (1 + u^T A^{-1} e_i).
"""

from __future__ import annotations

import numpy as np


def replace_row(matrix: np.ndarray, inverse: np.ndarray, row: int, new: np.ndarray) -> None:
    """Puts a new row [..., D] in `matrix`, and updates `inverse` (both [..., D, D]), both in place."""
    change = new - matrix[..., row, :]
    column = inverse[..., :, row].copy()
    along = np.einsum("...j,...jk->...k", change, inverse)
    inverse -= column[..., :, None] * (along / (1.0 + along[..., row, None]))[..., None, :]
    matrix[..., row, :] = new
