"""Audio that libsndfile does not read (m4a, WebM, AMR ...): decoded once by ffmpeg, where that is installed."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Optional

from hybrid.data.containers import HEAD, foreign_name
from hybrid.errors import DataError
from hybrid.io import disk_errors

PROGRAM = "ffmpeg"


def readable(path: Path, cache: Optional[Path]) -> Path:
    """Return a file that libsndfile reads: `path` itself, or a FLAC of its first audio stream in `cache`.

    A file is converted once; one that has changed since, again. Without a cache or ffmpeg it is `path`. Raises
    DataError where ffmpeg cannot read it.
    """
    program = shutil.which(PROGRAM) if cache is not None else None
    if cache is None or program is None:
        return path
    try:
        with open(path, "rb") as stream:
            head = stream.read(HEAD)
        status = os.stat(path)
    except OSError:
        return path  # whoever opens it says what is wrong
    name = foreign_name(head)
    if name is None:
        return path
    key = hashlib.sha256(f"{path} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:24]
    target = Path(cache).resolve() / "converted" / f"{key}.flac"
    if target.exists():
        return target
    temporary = target.with_name(f"{key}.{os.getpid()}-{secrets.token_hex(3)}.tmp")
    command = [
        program, "-nostdin", "-loglevel", "error", "-y", "-i", f"file:{path}", "-map", "0:a:0", "-c:a", "flac",
        "-sample_fmt", "s16", "-f", "flac", str(temporary),
    ]  # fmt: skip
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            process = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
            )
            if process.returncode or not temporary.exists():
                lines = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
                raise DataError(
                    f"{name} that ffmpeg cannot decode: {lines[-1][:160]}", file=path, remedy="copy the file again"
                )
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    return target
