"""CPU seconds of Gaussian training on AN4, stage by stage, beside Kaldi's.

    python -m benchmarks.gmm DATA [--folder FOLDER]

DATA holds an4/. Trains mono, tri1 (deltas), tri2 (LDA+MLLT) and tri3 (SAT) on all 948 training utterances with the
passes, leaves and Gaussians of Kaldi's egs/an4/s5 (mono 40 passes to 1000 Gaussians; the others 35 passes, at most 1800
leaves, 9000 Gaussians). User and system seconds of one process with one thread, all that belongs to the training
included (tree, graphs, LDA, transforms). Features are computed before, in both. "align": the alignment with each
finished model, which the next one starts from; Kaldi's steps/align_si.sh and align_fmllr.sh, which are not in its
column, and so not in the sum.

Kaldi's column is its user time for the same four trainings, 82 + 48 + 53 + 85 s (and 41 s of system time in all),
measured with two jobs on a busy machine of this kind; a quiet one takes up to 1.4 times less. It is not measured in the
same run, for Kaldi is no dependency of this project: the ratio says as much as two such machines are alike.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Tuple

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")  # before numpy is imported

from benchmarks import an4_speech  # noqa: E402
from hybrid.gmm.bootstrap import SYSTEMS, BootstrapOptions, StepOptions, train_steps  # noqa: E402
from hybrid.parallel import prepare_environment  # noqa: E402

KALDI = {"mono": 82.0, "tri1": 48.0, "tri2": 53.0, "tri3": 85.0}
STEPS = {
    "mono": StepOptions(40, 1000),
    "tri1": StepOptions(35, 9000, 1800, 300.0),
    "tri2": StepOptions(35, 9000, 1800, 300.0),
    "tri3": StepOptions(35, 9000, 1800, 300.0),
}


def cpu_seconds() -> Tuple[float, float]:
    """User and system time of this process."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime, use.ru_stime


class Aligning:
    """A progress that takes the time of the alignment with the finished model."""

    taken: Tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __call__(self, iterable: Iterable[Any], desc: str = "", **_: Any) -> Iterator[Any]:
        began, before = time.perf_counter(), cpu_seconds()
        yield from iterable
        if desc == "aligning":
            self.taken = _since(began, before)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folder", type=Path, help="where to work; kept (default: a temporary one)")
    options = parser.parse_args(arguments)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="hybrid-gmm-"))
    try:
        measure(options.data, folder)
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0


def measure(data: Path, folder: Path) -> None:
    prepare_environment()
    mfcc = an4_speech.features(data, folder)
    lang = an4_speech.lang(data)
    training = folder / "train"
    shutil.rmtree(training, ignore_errors=True)
    rows: List[Tuple[str, float, float, float]] = []
    began, before = time.perf_counter(), cpu_seconds()
    store = an4_speech.store(mfcc, training / "store")
    rows.append(("store", *_since(began, before)))
    aligned: Tuple[float, ...] = (0.0, 0.0, 0.0)
    for count, system in enumerate(SYSTEMS, 1):
        aligning = Aligning()
        began, before = time.perf_counter(), cpu_seconds()
        train_steps(
            store, lang, BootstrapOptions(STEPS), training, features={}, systems=SYSTEMS[:count], progress=aligning
        )
        apart = aligning.taken
        rows.append((system, *(a - b for a, b in zip(_since(began, before), apart))))
        aligned = tuple(a + b for a, b in zip(aligned, apart))
    rows.append(("all", *(sum(row[i] for row in rows) for i in (1, 2, 3))))
    rows.append(("align", *aligned))
    hours = store.frames * an4_speech.FRAME_SHIFT / 3600
    print(f"\n{store.utterances} utterances, {60 * hours:.1f} minutes, one process")
    print(f"{'':8}{'user s':>9}{'system s':>10}{'wall s':>9}{'Kaldi user s':>14}{'ours / Kaldi':>14}")
    for name, user, system, wall in rows:
        peer = sum(KALDI.values()) if name == "all" else KALDI.get(name)
        ratio = "" if peer is None else f"{peer:14.0f}{user / peer:14.2f}"
        print(f"{name:8}{user:9.1f}{system:10.1f}{wall:9.1f}{ratio}")


def _since(began: float, before: Tuple[float, float]) -> Tuple[float, float, float]:
    now = cpu_seconds()
    return now[0] - before[0], now[1] - before[1], time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
