from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.errors import ConfigError, DataError
from hybrid.plan.methods import Bmuf, Ddp, Gtc, word_bytes
from hybrid.plan.network import Network, fit_network, traffic
from hybrid.plan.rates import parse_rates
from hybrid.plan.simulate import WORKERS, LogNormal, Measured, StepCost, falls_under, simulate
from hybrid.train.gtc import HEAD, encode

FREE = Network(math.inf, 0.0)
METHODS = (Ddp(), Gtc(), Bmuf())


class Exponential:
    """Of mean 1."""

    def workers(self, random, count):
        return np.zeros(count, dtype=int)

    def draw(self, random, workers, rounds, period):
        return random.exponential(size=(rounds, len(workers), period))


def gathered(workers: int, pieces: int) -> int:
    """Messages that one worker sends in a ring all-gather until all have all, counted by playing it."""
    have = [{w} for w in range(workers)]
    last = list(range(workers))
    messages = 0
    while any(len(h) < pieces for h in have):
        last = [last[w - 1] for w in range(workers)]
        for w in range(workers):
            have[w].add(last[w])
        messages += 1
    return messages


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_messages_of_a_ring(workers) -> None:
    messages = gathered(workers, workers)
    assert traffic("all-gather", workers, 10.0) == (10.0 * messages, messages)
    # reduce-scatter is the same turned round, on pieces of 1 / workers
    assert traffic("all-reduce", workers, 10.0) == pytest.approx((2 * messages * 10.0 / workers, 2 * messages))


def test_without_variance_all_is_arithmetic() -> None:
    network, parameters, n = Network(1e9, 1e-4), 10_000_000, 8
    times = LogNormal(0.1, 0.0)
    reduce = 2 * 7 / 8 * 4e7 / 1e9 + 14e-4
    for method, transfer in (
        (Ddp(), reduce),
        (Ddp(overlap=0.25), 0.75 * reduce),
        (Gtc(density=0.01, decode=1e-8, scan=1e-9), 0.01 + 7 * 2e5 / 1e9 + 7e-4 + 8 * 1e5 * 1e-8),
        (Bmuf(period=20), reduce / 20),
    ):
        (cost,) = simulate(method, times, network, parameters, [n])
        assert cost.compute == pytest.approx(0.1) and cost.wait == pytest.approx(0.0, abs=1e-12)
        assert cost.transfer == pytest.approx(transfer)
        assert cost.efficiency == pytest.approx(0.1 / (0.1 + transfer))


def test_no_more_hides_than_there_is_backward_pass() -> None:
    (cost,) = simulate(Ddp(overlap=1.0), LogNormal(0.03, 0.0), Network(1e8), 1_000_000, [1000])
    assert cost.transfer == pytest.approx(2 * 0.999 * 4e6 / 1e8 - 0.02)


def test_the_slowest_of_exponentials() -> None:
    """The mean of the largest of N is H_N; of BMUF, the mean of the largest of N gamma variables."""
    counts = [1, 4, 64, 1024]
    costs = simulate(Ddp(), Exponential(), FREE, 1, counts, steps=6000)
    for cost in costs:
        harmonic = sum(1 / k for k in range(1, cost.workers + 1))
        assert cost.compute + cost.wait == pytest.approx(harmonic, rel=0.03)
        assert cost.transfer == 0.0
    from scipy.stats import gamma

    (cost,) = simulate(Bmuf(period=10), Exponential(), FREE, 1, [16], steps=60000)
    grid = np.linspace(0, 80, 20001)
    largest = ((1 - gamma.cdf(grid, 10) ** 16) * (grid[1] - grid[0])).sum()
    assert cost.compute + cost.wait == pytest.approx(largest / 10, rel=0.01)


def test_waits_average_over_a_period() -> None:
    waits = [
        simulate(Bmuf(period=p), LogNormal(1.0, 0.1), FREE, 1, [64], steps=20000)[0].wait for p in (1, 25)
    ]
    assert waits[0] == pytest.approx(simulate(Ddp(), LogNormal(1.0, 0.1), FREE, 1, [64], steps=20000)[0].wait)
    assert waits[0] / waits[1] == pytest.approx(5.0, rel=0.15)


def test_a_worker_that_is_always_slow_does_not_average_out() -> None:
    """Two measured workers, of 1 s and 3 s a step: each round lasts as long as the slower, whatever the period."""
    for method in (Ddp(), Bmuf(period=50)):
        cost = simulate(method, Measured([[1.0], [3.0]]), FREE, 1, [256], steps=500)[0]
        assert cost.compute + cost.wait == pytest.approx(3.0)
        assert cost.compute == pytest.approx(2.0, abs=0.3)


def test_a_fitted_distribution_has_the_samples_moments() -> None:
    sample = np.random.default_rng(0).gamma(20.0, 0.01, size=5000)
    fitted = LogNormal.fitted(sample)
    drawn = fitted.draw(np.random.default_rng(1), np.zeros(200, int), 500, 1)
    assert drawn.mean() == pytest.approx(sample.mean(), rel=0.01)
    assert drawn.std() == pytest.approx(sample.std(), rel=0.02)


def test_the_same_seed_gives_the_same_numbers_and_chunks_change_nothing(monkeypatch) -> None:
    def run(seed):
        return simulate(Bmuf(), LogNormal(0.1, 0.2), Network(1e9), 10**7, [1, 16, 128], steps=1000, seed=seed)

    assert run(3) == run(3) != run(4)
    before = run(3)
    monkeypatch.setattr("hybrid.plan.simulate._CHUNK", 1)
    assert [c.seconds for c in run(3)] == pytest.approx([c.seconds for c in before])


@given(
    method=st.sampled_from([*METHODS, Ddp(overlap=1.0), Gtc(density=1.0), Bmuf(period=3)]),
    mean=st.floats(1e-4, 10.0),
    spread=st.floats(0.0, 2.0),
    bandwidth=st.floats(1e3, 1e12),
    latency=st.floats(0.0, 1e-2),
    parameters=st.integers(1, 10**9),
    workers=st.integers(1, 200),
)
@settings(max_examples=60, deadline=None)
def test_efficiency_is_never_above_one(method, mean, spread, bandwidth, latency, parameters, workers) -> None:
    network = Network(bandwidth, latency)
    one, many = simulate(method, LogNormal(mean, spread), network, parameters, [1, workers], steps=20)
    assert one.efficiency == 1.0 and one.wait == one.transfer == 0.0
    assert 0 < many.efficiency <= 1.0 and many.wait >= 0 and many.transfer >= 0


@given(workers=st.integers(1, 2000), parameters=st.integers(1, 10**9), period=st.integers(1, 500))
def test_traffic(workers, parameters, period) -> None:
    dense = Ddp().sent(workers, parameters)
    assert Bmuf(period=period).sent(workers, parameters) == pytest.approx(dense / period)
    assert Ddp().sent(workers, 2 * parameters) == pytest.approx(2 * dense)
    assert dense == pytest.approx(2 * (workers - 1) / workers * 4 * parameters)
    assert Gtc(density=0.001).sent(workers, parameters) == pytest.approx((workers - 1) * 0.002 * parameters)


@pytest.mark.parametrize("density", [0.0005, 0.002, 0.01, 0.031, 0.2])
def test_bytes_of_an_element_are_those_of_messages(density):
    places = torch.from_numpy(np.flatnonzero(np.random.default_rng(1).random(2_000_000) < density))
    message = encode(places, places % 2 == 0, 1.0)
    assert (message.numel() - HEAD) / len(places) == pytest.approx(word_bytes(density), rel=0.02)
    assert word_bytes(0.0) == 2.0


def test_where_it_falls_under_a_half() -> None:
    costs = [StepCost(1, 1.0, 0.0, 0.0), StepCost(4, 1.0, 0.0, 0.6), StepCost(16, 1.0, 0.5, 1.0)]
    assert 4 < falls_under(costs) < 16
    assert falls_under(costs[:2]) == math.inf
    assert falls_under(costs[2:]) == 16


@pytest.mark.parametrize("collective", ["all-reduce", "all-gather"])
def test_a_network_is_found_from_its_points(collective) -> None:
    true = Network(3e9, 5e-5)
    points = [
        (n, size, true.seconds(collective, n, size)) for n in (1, 2, 4, 16) for size in (1e3, 1e6, 1e8) if n > 1
    ]
    found, errors = fit_network([*points, (1, 1e6, 1e-7)], collective)
    assert found.bandwidth == pytest.approx(3e9) and found.latency == pytest.approx(5e-5)
    assert errors[:-1] == pytest.approx([0.0] * 9, abs=1e-9)


def test_neither_is_negative() -> None:
    """Times that fall as messages grow in number: the latency that fits best is below 0."""
    found, _ = fit_network([(2, 1e6, 1e-3), (2, 1e8, 0.2), (4, 1e8, 0.2)])
    assert found.latency == 0.0 and found.bandwidth > 0
    found, errors = fit_network([(2, 1e3, 1.0), (2, 1e6, 0.9)])
    assert found.latency > 0 and found.bandwidth > 0 and len(errors) == 2


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(2, 1e6, 1e-3)],
        [(1, 1e6, 1e-3), (1, 1e8, 1e-3)],
        [(2, 1e6, 1e-3), (2, 1e6, 2e-3)],
        [(2, 1e6, 0.0), (2, 1e8, 1e-3)],
        [(2, math.nan, 1.0), (2, 1e8, 1e-3)],
    ],
)
def test_points_that_tell_nothing(points) -> None:
    with pytest.raises(DataError, match="Remedy"):
        fit_network(points)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ddp(overlap=1.5),
        lambda: Ddp(value_bytes=-1),
        lambda: Gtc(density=-0.1),
        lambda: Gtc(decode=math.nan),
        lambda: Bmuf(period=0),
        lambda: Bmuf(period=2.5),  # type: ignore[arg-type]
        lambda: Network(0.0),
        lambda: Network(1e9, -1.0),
        lambda: Network(1e9).seconds("broadcast", 2, 1.0),
        lambda: LogNormal(0.0, 0.1),
        lambda: LogNormal(1.0, -0.1),
        lambda: simulate(Ddp(), LogNormal(1.0, 0.1), FREE, 1, []),
        lambda: simulate(Ddp(), LogNormal(1.0, 0.1), FREE, 1, [0]),
        lambda: simulate(Ddp(), LogNormal(1.0, 0.1), FREE, 1, [2.5]),  # type: ignore[list-item]
        lambda: simulate(Ddp(), LogNormal(1.0, 0.1), FREE, 0, [2]),
    ],
)
def test_settings_out_of_their_range(make) -> None:
    with pytest.raises(ConfigError, match="Remedy"):
        make()


@pytest.mark.parametrize("rows", [[], [[]], [[1.0], []], [[0.0]], [[math.nan]], [[-1.0, 2.0]]])
def test_step_times_that_are_none(rows) -> None:
    with pytest.raises(DataError, match="Remedy"):
        Measured(rows)


def rates(tmp_path, **changes):
    student = {"model": "5x768", "parameters": 24161208, "frames_per_second": 1e5, "batch": 8192}
    student["seconds"] = [[0.08, 0.09]]
    about = {"format": 1, "device": "cuda", "machine": "a GPU", "student": student, **changes}
    path = tmp_path / "rates.json"
    path.write_text(json.dumps({name: value for name, value in about.items() if value is not None}))
    return path


def test_the_benchmark_draws_and_says_where_each_falls(tmp_path, capsys) -> None:
    from benchmarks.scaling import main

    network = Network(1e9, 1e-4)
    points = [[n, size, network.seconds("all-reduce", n, size)] for n in (2, 8) for size in (1e4, 1e8)]
    path = rates(tmp_path, network={"points": points})
    assert main(["--simulate", str(path), "--out", str(tmp_path / "a.png"), "--steps", "100"]) == 0
    shown = capsys.readouterr().out
    assert "1 GB/s a worker, 100 µs" in shown and "DDP under 50 % from" in shown
    assert len([line for line in shown.splitlines() if line[:9].strip().isdigit()]) == len(WORKERS)
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["--simulate", str(path), "--bandwidth", "1e13", "--latency", "0", "--fitted", "--decode", "0"]) == 0
    assert "above 50 % at 1024 workers" in capsys.readouterr().out
    with pytest.raises(DataError, match="measure"):
        main(["--simulate", str(rates(tmp_path, student=None))])


@pytest.mark.parametrize(
    ("about", "what"),
    [
        ([], "format"),
        ({"format": 2}, "format"),
        ({"format": 1, "device": "tpu"}, "device"),
        ({"format": 1, "device": "cpu", "teacher": 3}, "teacher"),
        ({"format": 1, "device": "cpu", "teacher": {"parameters": 1, "frames_per_second": -1}}, "frames_per_second"),
        ({"format": 1, "device": "cpu", "student": {"parameters": True}}, "parameters"),
        (
            {
                "format": 1,
                "device": "cpu",
                "student": {"parameters": 1, "frames_per_second": 1, "batch": 1, "seconds": [1]},
            },
            "seconds",
        ),
        ({"format": 1, "device": "cpu", "network": {}}, "network"),
        ({"format": 1, "device": "cpu", "network": {"bandwidth": 1e9, "latency": -1}}, "latency"),
        ({"format": 1, "device": "cpu", "network": {"points": [[2, 1.0]]}}, "points"),
        ({"format": 1, "device": "cpu", "network": {"points": [[2, 1.0, 1.0, 1.0]]}}, "point"),
    ],
)
def test_rates_that_are_none(about, what) -> None:
    with pytest.raises(DataError, match=what):
        parse_rates(about, "rates.json")
