from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import toy_work

from hybrid.config import Config
from hybrid.errors import DataError, HybridError
from hybrid.parallel import SerialExecutor, WorkerPool, cores, ordered_map, wait_for_workers, worker_number
from hybrid.stages import Run, Stage, run_stages


def test_workers_compute_with_one_thread_and_keep_the_order(tmp_path: Path) -> None:
    with WorkerPool(2, tmp_path) as executor:
        assert list(ordered_map(executor, toy_work.square, range(50))) == [n * n for n in range(50)]
        for process, environment, threads in executor.map(toy_work.environment, range(4)):
            assert process != os.getpid()
            assert environment["OMP_NUM_THREADS"] == "1" and threads == 1
        with pytest.raises(DataError, match=r"bad \(utterance: 3\)"):
            executor.submit(toy_work.fail, 3).result()
        assert not wait_for_workers(tmp_path, 0.2)
    assert wait_for_workers(tmp_path, 5)


def test_workers_have_neighbouring_numbers(tmp_path: Path) -> None:
    assert worker_number() == 0 or "PYTEST_XDIST_WORKER" in os.environ
    with WorkerPool(3, tmp_path) as executor:
        numbers = dict(executor.map(toy_work.number, range(30)))
    found = sorted(numbers.values())
    assert found == list(range(found[0], found[0] + len(found))) and len(found) > 1


def test_an_error_ends_the_workers_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), WorkerPool(1, tmp_path) as executor:
        for _ in range(3):
            executor.submit(toy_work.write_for_long, str(tmp_path))  # 90 s of work
        wait_until(lambda: (tmp_path / "beat").exists())
        raise KeyboardInterrupt
    assert wait_for_workers(tmp_path, 5)
    assert time.monotonic() - began < 60


def test_a_worker_that_is_ended_from_outside_is_told_in_words(tmp_path: Path) -> None:
    def work(run: Run) -> None:
        with run.executor() as executor:
            list(ordered_map(executor, toy_work.end, [0]))

    with pytest.raises(HybridError, match="memory ran out.*--set run.jobs=1"):
        run_stages([Stage("one", work)], Run(tmp_path, Config({"run": {"jobs": 1}})))


SCRIPT = """
import sys
import toy_work
from pathlib import Path
from hybrid.parallel import WorkerPool

if __name__ == "__main__":
    with WorkerPool(2, Path(sys.argv[1])) as executor:
        list(executor.map(toy_work.write_for_long, [sys.argv[1]] * 2))
"""


def test_workers_die_with_a_run_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    path = os.pathsep.join([str(Path(toy_work.__file__).parent), os.environ.get("PYTHONPATH", "")])
    run = subprocess.Popen([sys.executable, str(script), str(tmp_path)], env={**os.environ, "PYTHONPATH": path})
    try:
        wait_until(lambda: len(list(tmp_path.glob("worker-*"))) == 2)
        workers = [int(path.name.split("-")[1]) for path in tmp_path.glob("worker-*")]
        assert all(psutil.pid_exists(worker) for worker in workers)
        assert not wait_for_workers(tmp_path, 0.2)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert wait_for_workers(tmp_path, 20)
    beat = (tmp_path / "beat").read_text()
    time.sleep(0.3)
    assert (tmp_path / "beat").read_text() == beat


def wait_until(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_ordered_map_reads_no_further_ahead_than_its_window() -> None:
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as executor:
        results = ordered_map(executor, toy_work.square, items(), window=5)
        assert [next(results) for _ in range(10)] == [n * n for n in range(10)]
        assert len(taken) <= 15
        results.close()


def test_ordered_map_in_this_process() -> None:
    assert list(ordered_map(SerialExecutor(), toy_work.square, [3, 1, 2])) == [9, 1, 4]
    assert list(ordered_map(SerialExecutor(), toy_work.square, [])) == []
    results = ordered_map(SerialExecutor(), toy_work.fail, [1, 2])
    with pytest.raises(DataError):
        next(results)


def test_cores() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)
