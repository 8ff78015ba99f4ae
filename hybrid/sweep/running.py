"""Runs as processes of their own: up to N at once, each when what it waits for is finished; they end with the sweep."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence

from hybrid.errors import ConfigError, HybridError
from hybrid.io import disk_errors
from hybrid.report.html import seconds_text
from hybrid.sweep.plan import Job, Key

_PAUSE = 0.2  # seconds between looks at the processes
_GRACE = 10.0  # seconds that a process has to end before it is killed
_STAGE = re.compile(r"stage \d+ \w+: (?!up to date)")
# Not `-m hybrid.cli`, which would look for the package in the working directory first: the same code as here.
_START = f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r}); "
_START += "from hybrid.cli import main; sys.exit(main())"


def command_of(job: Job, recipe: str, data: Optional[Path], last: Optional[str]) -> List[str]:
    """Returns the words after `hybrid` that make this run."""
    words = ["run", recipe, "--exp", str(job.exp)]
    words += [] if data is None else ["--data", str(data)]
    words += [] if last is None else ["--stop-stage", last]
    words += ["--seed", str(job.seed)] if job.seed else []
    return words + (["--set", *job.settings] if job.settings else [])


@contextlib.contextmanager
def held(exp: Path) -> Iterator[None]:
    """Makes EXP and holds its lock, so that two sweeps do not start the same runs. Raises ConfigError, DiskError."""
    with disk_errors(exp):
        exp.mkdir(parents=True, exist_ok=True)
        lock = open(exp / ".sweep", "ab")  # noqa: SIM115  closed below, which unlocks it
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                "another sweep is at work in this folder", file=exp, remedy="wait until it ends, or give another --exp"
            ) from None
        yield


@dataclass
class _Process:
    job: Job
    popen: subprocess.Popen
    began: float
    start: int  # bytes that its log had when it started
    position: int  # and those that have been looked at


class Runner:
    """`Runner(...).run()` returns what went wrong, run by run.

    waits_for: the run that each waits for. prepare(job): called just before a run starts, returns what is to be said of
    it; a HybridError of it fails the run. words(job): the command after `hybrid`.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        waits_for: Mapping[Key, Optional[Key]],
        words: Callable[[Job], List[str]],
        prepare: Callable[[Job], str],
        parallel: int = 1,
        say: Callable[[str], None] = lambda text: print(text, flush=True),
    ) -> None:
        self.jobs, self.waits_for, self.words, self.prepare = list(jobs), waits_for, words, prepare
        self.parallel, self.say = parallel, say
        self.waiting = list(jobs)
        self.running: List[_Process] = []
        self.failed: Dict[Key, str] = {}
        self.ended: List[Key] = []
        # looked up here: nothing is loaded between fork and exec
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def run(self) -> Dict[Key, str]:
        with _signals():
            try:
                while self.waiting or self.running:
                    self._start_ready()
                    for process in list(self.running):
                        self._look_at(process)
                    if self.running:
                        time.sleep(_PAUSE)
            finally:
                self._stop_all()
        return self.failed

    def _start_ready(self) -> None:
        keys = {job.key for job in self.jobs}
        for job in list(self.waiting):
            before = self.waits_for[job.key]
            if before in self.failed:
                self.waiting.remove(job)
                self._fail(job, f"not run: it starts from {before[0]}/seed{before[1]}, which failed")
            elif len(self.running) < self.parallel and (before not in keys or before in self.ended):
                self.waiting.remove(job)
                self._start(job)

    def _start(self, job: Job) -> None:
        try:
            notice = self.prepare(job)
            with disk_errors(job.log):
                job.log.parent.mkdir(parents=True, exist_ok=True)
                with open(job.log, "ab") as stream:
                    stream.write(f"--- {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} {job.name}\n".encode())
                    stream.flush()
                    size = stream.tell()
                    popen = subprocess.Popen(
                        [sys.executable, "-u", "-c", _START, *self.words(job)],
                        stdin=subprocess.DEVNULL,
                        stdout=stream,
                        stderr=subprocess.STDOUT,
                        preexec_fn=self._end_with_us,
                    )
        except HybridError as error:
            self._fail(job, str(error))
            return
        self.running.append(_Process(job, popen, time.monotonic(), size, size))
        self.say(f"{job.name}: started{notice}; its output: {job.log}")

    def _end_with_us(self) -> None:
        # A sweep that is killed by SIGKILL must not leave runs behind: the next one would find their folders taken.
        if self._libc is not None:
            self._libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG

    def _look_at(self, process: _Process) -> None:
        code = process.popen.poll()  # before the log: what it wrote last is then there
        job = process.job
        for line in self._new_lines(process):
            if _STAGE.match(line):
                text = line.removesuffix(": never run")
                self.say(f"{job.name}:   {text}")
        if code is None:
            return
        self.running.remove(process)
        took = seconds_text(time.monotonic() - process.began)
        if code == 0:
            self.ended.append(job.key)
            self.say(f"{job.name}: finished in {took} ({len(self.ended)} of {len(self.jobs)} runs)")
        else:
            self._fail(job, f"failed after {took}: {_last_line(process, code)}")

    def _new_lines(self, process: _Process) -> List[str]:
        try:
            with open(process.job.log, "rb") as stream:
                stream.seek(process.position)
                text = stream.read().rpartition(b"\n")[0]
        except OSError:
            return []  # somebody has removed it: the run does not need it
        process.position += len(text) + bool(text)
        return text.decode("utf-8", "replace").splitlines()

    def _fail(self, job: Job, why: str) -> None:
        self.failed[job.key] = why
        self.say(f"{job.name}: {why}")

    def _stop_all(self) -> None:
        for process in self.running:
            process.popen.terminate()
        end = time.monotonic() + _GRACE
        for process in self.running:
            try:
                process.popen.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()


def _last_line(process: _Process, code: int) -> str:
    """The error of a run: its last line, or which signal ended it."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    try:
        text = process.job.log.read_bytes()[process.start :].decode("utf-8", "replace")
    except OSError:
        text = ""
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("hybrid: ")] or lines
    return errors[-1].removeprefix("hybrid: ") if errors else f"exit code {code}"


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and a closed terminal as Ctrl-C: the runs are ended before the sweep is."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    # what is ignored stays so: nohup
    signals = [name for name in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(name) != signal.SIG_IGN]
    before = {name: signal.signal(name, stop) for name in signals}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)

