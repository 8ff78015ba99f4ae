"""Time and memory of Gaussian training as speech grows: AN4's training set 1, 4 and 16 times.

    python -m benchmarks.gmm_scale DATA [--copies 1 4 16] [--passes 6] [--jobs 2] [--plot FILE.png]

DATA holds an4/. Copies are other utterances of other speakers to the training. For each size a fresh process trains
mono to tri3 with a few passes each (aligning, MLLT, fMLLR and a tree among them) and prints the CPU seconds an hour of
speech and the peak memory of the main process and its workers together (pages that they share count in each).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from benchmarks import an4_speech, growth
from hybrid.gmm.bootstrap import BootstrapOptions, StepOptions, train_steps
from hybrid.measure import Meter
from hybrid.parallel import WorkerPool, prepare_environment


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--copies", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--passes", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)  # the inner process: where the features are
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(one(options.data, options.one, options.copies[0], options.passes, options.jobs)))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="hybrid-gmm-"))
    try:
        an4_speech.features(options.data, folder)
        rows = []
        for copies in options.copies:
            command = [sys.executable, "-m", "benchmarks.gmm_scale", str(options.data), "--one", str(folder)]
            command += ["--copies", str(copies), "--passes", str(options.passes), "--jobs", str(options.jobs)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                return done.returncode
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            show(rows[-1:], header=len(rows) == 1)
        if options.plot is not None:
            plot(rows, options.plot)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def one(data: Path, folder: Path, copies: int, passes: int, jobs: int) -> Dict[str, Any]:
    prepare_environment()
    training = folder / f"train{copies}"
    steps = {
        "mono": StepOptions(passes, 500),
        **{name: StepOptions(passes, 3000, 600, 300.0) for name in ("tri1", "tri2", "tri3")},
    }
    with Meter() as meter:
        store = an4_speech.store(folder / "mfcc", training / "store", copies=copies)
        with WorkerPool(jobs) as executor:
            train_steps(
                store, an4_speech.lang(data), BootstrapOptions(steps), training, features={}, executor=executor,
                log=lambda line: None,
            )  # fmt: skip
    shutil.rmtree(training)
    return {
        "copies": copies,
        "hours": store.frames * an4_speech.FRAME_SHIFT / 3600,
        "chunks": store.num_chunks,
        "cpu": meter.cpu_seconds,
        "wall": meter.seconds,
        "memory_mb": meter.peak_bytes / 1e6,
    }


def show(rows: List[Dict[str, Any]], header: bool) -> None:
    if header:
        print(f"{'copies':>7}{'hours':>8}{'chunks':>8}{'CPU s/hour':>12}{'wall s/hour':>13}{'peak MB':>9}")
    for row in rows:
        print(
            f"{row['copies']:7}{row['hours']:8.2f}{row['chunks']:8}{row['cpu'] / row['hours']:12.0f}"
            f"{row['wall'] / row['hours']:13.0f}{row['memory_mb']:9.0f}",
            flush=True,
        )


def plot(rows: List[Dict[str, Any]], path: Path) -> None:
    cpu = [(row["hours"], row["cpu"] / row["hours"]) for row in rows]
    memory = [(row["hours"], row["memory_mb"]) for row in rows]
    growth.plot(
        [("CPU seconds an hour of speech", {"": cpu}), ("peak memory of all processes, MB", {"": memory})], path
    )


if __name__ == "__main__":
    raise SystemExit(main())
