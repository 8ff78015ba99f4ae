"""The script that a user runs, seen by the worker processes that are started from it.

A worker that is not a fork of the script imports it anew (as `__mp_main__`), so that it finds the functions that are
defined there. A script that does not keep its work below `if __name__ == "__main__":` would so begin again in each of
its workers, and they would end without a word of what they were started for. Such a script is known by the line that
it stands at; its workers do without it, and only work that needs what the script itself defines is refused.
"""

from __future__ import annotations

import ast
import pickle
import sys
import threading
import tokenize
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import process
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.reduction import ForkingPickler
from types import FrameType, ModuleType
from typing import Any, Callable, Iterator, Optional, Tuple

from hybrid.errors import ConfigError

GUARD = 'if __name__ == "__main__":'
REMEDY = f"put what the script does below a line `{GUARD}`, its functions above it"
_swap = threading.Lock()


def unguarded_script() -> Optional[str]:
    """Return the file of the main script where the line that it stands at is outside of the guard, else None.

    None too where there is nothing that a worker would import: a notebook, an interpreter, `python -m PACKAGE`.
    """
    main = sys.modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if main is None or getattr(main, "__file__", None) is None or (name or "").split(".")[-1] == "__main__":
        return None
    frame: Optional[FrameType] = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__":
            file, line = frame.f_code.co_filename, frame.f_lineno
            return None if any(first <= line <= last for first, last in _guarded_lines(file)) else file
        frame = frame.f_back
    return None


@lru_cache(maxsize=4)
def _guarded_lines(file: str) -> Tuple[Tuple[int, int], ...]:
    """Return the first and last lines of what stands below a guard; nothing where the source cannot be read."""
    try:
        with tokenize.open(file) as stream:
            tree = ast.parse(stream.read())
    except (OSError, SyntaxError, ValueError):
        return ()
    blocks = [node for node in tree.body if isinstance(node, ast.If) and _is_guard(node.test)]
    return tuple((node.body[0].lineno, node.body[-1].end_lineno or node.body[-1].lineno) for node in blocks)


def _is_guard(test: ast.expr) -> bool:
    """Return whether a condition compares __name__ with "__main__"."""
    for node in ast.walk(test):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], ast.Eq):
            sides = (node.left, node.comparators[0])
            if any(isinstance(side, ast.Name) and side.id == "__name__" for side in sides) and any(
                isinstance(side, ast.Constant) and side.value == "__main__" for side in sides
            ):
                return True
    return False


def check_not_imported_by_worker() -> None:
    """Raise ConfigError in a worker that is just importing the script: it must not start workers of its own."""
    if getattr(process.current_process(), "_inheriting", False):  # what multiprocessing itself looks at
        raise ConfigError("the script starts worker processes while a worker process imports it", remedy=REMEDY)


class ScriptlessProcess(ForkServerProcess):
    """A process of the fork server that does not import the main script."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _without_main():
            return ForkServerProcess._Popen(process_obj)


class ScriptlessContext(ForkServerContext):
    Process = ScriptlessProcess


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main script: what a new process is told to import is looked up in sys.modules["__main__"]."""
    with _swap:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def pack(function: Callable[..., Any], arguments: Any, named: Any) -> bytes:
    return bytes(ForkingPickler.dumps((function, arguments, named)))


def call_packed(script: str, packed: bytes) -> Any:
    """Do the work of `pack` in a worker that has not imported `script`. Raises ConfigError where it needs it."""
    try:
        function, arguments, named = pickle.loads(packed)
    except AttributeError as error:
        if "__main__" not in str(error):
            raise
        message = "a worker process cannot find what the script itself defines, for nothing of it stands below a guard"
        raise ConfigError(f"{message} ({error})", file=script, remedy=REMEDY) from error
    return function(*arguments, **named)
