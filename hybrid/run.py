"""One run of a recipe: its folder, its settings, its log, its workers. What a stage is handed.

The module can be called: `hybrid.run("an4", data="DIR")` runs a recipe (hybrid/pipeline/front.py).
"""

from __future__ import annotations

import copy
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, FrozenSet, Iterable, Iterator, List, Optional, TypeVar

from hybrid.config import Config, Undeclared
from hybrid.front_door import callable_module
from hybrid.io import Problems, disk_errors
from hybrid.parallel import WorkerPool, cores

Item = TypeVar("Item")

callable_module(__name__, "hybrid.pipeline.front:run")


class Run:
    """What a stage may use.

    `exp` is the folder of the run, `data` the folder of the corpus (None where the recipe needs none), `seed` the only
    source of randomness, `config` the settings.
    """

    def __init__(
        self,
        exp: Path,
        config: Config,
        data: Optional[Path] = None,
        seed: int = 0,
        command: str = "",
        recipe: str = "",
    ) -> None:
        self.exp = Path(exp)
        self.config = config
        self.data = None if data is None else Path(data)
        self.seed = seed
        self.command = command
        self.recipe = recipe
        self.log_file: Optional[Path] = None
        self._bar: Any = None
        self._folders: Optional[FrozenSet[str]] = None

    def view(self, stage: Any) -> Run:
        """Returns the run as a stage (hybrid.marks.Stage) sees it: with the settings and folders that it declares.
        Reading another raises Undeclared: the stage would not be run again when that changes."""
        view = copy.copy(self)
        view.config = self.config.only(("run", *stage.settings))
        view._folders = frozenset((stage.name, *stage.needs))
        return view

    def learn(self) -> bool:
        """Returns whether the settings have changed by what earlier stages have found out; called before each stage."""
        return False

    def dir(self, stage: str) -> Path:
        """Returns the folder of a stage: EXP/<stage>. The stage itself finds it made."""
        if not self.may_read(stage):
            declared = ", ".join(sorted(self._folders or ()))
            raise Undeclared(f"EXP/{stage} is read by a stage that declares {declared}")
        return self.exp / stage

    def may_read(self, stage: str) -> bool:
        """Returns whether EXP/<stage> is among what the stage that this view was made for declares."""
        return self._folders is None or stage in self._folders

    @property
    def jobs(self) -> int:
        """The number of worker processes: the setting run.jobs, or one a core."""
        return int(self.config.get("run.jobs", 0)) or cores()

    def log(self, message: str) -> None:
        """Prints a line, and appends it with the time to the stage's log."""
        if self._bar is not None:
            self._bar.clear()
        print(message, flush=True)
        self.write_log(message)

    def write_log(self, message: str) -> None:
        """Writes a message to the log alone (EXP/logs/NN-stage.log). Raises DiskError."""
        if self.log_file is None:
            return
        stamp = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        with disk_errors(self.log_file):
            self.log_file.parent.mkdir(parents=True, exist_ok=True)
            with open(self.log_file, "a", encoding="utf-8") as stream:
                stream.write("".join(f"{stamp} {line}\n" for line in message.splitlines() or [""]))

    def progress(
        self, iterable: Iterable[Item], total: Optional[int] = None, desc: str = "", every: float = 10.0
    ) -> Iterator[Item]:
        """Yields from `iterable`, showing how far it is on stderr: a bar on a terminal, else a line every 10 s."""
        if total is None and hasattr(iterable, "__len__"):
            total = len(iterable)  # type: ignore[arg-type]
        if sys.stderr.isatty():
            return self._bar_progress(iterable, total, desc)
        return line_progress(iterable, total, desc, every)

    def bar(self, desc: str) -> Callable[..., Iterator[Any]]:
        """Returns `progress` under the name `desc`, for work that names what it counts itself."""
        return lambda items, **more: self.progress(items, **{**more, "desc": desc})

    def _bar_progress(self, iterable: Iterable[Item], total: Optional[int], desc: str) -> Iterator[Item]:
        from tqdm import tqdm

        outer, self._bar = self._bar, tqdm(iterable, total=total, desc=desc, leave=False, dynamic_ncols=True)
        try:
            yield from self._bar
        finally:
            self._bar.close()
            self._bar = outer

    def executor(self) -> WorkerPool:
        """Returns a pool of `jobs` processes with one thread each, to be used as a context manager."""
        return WorkerPool(self.jobs, self.exp)

    def problems(self, stage: str) -> Problems:
        """Returns the record of what a stage leaves out: EXP/<stage>/problems.jsonl."""
        return Problems(self.dir(stage) / "problems.jsonl", stage)


def line_progress(iterable: Iterable[Item], total: Optional[int], desc: str, every: float) -> Iterator[Item]:
    """Yields from `iterable`, and prints on stderr how far it is, every so many seconds."""
    began = shown = time.monotonic()
    for count, item in enumerate(iterable, 1):
        yield item
        now = time.monotonic()
        if now - shown >= every:
            shown = now
            print(_line(desc, count, total, now - began), file=sys.stderr, flush=True)


def _line(desc: str, count: int, total: Optional[int], seconds: float) -> str:
    rate = count / max(seconds, 1e-9)
    parts: List[str] = [f"{count}/{total}" if total else str(count), f"{rate:.3g}/s"]
    if total and total > count:
        parts.append(f"{(total - count) / rate:.0f} s left")
    return f"  {desc}: " + ", ".join(parts)
