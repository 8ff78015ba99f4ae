"""Does a run that is killed again and again end with the numbers of one that was left alone?

    python -m benchmarks.kill [--kills 10] [--seed 0] [--folder DIR] RECIPE [arguments of `hybrid run`]
    python -m benchmarks.kill --kills 10 demo --set prepare.train_minutes=3 ce.trainer.epochs=2

The recipe runs once undisturbed, in DIR/undisturbed. It then runs in DIR/killed, where SIGKILL goes to the whole
process group at `kills` random moments: of the time that the undisturbed run took, one moment falls into each
`kills`-th part. A killed run is started again at once. In the end every wer.json of the two must be the same, byte for
byte; the exit code is 1 where one is not.
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


def attempt(recipe: str, exp: Path, arguments: Sequence[str], kill_after: Optional[float], log: Path) -> Attempt:
    """Runs the recipe; after `kill_after` seconds its process group is ended by SIGKILL."""
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "hybrid.cli", "run", recipe, "--exp", str(exp), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    timer = threading.Timer(kill_after, _kill, (process.pid,)) if kill_after is not None else None
    if timer is not None:
        timer.start()
    stage = "start"
    assert process.stdout is not None
    try:
        with open(log, "w", encoding="utf-8") as stream:
            for line in process.stdout:
                stream.write(line)
                found = re.match(r"stage \d+ (\w+): (.*)", line)
                if found and found[2] != "up to date":
                    stage = found[1]
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


def moments(kills: int, seconds: float, seed: int) -> List[float]:
    """`kills` moments of `seconds`, one drawn from each part of equal length."""
    draw = random.Random(seed)
    return [(part + draw.random()) * seconds / kills for part in range(kills)]


def work_of(exp: Path) -> float:
    """Seconds of all attempts at the stages that are done, as their marks say, without starts of Python."""
    return sum(json.loads(path.read_text()).get("seconds", 0.0) for path in exp.glob("marks/*.json"))


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
    start = max(0.0, quiet.seconds - work_of(undisturbed))  # imports and the like, which every attempt pays
    print(f"undisturbed: {quiet.seconds:.0f} s, of which {start:.0f} s go before the first stage", flush=True)
    print("| kill | after, s of its attempt | in stage | result |")
    print("|---|---|---|---|", flush=True)
    at = moments(kills, quiet.seconds - start, seed)
    done = 0
    # An attempt goes on where the one before was killed: it is given the time from one moment to the next.
    for number, wait in enumerate([at[0], *(b - a for a, b in zip(at, at[1:]))], 1):
        one = attempt(recipe, killed, arguments, start + wait, folder / "logs" / f"kill{number:02d}.txt")
        if one.code == -signal.SIGKILL:
            done += 1
            result = "killed"
        else:
            result = f"ended by itself with {one.code}"
        print(f"| {number} | {one.seconds:.1f} | {one.stage} | {result} |", flush=True)
        if one.code > 0:
            print((folder / "logs" / f"kill{number:02d}.txt").read_text()[-3000:], file=sys.stderr)
            return 1
        if one.code == 0:
            break
    last = attempt(recipe, killed, arguments, None, folder / "logs" / "last.txt")
    print(f"| last | {last.seconds:.1f} | {last.stage} | ended with {last.code} |")
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
