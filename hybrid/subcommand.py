"""How subcommands of `hybrid` are added and how they end, all alike: exit codes, and errors of one line.

Exit codes: 0 done; 1 bad input, a full disk, a defect; 2 a wrong option or setting; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import traceback
from typing import Any, Callable, Optional

from hybrid.errors import ConfigError, HybridError


def add_subcommand(commands: Any, name: str, summary: str, about: str, more: str) -> argparse.ArgumentParser:
    """Adds a subcommand to argparse's `commands`; about and more stand before and after the options, their lines as
    they are."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=about, epilog=more, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return parser


def exit_code(program: str, call: Callable[[], Optional[int]]) -> int:
    """Calls `call` and returns the exit code: its own number, or that of its error, which is printed in one line.

    A defect of ours is named too; its stack is shown where HYBRID_TRACEBACK is set. What takes long at the first use on
    a machine (hybrid/compiled.py) is told on stderr.
    """
    log = logging.getLogger("hybrid.compiled")  # by name: numba is not imported for every subcommand
    if not log.handlers:
        log.addHandler(_ToStderr())
        log.setLevel(logging.INFO)
    try:
        code = int(call() or 0)
        sys.stdout.flush()  # here, where a reader that has gone is still no surprise
        return code
    except ConfigError as error:
        return _fail(f"{program}: {error}", 2)
    except HybridError as error:
        return _fail(f"{program}: {error}", 1)
    except KeyboardInterrupt:
        return _fail(f"{program}: stopped; the same command goes on where it was", 130)
    except BrokenPipeError:
        # The reader of our output has gone (`hybrid run an4 --list | head`); nothing is left to be told to anyone.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if type(error).__name__ == "StageFailed":  # by name: hybrid.stages is not imported for every subcommand
            return _fail(f"{program}: {error}", 1)
        if isinstance(error, OSError):
            from hybrid.io import disk_error  # numpy, which few subcommands need as they begin

            told = disk_error(error)
            if told is not None:
                return _fail(f"{program}: {told}", 1)
        if os.environ.get("HYBRID_TRACEBACK"):
            traceback.print_exc()
        defect = f"a defect: {type(error).__name__}: {error}; set HYBRID_TRACEBACK=1 to see where it stands"
        return _fail(f"{program}: {defect}", 1)


class _ToStderr(logging.Handler):
    """To what is stderr when something is told."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"hybrid: {record.getMessage()}", file=sys.stderr, flush=True)


def _fail(message: str, code: int) -> int:
    print(" ".join(message.split()), file=sys.stderr, flush=True)
    return code
