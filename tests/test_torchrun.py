"""Trainings under torchrun: the numbers of worker processes, and processes that die, hang or fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_strategies import of
from test_trainer import trainer_of

from hybrid.io import load_tensors

HERE = Path(__file__).resolve().parent


def torchrun(folder, strategy, fault, restarts=0, size=2):
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}", "OMP_NUM_THREADS": "1"}
    environment["GLOO_SOCKET_IFNAME"] = "lo"  # a host name that does not resolve must not matter
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(size)]
    command += ["--redirects", "1", "--tee", "1"]  # torchrun of torch 1.13 does not start under Python 3.11 without
    command += ["--max_restarts", str(restarts), str(HERE / "torchrun_job.py"), str(folder), strategy, fault]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)


def trained(folder):
    return load_tensors(folder / "trained.safetensors")


def same(one, two):
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """By strategy: what two worker processes of one machine train."""
    found = {}

    def of_strategy(name):
        if name not in found:
            folder = tmp_path_factory.mktemp(name)
            model = trainer_of(folder, of(name, checkpoint_updates=2)).fit()
            found[name] = {key: value.numpy() for key, value in model.state_dict().items()}
        return found[name]

    return of_strategy


def test_the_numbers_are_those_of_worker_processes(tmp_path, undisturbed):
    done = torchrun(tmp_path / "run", "bmuf", "none")
    assert done.returncode == 0, done.stderr
    assert same(trained(tmp_path / "run"), undisturbed("bmuf"))


@pytest.mark.parametrize(
    "strategy, fault", [("bmuf", "killed"), ("gtc", "killed"), ("ddp", "hangs"), ("bmuf", "fails")]
)
def test_all_begin_again_from_the_checkpoint(tmp_path, undisturbed, strategy, fault):
    done = torchrun(tmp_path / "run", strategy, fault, restarts=1)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "failed").exists() and "going on from" in done.stdout
    assert same(trained(tmp_path / "run"), undisturbed(strategy))


def test_without_restarts_the_training_ends_with_an_error_and_goes_on_with_the_same_command(tmp_path, undisturbed):
    done = torchrun(tmp_path / "run", "bmuf", "killed")
    assert done.returncode != 0 and not (tmp_path / "run" / "trained.safetensors").exists()
    again = torchrun(tmp_path / "run", "bmuf", "killed")  # it fails once
    assert again.returncode == 0 and "going on from" in again.stdout
    assert same(trained(tmp_path / "run"), undisturbed("bmuf"))
