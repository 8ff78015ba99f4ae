"""A recipe of four quick stages, and a driver that kills it at every step it takes on the disk.

    python tests/toy_stages.py run EXP N          one run with the setting toy.n = N
    python tests/toy_stages.py crash FOLDER       see `crash`; prints JSON
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from hybrid.config import Config
from hybrid.io import read_json, write_json, write_text
from hybrid.measure import commit, versions
from hybrid.stages import Run, Stage, run_stages

PAUSE = float(os.environ.get("TOY_PAUSE", "0"))


def numbers(run: Run) -> None:
    time.sleep(PAUSE)
    write_json(run.dir("numbers") / "all.json", [run.config["toy.n"] * 10 + part for part in range(3)])


def train(run: Run) -> None:
    """Resumes from its checkpoint; the result depends on every step having been taken once, in order."""
    state = run.dir("train") / "state.json"
    step, value = read_json(state) if state.exists() else (0, 1)
    data = read_json(run.dir("numbers") / "all.json")
    for number in range(step, 3):
        time.sleep(PAUSE)
        value = (value * 31 + sum(data) + number + run.seed) % 1000003
        write_json(state, [number + 1, value])


def pieces(run: Run) -> None:
    """Resumes from a count that it trusts: a folder half deleted under its "started" mark would lose pieces.

    The count stands in two files, so that whatever order a file system lists them in, a piece goes before one of them.
    """
    folder, n = run.dir("pieces"), run.config["toy.n"]
    counts = [folder / "0.json", folder / "z.json"]
    done = max([read_json(count) for count in counts if count.exists()], default=0)
    for part in range(done, n + 1):
        time.sleep(PAUSE)
        write_text(folder / f"{part}.txt", f"{n}:{part}\n")
        for count in counts:
            write_json(count, part + 1)
    write_json(counts[1], n + 1)  # a kill between the two files of the last piece


def total(run: Run) -> None:
    texts = [path.read_text() for path in sorted(run.dir("pieces").glob("*.txt"))]
    write_json(run.dir("total") / "result.json", [read_json(run.dir("train") / "state.json"), texts])


STAGES = [
    Stage("numbers", numbers, settings=("toy",)),
    Stage("train", train, needs=("numbers",)),
    Stage("pieces", pieces, settings=("toy.n",), seeded=False),
    Stage("total", total, needs=("train", "pieces"), seeded=False),
]


def make(exp: Path, n: int, seed: int = 0) -> Run:
    return Run(exp, Config({"toy": {"n": n}}), recipe="toy", seed=seed)


def result(exp: Path) -> dict:
    """What the stages have written; marks and logs hold times and are left out."""
    names = [stage.name for stage in STAGES]
    return {
        str(path.relative_to(exp)): path.read_text()
        for name in names
        for path in sorted((exp / name).rglob("*"))
        if path.is_file()
    }


def kill_after(steps: int, exp: Path) -> None:
    """Ends this process by SIGKILL just before it takes step number `steps` on the disk below `exp`."""
    counter = itertools.count()
    events = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}

    def hook(event: str, arguments: tuple) -> None:
        if "/logs/" in str(arguments[0]):
            return
        if event == "open":
            changes = isinstance(arguments[1], str) and arguments[1][0] in "wax"
        else:
            changes = event in events
        # A path relative to an open folder (rmtree) has no prefix that could be compared.
        if changes and (str(arguments[0]).startswith(str(exp)) or event in ("os.remove", "os.rmdir")):
            if next(counter) == steps:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def run_quietly(exp: Path, n: int, kill: int | None = None) -> int:
    """One run in a child; returns the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        sys.stdout = open(os.devnull, "w")
        if kill is not None:
            kill_after(kill, exp)
        run_stages(STAGES, make(exp, n))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise SystemExit("a run failed")
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def crash(folder: Path) -> dict:
    """For every step: a run with other settings is killed there; what follows must end as if nothing had happened.

    Begins from nothing, from a finished run, and from one that was killed in the stage `pieces`. After half of the
    kills the same command is given again, after the other half the one with the settings before the change.
    """
    commit(), versions()  # known before the fork: git is asked once
    os.fsync = lambda file: None  # a killed process loses nothing that it wrote; only a power cut would
    wanted = {}
    for n in (2, 3):
        run_quietly(folder / f"clean{n}", n)
        wanted[n] = result(folder / f"clean{n}")
    half = next(step for step in itertools.count() if stopped_in_pieces(folder / "half", step))
    wrong, kills = [], 0
    for start, stride in (("nothing", 5), ("clean2", 4), ("half", 2)):
        for step in itertools.count(0, stride):
            exp = folder / "exp"
            if start != "nothing":
                shutil.copytree(folder / start, exp)
            if not run_quietly(exp, 3, kill=step):
                break
            kills += 1
            after = 3 if start == "nothing" or step // stride % 2 else 2
            run_quietly(exp, after)
            if result(exp) != wanted[after]:
                wrong.append([start, step, after])
            shutil.rmtree(exp)
        shutil.rmtree(exp)
    return {"kills": kills, "half": half, "wrong": wrong}


def stopped_in_pieces(exp: Path, step: int) -> bool:
    shutil.rmtree(exp, ignore_errors=True)
    run_quietly(exp, 2, kill=step)
    count = exp / "pieces" / "z.json"
    return count.exists() and read_json(count) == 2


if __name__ == "__main__":
    if sys.argv[1] == "crash":
        print(json.dumps(crash(Path(sys.argv[2]))))
    else:
        run_stages(STAGES, make(Path(sys.argv[2]), int(sys.argv[3])))
