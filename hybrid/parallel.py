"""Processes on one machine: an executor whose workers neither fight over cores nor outlive the run.

Work done per utterance takes any `concurrent.futures.Executor`, so that a cluster's can stand in. Ours differs from
the standard pool in five points, each a trap met in practice:

- a worker computes with one thread (two OpenMP threads on two busy cores made an LSTM 10 to 30 times slower);
- workers come from a fork server, never by forking a process that has threads running (torch, tqdm);
- a worker dies with the run, even when the run is killed by SIGKILL: an orphan would go on writing into a folder
  that the next run is already filling;
- an error or Ctrl-C ends the workers at once, where the standard pool first finishes everything queued;
- a script without `if __name__ == "__main__":` works, where it would begin again in every worker (script.py).
"""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, forkserver
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, Optional, TypeVar

from hybrid.errors import HybridError
from hybrid.script import REMEDY, ScriptlessContext, call_packed, check_not_imported_by_worker, pack, unguarded_script

A = TypeVar("A")
B = TypeVar("B")

_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


_KILLED_WITH_SERVER = 255  # the exit code of workers whose fork server was ended, as multiprocessing gives it


def cores() -> int:
    """Returns the number of cores that this process may use: its affinity, and the quota of its control group where
    there is one."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()[:2]
        if quota != "max":
            count = min(count, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass  # no control groups, or an older layout: the affinity stands
    return count


def prepare_environment() -> None:
    """Lets waiting OpenMP threads sleep instead of spinning on busy cores; to be called before torch is imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def set_threads(count: int) -> None:
    """Sets the number of threads of torch in this process; 0 means one a core."""
    count = count or cores()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)
    else:
        os.environ["OMP_NUM_THREADS"] = str(count)


def give_back_blocks() -> None:
    """Lets every block of 64 kB or more be given back to the system when it is freed.

    glibc raises that size as large blocks are freed, up to 32 MB; batches of ever other sizes then leave holes in the
    heap, which slowly grows. Elsewhere nothing is done.
    """
    _mallopt(-3, 1 << 16)  # M_MMAP_THRESHOLD


def share_one_heap() -> None:
    """Lets all threads share one heap; to be called before threads begin that allocate what others free.

    glibc gives each thread a heap of its own, which keeps what was once freed in it: memory then grows with what each
    thread has ever held at once, and slowly goes on growing. Elsewhere nothing is done.
    """
    _mallopt(-8, 1)  # M_ARENA_MAX


def _mallopt(parameter: int, value: int) -> None:
    """Sets a parameter of glibc's malloc, where it is that."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(parameter, value)


class WorkerPool(ProcessPoolExecutor):
    """`with WorkerPool(2) as executor: ...`; `folder` is where the workers hold the lock that `wait_for_workers` asks.

    Leaving the block by an error (Ctrl-C included) ends the workers at once and drops what is queued. Where a worker
    ended by itself, leaving it raises HybridError that says so; BrokenProcessPool remains for one that was killed.
    """

    def __init__(self, jobs: int, folder: Optional[Path] = None) -> None:
        check_not_imported_by_worker()
        self._script = unguarded_script()
        start_server()
        lock = None if folder is None else str(Path(folder).resolve() / ".workers")
        super().__init__(
            max_workers=jobs or cores(), mp_context=_context(), initializer=_start_worker, initargs=(lock,)
        )

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future:
        if self._script is None:
            return super().submit(function, *arguments, **named)
        return super().submit(call_packed, self._script, pack(function, arguments, named))

    def __exit__(self, kind: Any, value: Any, trace: Any) -> Optional[bool]:
        if kind is not None:
            # Taken before shutdown, which forgets them; the pool has no public way to end its workers before 3.14.
            workers = list((self._processes or {}).values())
            self.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.kill()
            for worker in workers:
                worker.join(5)
            codes = [worker.exitcode for worker in workers if worker.exitcode]
            if issubclass(kind, BrokenProcessPool) and any(0 < code < _KILLED_WITH_SERVER for code in codes):
                raise HybridError(
                    f"a worker process ended by itself (exit code {max(codes)}); what it said stands above",
                    remedy=f"mend what it names; where that is your script, {REMEDY}",
                ) from value
            return None
        return super().__exit__(kind, value, trace)


class SerialExecutor(Executor):
    """Does the work in this process, at once: for tests and for finding a defect with a debugger."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:  # what a worker process would send back
            future.set_exception(error)
        return future


def worker_number() -> int:
    """Returns the number of this process among those that its parent has started, from 0: workers of a pool have
    neighbouring numbers. 0 in a process that was not started so."""
    identity = getattr(multiprocessing.current_process(), "_identity", ())  # no public name for it
    return int(identity[-1]) - 1 if identity else 0


def ordered_map(
    executor: Executor, function: Callable[[A], B], items: Iterable[A], window: Optional[int] = None
) -> Iterator[B]:
    """Yields the results of `function` in the order of `items`, at most `window` of them under way.

    `Executor.map` submits every item before the first result is read: a corpus of arrays would lie in memory twice.
    """
    window = window or 4 * (getattr(executor, "_max_workers", None) or cores())
    futures: Deque[Future] = deque()
    try:
        for item in items:
            futures.append(executor.submit(function, item))
            if len(futures) >= window:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    finally:
        for future in futures:
            future.cancel()


def start_server() -> None:
    """Starts the process that workers are forked from, with one-thread settings in its environment."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return
    with _environment(_ONE_THREAD):
        # numpy and torch read these variables once, when they are loaded: here, in the server.
        forkserver.set_forkserver_preload(["numpy", "torch", "hybrid.io"])
        forkserver.ensure_running()


def wait_for_workers(folder: Path, seconds: float = 30.0) -> bool:
    """Returns True as soon as no worker of an earlier, killed run still works in `folder`; False after `seconds`."""
    path = Path(folder) / ".workers"
    if not path.exists():
        return True
    timer = threading.Event()
    with open(path, "ab") as stream:
        for _ in range(max(1, int(seconds / 0.1))):
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                timer.wait(0.1)
    return False


def _context() -> Any:
    if unguarded_script() is not None:
        return ScriptlessContext()
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


@contextmanager
def _environment(values: Dict[str, str]) -> Iterator[None]:
    previous = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in previous.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


_lock_file: Any = None


def _start_worker(lock: Optional[str]) -> None:
    """Runs first in every worker."""
    global _lock_file
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the run ends its workers itself
    os.environ.update(_ONE_THREAD)
    if sys.platform == "linux":
        # The kernel ends the worker when the fork server ends, which it does when the run's end of its pipe closes.
        # The thread below does the same on other systems, but waits for the interpreter's lock.
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    if lock is not None:
        _lock_file = open(lock, "ab")  # noqa: SIM115  held until the worker ends
        fcntl.flock(_lock_file, fcntl.LOCK_SH)
    if parent is not None and not parent.is_alive():
        os._exit(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _end_with(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
