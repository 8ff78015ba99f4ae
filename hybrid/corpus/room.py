"""Where reading a corpus puts what it makes: never into the corpus."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from pathlib import Path

from hybrid.corpus.reading import Reading
from hybrid.io import disk_errors


def room(reading: Reading, kind: str, name: str) -> Path:
    """Return an empty folder for what is made of the corpus `name`: in the cache, or deleted when the process ends."""
    if reading.cache is None:
        folder = Path(tempfile.mkdtemp(prefix=f"hybrid-{kind}-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return folder
    folder = Path(reading.cache).resolve() / f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    with disk_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    return folder
