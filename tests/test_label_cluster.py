"""Labelling over Dask: a real scheduler and its workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy_labels import obey

from hybrid.cli import main
from hybrid.errors import ConfigError
from hybrid.label.cluster import over_dask

TESTS = Path(__file__).resolve().parent
QUICK = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1",
    "PYTHONPATH": f"{TESTS.parent}:{TESTS}",
}


def dask(part: str, folder: Path, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", f"distributed.cli.dask_{part}", "--scheduler-file", str(folder / "dask.json")]
    log = open(folder / f"{part}.log", "w")  # noqa: SIM115  the process writes it
    return subprocess.Popen(
        [*command, *more], cwd=folder, env={**os.environ, **QUICK}, stdout=log, stderr=subprocess.STDOUT
    )


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The file of a scheduler with two worker processes."""
    folder = tmp_path_factory.mktemp("dask")
    processes = [dask("scheduler", folder, "--port", "0", "--no-dashboard", "--host", "127.0.0.1")]
    try:
        until = time.monotonic() + 60
        while not (folder / "dask.json").exists():
            assert time.monotonic() < until and processes[0].poll() is None, (folder / "scheduler.log").read_text()
            time.sleep(0.1)
        processes.append(dask("worker", folder, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"))
        yield folder / "dask.json"
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(30)


def written(folder: Path, *texts: str) -> list:
    paths = [folder / f"{number}.jsonl" for number in range(len(texts))]
    for path, text in zip(paths, texts):
        path.write_text(text)
    return paths


@pytest.mark.parametrize("by_file", [True, False])
def test_results_come_in_order_from_several_workers(tmp_path, scheduler, by_file):
    address = str(scheduler) if by_file else json.loads(scheduler.read_text())["address"]
    found = list(over_dask(address, obey, written(tmp_path, *map(str, range(20)), "no such recording")))
    assert [one.cuts for one in found[:20]] == list(range(20)) and found[20].error == "no such recording"
    assert [one.name for one in found] == [str(number) for number in range(21)]
    assert len({one.frames for one in found}) == 2  # processes


def test_a_worker_that_dies_takes_no_other_manifest_with_it(tmp_path, scheduler):
    found = list(over_dask(str(scheduler), obey, written(tmp_path, "1", "die once", "2", "die", "3", "4")))
    assert [one.error[:21] for one in found] == ["", "", "", "workers died over it,", "", ""]
    assert [one.cuts for one in found] == [1, 1, 2, 0, 3, 4]


def test_workers_that_lack_the_program(tmp_path, scheduler):
    class Absent:
        def __reduce__(self):
            return __import__, ("hybrid_of_another_machine",)

        def __call__(self, path):
            return path

    with pytest.raises(ConfigError, match="cluster cannot run this program: .*hybrid_of_another_machine"):
        list(over_dask(str(scheduler), Absent(), written(tmp_path, "1")))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere", "ftp://127.0.0.1:9"])
def test_no_scheduler(address, tmp_path):
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(ConfigError, match=address):
        list(over_dask(address, obey, written(tmp_path, "1")))


def test_the_command_wants_one_or_the_other(capsys):
    with pytest.raises(SystemExit):
        main(["label", "model", "cuts.jsonl", "--out", "x", "--dask", "tcp://a:1", "--jobs", "2"])
    assert "not allowed with" in capsys.readouterr().err
