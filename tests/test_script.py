"""A user's script and its workers: with and without `if __name__ == "__main__":`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy_work

from hybrid.parallel import WorkerPool
from hybrid.script import _guarded_lines, unguarded_script

pytestmark = pytest.mark.slow  # of processes, which torch's version is nothing to

HEAD = """
import sys, toy_work
from pathlib import Path
from hybrid.config import Config
from hybrid.errors import HybridError
from hybrid.parallel import WorkerPool, ordered_map
from hybrid.stages import Run, Stage, run_stages

print("begins", flush=True)

class Thing:
    pass

def double(value):
    return 2 * value

def of_thing(thing):
    return 1
"""
POOL = "with WorkerPool(2, Path('.')) as executor:\n    print(list(ordered_map(executor, {work}, range(5))))\n"


def finished(tmp_path: Path, text: str, program: tuple = ("script.py",)) -> subprocess.CompletedProcess:
    (tmp_path / "script.py").write_text(HEAD + text)
    project = Path(toy_work.__file__).parent.parent
    path = os.pathsep.join([str(project), str(project / "tests"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *program], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, timeout=120,
        capture_output=True, text=True,
    )  # fmt: skip


def test_a_script_without_a_guard_works_and_begins_once(tmp_path: Path) -> None:
    found = finished(tmp_path, POOL.format(work="toy_work.square"))
    assert (found.returncode, found.stdout) == (0, "begins\n[0, 1, 4, 9, 16]\n"), found.stderr
    assert found.stderr == ""


def test_so_do_the_stages_of_a_run_and_pools_of_other_threads(tmp_path: Path) -> None:
    text = """
import threading

def stage(run):
    with run.executor() as executor:
        print(sorted(executor.map(toy_work.square, range(4))))

run_stages([Stage("one", stage)], Run(Path("exp"), Config({"run": {"jobs": 2}})))
thread = threading.Thread(target=stage, args=(Run(Path("exp"), Config({})),))
thread.start()
thread.join()
"""
    found = finished(tmp_path, text)
    assert found.returncode == 0 and found.stdout.count("[0, 1, 4, 9]") == 2, found.stderr
    assert found.stdout.count("begins") == 1


@pytest.mark.parametrize(
    "work, items", [("double", "range(5)"), ("of_thing", "[Thing()]"), ("toy_work.square", "[Thing()]")]
)
def test_what_the_script_itself_defines_is_the_true_reason(tmp_path: Path, work: str, items: str) -> None:
    found = finished(tmp_path, POOL.format(work=work).replace("range(5)", items))
    assert found.returncode == 1 and found.stdout == "begins\n"
    last = found.stderr.strip().splitlines()[-1]
    assert "ConfigError: a worker process cannot find what the script itself defines" in last
    assert 'if __name__ == "__main__":' in last and "script.py" in last
    assert "memory" not in found.stderr


@pytest.mark.parametrize("program", [("script.py",), ("-m", "script"), ("./script.py",)])
@pytest.mark.parametrize(
    "guard",
    [
        'if __name__ == "__main__":\n',
        "if '__main__' == __name__:\n",
        'if len(sys.argv) < 9 and __name__ == "__main__":\n    print(\n        1\n    )\n',
    ],
)
def test_below_a_guard_the_scripts_own_functions_are_found(tmp_path: Path, guard: str, program: tuple) -> None:
    body = "".join(f"    {line}\n" for line in POOL.format(work="double").splitlines())
    found = finished(tmp_path, guard + body, program)
    assert found.returncode == 0 and "[0, 2, 4, 6, 8]" in found.stdout, found.stderr


def test_work_in_the_else_of_a_guard_or_after_it_is_unguarded(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text('if __name__ == "__main__":\n    a = 1\n    b = (\n        2\n    )\nelse:\n    c = 3\nd = 4\n')
    assert _guarded_lines(str(path)) == ((2, 5),)
    (tmp_path / "b.py").write_text('if __name__ != "__main__":\n    a = 1\nif name == "__main__":\n    b = 1\n')
    assert _guarded_lines(str(tmp_path / "b.py")) == ()
    assert _guarded_lines(str(tmp_path / "gone.py")) == ()


def test_a_script_that_starts_workers_when_it_is_imported(tmp_path: Path) -> None:
    """Guarded where it stands when its workers start, but not in what it did before."""
    text = """
if len(sys.argv) > 9 or __name__ == "__mp_main__":
    with WorkerPool(1, Path(".")) as executor:
        executor.submit(toy_work.square, 1).result()
if __name__ == "__main__":
    try:
        with WorkerPool(1, Path(".")) as executor:
            executor.submit(double, 1).result()
    except HybridError as error:
        print(error)
"""
    found = finished(tmp_path, text)
    assert "a worker process ended by itself (exit code 1)" in found.stdout and "memory" not in found.stdout
    assert "starts worker processes while a worker process imports it" in found.stderr
    assert 'if __name__ == "__main__":' in found.stdout and 'if __name__ == "__main__":' in found.stderr


def test_a_stage_whose_worker_ends_by_itself_is_told_so(tmp_path: Path) -> None:
    text = """
if __name__ != "__main__":
    raise OSError("not twice")

def stage(run):
    with run.executor() as executor:
        list(executor.map(double, range(4)))

if __name__ == "__main__":
    try:
        run_stages([Stage("one", stage)], Run(Path("exp"), Config({"run": {"jobs": 1}})))
    except HybridError as error:
        print(error)
"""
    found = finished(tmp_path, text)
    assert "a worker process ended by itself (exit code 1)" in found.stdout and "memory" not in found.stdout
    assert "OSError: not twice" in found.stderr


def test_here_nothing_is_hidden() -> None:
    """pytest's own main script is guarded, or none that a worker would import."""
    assert unguarded_script() is None
    with WorkerPool(1) as executor:
        assert executor.submit(toy_work.square, 3).result() == 9


def test_scripts_from_standard_input_and_commands(tmp_path: Path) -> None:
    for program, given in ((("-c", HEAD + POOL.format(work="toy_work.square")), None), (("-",), HEAD)):
        project = Path(toy_work.__file__).parent.parent
        found = subprocess.run(
            [sys.executable, *program], input=given and given + POOL.format(work="toy_work.square"), text=True,
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": f"{project}:{project / 'tests'}"}, capture_output=True,
            timeout=120,
        )  # fmt: skip
        assert "[0, 1, 4, 9, 16]" in found.stdout, found.stderr
