"""Does a run that is killed again and again end with the numbers of one that was left alone?

    python -m benchmarks.kill [--kills 10] [--seed 0] [--folder DIR] RECIPE [arguments of `hybrid run`]
    python -m benchmarks.kill --kills 10 demo --set prepare.train_minutes=3 ce.trainer.epochs=2

The recipe runs once undisturbed, in DIR/undisturbed. It then runs in DIR/killed, where SIGKILL goes to the whole
process group at `kills` random moments, and is started again at once. One moment is drawn from each `kills`-th part of
the time that the stages took undisturbed; a moment t seconds into a stage is t seconds after the stage is seen to begin
(or to go on, where it was killed before; it may then be over sooner, and the kill falls into the next). In the end
every wer.json of the two must be the same, byte for byte; the exit code is 1 where one is not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence


@dataclass(frozen=True)
class Attempt:
    """One process. seconds: from its start to its end; stage: the last that it said it was at; code: as Popen's."""

    seconds: float
    stage: str
    code: int


@dataclass(frozen=True)
class Moment:
    """`seconds` after `stage` has begun; or after the first stage of the attempt, where that one is done already."""

    stage: str
    number: int
    seconds: float


def attempt(recipe: str, exp: Path, arguments: Sequence[str], moment: Optional[Moment], log: Path) -> Attempt:
    """Runs the recipe; at `moment` its process group is ended by SIGKILL."""
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "hybrid.cli", "run", recipe, "--exp", str(exp), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    timer: Optional[threading.Timer] = None
    stage = "start"
    stream = process.stdout
    if stream is None:
        raise RuntimeError("a process without its output")
    try:
        with open(log, "w", encoding="utf-8") as copy:
            for line in stream:
                copy.write(line)
                found = re.match(r"stage (\d+) (\w+): (.*)", line)
                if not found or found[3] == "up to date":
                    continue
                stage = found[2]
                if moment is not None and timer is None and int(found[1]) >= moment.number:
                    timer = threading.Timer(moment.seconds, _kill, (process.pid,))
                    timer.start()
        code = process.wait()
    except BaseException:
        _kill(process.pid)
        raise
    finally:
        if timer is not None:
            timer.cancel()
    return Attempt(time.monotonic() - began, stage, code)


def _kill(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has just ended by itself


def moments(kills: int, undisturbed: Path, seed: int) -> List[Moment]:
    """`kills` moments of the undisturbed run's work, one drawn from each part of equal length."""
    draw = random.Random(seed)
    marks = [json.loads(path.read_text()) for path in sorted(undisturbed.glob("marks/*.json"))]
    total = sum(mark["seconds"] for mark in marks)
    found = []
    for part in range(kills):
        left = (part + draw.random()) * total / kills
        for mark in marks:
            if left <= mark["seconds"]:
                break
            left -= mark["seconds"]
        found.append(Moment(mark["stage"], mark["number"], left))
    return found


def compare(one: Path, two: Path) -> List[str]:
    """What differs: names of wer.json that are not the same bytes, or that only one run has."""
    first, second = (
        {str(path.relative_to(exp)): path.read_bytes() for path in exp.glob("decode/**/wer.json")} for exp in (one, two)
    )
    if not first:
        return ["the undisturbed run has no wer.json"]
    return sorted(name for name in {**first, **second} if first.get(name) != second.get(name))


def experiment(recipe: str, arguments: Sequence[str], folder: Path, kills: int, seed: int) -> int:
    """Returns the exit code; prints a table."""
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    quiet = attempt(recipe, undisturbed, arguments, None, folder / "logs" / "undisturbed.txt")
    if quiet.code:
        print((folder / "logs" / "undisturbed.txt").read_text()[-3000:], file=sys.stderr)
        print(f"the undisturbed run ended with {quiet.code} in stage {quiet.stage}", file=sys.stderr)
        return 1
    print(f"undisturbed: {quiet.seconds:.0f} s", flush=True)
    print("| kill | drawn | in stage | after, s of its attempt | result |")
    print("|---|---|---|---|---|", flush=True)
    done = 0
    for number, moment in enumerate(moments(kills, undisturbed, seed), 1):
        one = attempt(recipe, killed, arguments, moment, folder / "logs" / f"kill{number:02d}.txt")
        if one.code == -signal.SIGKILL:
            done += 1
            result = "killed"
        else:
            result = f"ended by itself with {one.code}"
        drawn = f"{moment.seconds:.1f} s into {moment.stage}"
        print(f"| {number} | {drawn} | {one.stage} | {one.seconds:.1f} | {result} |", flush=True)
        if one.code > 0:
            print((folder / "logs" / f"kill{number:02d}.txt").read_text()[-3000:], file=sys.stderr)
            return 1
        if one.code == 0:
            break
    last = attempt(recipe, killed, arguments, None, folder / "logs" / "last.txt")
    print(f"| last | | {last.stage} | {last.seconds:.1f} | ended with {last.code} |")
    if last.code:
        print((folder / "logs" / "last.txt").read_text()[-3000:], file=sys.stderr)
        return 1
    different = compare(undisturbed, killed)
    count = len(list(undisturbed.glob("decode/**/wer.json")))
    attempts = {path.stem[3:]: json.loads(path.read_text())["attempts"] for path in sorted(killed.glob("marks/*.json"))}
    again = ", ".join(f"{stage} {number}" for stage, number in attempts.items() if number > 1)
    print(f"\n{done} kills; attempts at stages that took more than one: {again or 'none'}")
    print(f"{count} wer.json, {len(different)} of them different" + "".join(f"\n  {name}" for name in different))
    return 1 if different else 0


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kill", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--kills", type=int, default=10, metavar="N", help="how many (10)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (0)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where both runs go, kept; else a temporary folder")
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="arguments of `hybrid run`, but --exp")
    options = parser.parse_args(arguments)
    if options.kills < 1:
        parser.error("--kills must be 1 or more")
    if any(word.split("=")[0] == "--exp" for word in options.rest):
        parser.error("--exp is what this command chooses itself: use --folder")
    folder = options.folder or Path(tempfile.mkdtemp(prefix="hybrid-kill-"))
    if folder.exists() and any(folder.iterdir()):
        parser.error(f"{folder} is not empty")
    try:
        return experiment(options.recipe, options.rest, folder, options.kills, options.seed)
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
