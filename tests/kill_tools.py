"""Work that is killed before a file that it has written gets its name."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator

import pytest


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the code under test may catch it and go on."""


def snapshot(folder: Path) -> Dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextmanager
def killed_before_rename(monkeypatch: pytest.MonkeyPatch, moment: int) -> Iterator[None]:
    """What runs inside must be killed before its file number `moment` (from 0) appears."""
    replace, left = os.replace, [moment]

    def until_killed(source, target):
        if not left[0]:
            raise Killed
        left[0] -= 1
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", until_killed)
        with pytest.raises(Killed):
            yield
