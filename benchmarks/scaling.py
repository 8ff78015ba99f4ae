"""How does training scale to 1,024 workers by DDP, GTC and BMUF?

    python -m benchmarks.scaling --simulate RATES.json --out FILE.png [--fitted] [--bandwidth 12.5e9] [--latency 2e-5]

Simulated (hybrid/plan/simulate.py): waits are drawn from the step times that RATES.json holds (hybrid/plan/rates.py;
`hybrid plan --measure` writes it), or from a log-normal fitted to them; transfers are arithmetic for a ring whose
bandwidth and latency are those of RATES.json, or of the options. A table of efficiencies, of milliseconds that a step
waits and transfers, and where each method falls under one half. GTC is shown at Strom's density and at the one that
reaches the error rate of one worker in recipes/demo/RESULTS.md.

What it cannot say: whether the models are as good (BMUF's and GTC's updates are not DDP's); what happens where links
are shared or GPUs of one machine are nearer to each other than to others; and, where the steps measured were of equal
batches on one machine, how much real batches of unlike utterances add to the waits.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from hybrid.errors import DataError
from hybrid.plan.methods import Bmuf, Ddp, Gtc, Method, word_bytes
from hybrid.plan.network import Network
from hybrid.plan.rates import Rates, read_rates
from hybrid.plan.simulate import STEPS, WORKERS, ComputeTimes, LogNormal, StepCost, falls_under, simulate

BANDWIDTH, LATENCY = 12.5e9, 2e-5  # 100 Gbit/s a worker; what `hybrid plan` assumes, too
Curves = Dict[str, List[StepCost]]


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulate", type=Path, required=True, metavar="RATES.json", help="measured step times")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="the plot")
    parser.add_argument("--fitted", action="store_true", help="waits from a log-normal instead of the sample")
    parser.add_argument("--bandwidth", type=float, help="bytes/s a worker (RATES.json's, or 12.5e9)")
    parser.add_argument("--latency", type=float, help="seconds a message (RATES.json's, or 2e-5)")
    parser.add_argument("--overlap", type=float, default=0.5, help="share of DDP's transfer behind backward (0.5)")
    parser.add_argument(
        "--density", type=float, nargs="+", default=[0.002, 0.031], help="share of values that GTC sends (0.002 0.031)"
    )
    parser.add_argument("--decode", type=float, help="seconds for an element that GTC receives (RATES.json's, or 1e-9)")
    parser.add_argument("--scan", type=float, help="seconds for a parameter that GTC looks at (RATES.json's, or 0)")
    parser.add_argument("--period", type=int, default=50, help="steps between BMUF's averages (50)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"simulated ({STEPS})")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    rates = read_rates(options.simulate)
    times = times_of(rates, options.simulate, options.fitted)
    network = network_of(rates, options.bandwidth, options.latency)
    coding = {"decode": 1e-9, "scan": 0.0, **rates.parts.get("gtc", {})}
    coding.update((name, value) for name, value in vars(options).items() if name in coding and value is not None)
    compressed = [Gtc(density, word_bytes(density), **coding) for density in options.density]
    methods: List[Tuple[str, Method]] = [("DDP", Ddp(options.overlap))]
    methods += [(f"GTC {100 * method.density:g} %", method) for method in compressed]
    methods.append(("BMUF", Bmuf(options.period)))
    parameters = int(rates.parts["student"]["parameters"])
    curves = {
        name: simulate(method, times, network, parameters, steps=options.steps, seed=options.seed)
        for name, method in methods
    }
    student = rates.parts["student"]
    title = f"{parameters / 1e6:.1f} M parameters, {student['batch']:,} frames a worker and step, {rates.machine}"
    ring = f"{network.bandwidth / 1e9:.3g} GB/s a worker, {1e6 * network.latency:.3g} µs a message"
    print(f"{title}; {ring}")
    show(curves)
    if options.out is not None:
        plot(curves, f"{title}\n{ring}", options.out)
    return 0


def times_of(rates: Rates, path: Path, fitted: bool) -> ComputeTimes:
    """Raises DataError where no steps were measured."""
    if rates.times is None:
        raise DataError("no step times of a student", file=path, remedy="measure them: hybrid plan --measure FILE")
    return LogNormal.fitted(np.concatenate(rates.times.rows)) if fitted else rates.times


def network_of(rates: Rates, bandwidth: Optional[float], latency: Optional[float]) -> Network:
    known = rates.network or Network(BANDWIDTH, LATENCY)
    return Network(bandwidth or known.bandwidth, known.latency if latency is None else latency)


def show(curves: Curves) -> None:
    print(f"{'':9}" + "".join(f"{name + ', ms a step':^36}" for name in curves))
    print(f"{'workers':>9}" + f"{'wait':>10}{'transfer':>12}{'efficiency':>14}" * len(curves))
    for row in zip(*curves.values()):
        cells = (f"{1e3 * c.wait:10.1f}{1e3 * c.transfer:12.1f}{100 * c.efficiency:12.1f} %" for c in row)
        print(f"{row[0].workers:9}" + "".join(cells))
    for name, costs in curves.items():
        print(f"{name} {_half(costs)}")


def _half(costs: List[StepCost]) -> str:
    half = falls_under(costs)
    return f"under 50 % from {half:.0f} workers" if np.isfinite(half) else f"above 50 % at {costs[-1].workers} workers"


def plot(curves: Curves, title: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 5.2), layout="constrained")
    waits: Dict[Tuple[float, ...], List[str]] = {}  # DDP and GTC meet every step: their waits are the same
    for name, costs in curves.items():
        workers = [cost.workers for cost in costs]
        efficiency = [100 * cost.efficiency for cost in costs]
        (line,) = left.plot(workers, efficiency, "o-", markersize=4, label=f"{name}, {_half(costs)}")
        half = falls_under(costs)
        if np.isfinite(half):
            left.plot([half], [50], "v", markersize=9, color=line.get_color())
        right.plot(workers[1:], [1e3 * cost.transfer for cost in costs[1:]], label=f"transfer, {name}")
        waits.setdefault(tuple(1e3 * cost.wait for cost in costs[1:]), []).append(name)
    for (values, names), style in zip(waits.items(), (":", "--", "-.")):
        right.plot(WORKERS[1:], values, style, color="black", linewidth=1.2, label=f"wait, {', '.join(names)}")
    compute = 1e3 * next(iter(curves.values()))[0].compute
    right.axhline(compute, color="grey", linewidth=0.8, label="compute")
    left.axhline(50, color="grey", linewidth=0.8)
    left.set(xlabel="workers", ylabel="efficiency, %", xscale="log", ylim=(0, 105))
    right.set(xlabel="workers", ylabel="ms a step", xscale="log", yscale="log")
    for axis in (left, right):
        axis.set_xticks([], minor=True)
        axis.set_xticks(WORKERS, [str(count) for count in WORKERS], fontsize=8)
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize=8)
    right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    raise SystemExit(main())
