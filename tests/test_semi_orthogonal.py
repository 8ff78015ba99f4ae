from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import ModelError
from hybrid.nnet.semi_orthogonal import constrain, deviation

SHAPES = [(1, 1), (1, 7), (4, 4), (5, 12), (12, 5), (30, 64)]


def random_matrix(rows: int, columns: int, seed: int, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64).to(dtype)


def objective(m: torch.Tensor, scale_squared: float) -> torch.Tensor:
    """|| M M' - a^2 I ||^2, of the rows if they are the fewer."""
    m = m if m.shape[0] <= m.shape[1] else m.t()
    q = m @ m.t() - scale_squared * torch.eye(len(m), dtype=m.dtype)
    return (q**2).sum()


def by_hand(matrix: torch.Tensor) -> torch.Tensor:
    """Kaldi's ConstrainOrthonormalInternal with scale -1, element by element."""
    m = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t()).tolist()
    rows, columns = len(m), len(m[0])
    p = [[sum(m[i][k] * m[j][k] for k in range(columns)) for j in range(rows)] for i in range(rows)]
    trace = sum(p[i][i] for i in range(rows))
    trace_pp = sum(p[i][j] * p[j][i] for i in range(rows) for j in range(rows))
    scale = (trace_pp / trace) ** 0.5
    ratio = trace_pp * rows / (trace * trace)
    speed = 0.125
    if ratio > 1.02:
        speed *= 0.5
        if ratio > 1.1:
            speed *= 0.5
    for i in range(rows):
        p[i][i] -= scale * scale
    alpha = speed / (scale * scale)
    made = [
        [m[i][k] - 4 * alpha * sum(p[i][j] * m[j][k] for j in range(rows)) for k in range(columns)] for i in range(rows)
    ]
    found = torch.tensor(made, dtype=torch.float64)
    return found if matrix.shape[0] <= matrix.shape[1] else found.t()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 10**6), st.sampled_from([1e-3, 1.0, 50.0]))
def test_a_step_is_the_slow_one(rows, columns, seed, size):
    matrix = size * random_matrix(rows, columns, seed)
    found = matrix.clone()
    constrain(found)
    torch.testing.assert_close(found, by_hand(matrix), rtol=1e-9, atol=1e-12 * size)


@pytest.mark.parametrize("ratio, speed", [(1.01, 0.125), (1.05, 0.0625), (1.5, 0.03125)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_step_goes_down_the_gradient_of_the_objective(ratio, speed, turned):
    """By finite differences, at the scale that makes the step orthogonal to the matrix; slower far from the aim."""
    torch.manual_seed(1)
    # Two singular values whose squares are 1 + e and 1 - e have the ratio 1 + e^2.
    e = (ratio - 1.0) ** 0.5
    u, _, v = torch.linalg.svd(torch.randn(4, 9, dtype=torch.float64), full_matrices=False)
    m = u @ torch.diag(torch.tensor([1 + e, 1 - e, 1 + e, 1 - e], dtype=torch.float64).sqrt()) @ v
    m = 3.0 * (m.t() if turned else m)
    m = m.contiguous()
    p = m @ m.t() if not turned else m.t() @ m
    scale_squared = float((p @ p).trace() / p.trace())
    gradient = torch.zeros_like(m)
    for i in range(m.shape[0]):
        for j in range(m.shape[1]):
            nudge = torch.zeros_like(m)
            nudge[i, j] = 1e-5
            gradient[i, j] = (objective(m + nudge, scale_squared) - objective(m - nudge, scale_squared)) / 2e-5
    found = m.clone()
    constrain(found)
    step = found - m
    torch.testing.assert_close(step, -speed / scale_squared * gradient, rtol=1e-5, atol=1e-7)
    assert float((step * m).sum()) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_converges_from_random(shape, dtype):
    matrix = random_matrix(*shape, seed=2, dtype=dtype)
    for _ in range(400):
        constrain(matrix)
    m = (matrix if shape[0] <= shape[1] else matrix.t()).double()
    p = m @ m.t()
    scale_squared = float(p.trace()) / len(p)
    assert scale_squared > 0.01
    error = (p / scale_squared - torch.eye(len(p), dtype=torch.float64)).abs().max()
    assert float(error) < (1e-5 if dtype == torch.float32 else 1e-12)
    assert deviation(matrix) < 1e-5


def test_near_the_aim_a_step_squares_the_error():
    u, _, v = torch.linalg.svd(random_matrix(6, 10, seed=3), full_matrices=False)
    off = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64)
    matrix = u @ torch.diag(1 + 0.01 * off) @ v
    errors = []
    for _ in range(3):
        errors.append(deviation(matrix))
        constrain(matrix)
    assert errors[1] < 2 * errors[0] ** 2 and errors[2] < 2 * errors[1] ** 2


@pytest.mark.parametrize("size", [1e-6, 1e-2, 1e3])
def test_the_scale_floats(size):
    """Only the direction of the matrix counts, and its size stays about what it was."""
    one = random_matrix(8, 20, seed=4)
    other = size * one
    for _ in range(50):
        constrain(one)
        constrain(other)
    torch.testing.assert_close(other / size, one, rtol=1e-9, atol=1e-12)
    assert 0.9 < float(one.norm() / random_matrix(8, 20, seed=4).norm()) < 1.1


def test_deviation_is_of_the_eigenvalues():
    matrix = torch.diag(torch.tensor([1.0, 2.0])) @ torch.eye(2, 5)
    assert deviation(matrix) == deviation(matrix.t()) == pytest.approx(1.5 / 2.5)  # of 1 and 4


def test_zeros_stay():
    matrix = torch.zeros(2, 3)
    constrain(matrix)
    assert matrix.equal(torch.zeros(2, 3))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_what_is_not_finite_is_said(value):
    matrix = torch.eye(2, 3)
    matrix[0, 1] = value
    with pytest.raises(ModelError, match="not finite"):
        constrain(matrix)
