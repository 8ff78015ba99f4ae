"""Log-likelihoods of a set in files: what is sent to a worker process is where they stand, and not, each time that a
set is decoded, some hundred megabytes through a pipe."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterable, List, Mapping, Sequence, Tuple

import numpy as np

from hybrid.decode.run import Answer, over_chunks
from hybrid.errors import DataError
from hybrid.io import disk_errors

Source = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Stored:
    """Reads the log-likelihoods [frames, num_pdfs] of an utterance from a file of float32. offset: in bytes."""

    path: Path
    offset: int
    frames: int
    num_pdfs: int

    def __call__(self) -> np.ndarray:
        values = np.fromfile(self.path, np.float32, self.frames * self.num_pdfs, offset=self.offset)
        if len(values) != self.frames * self.num_pdfs:
            raise DataError("log-likelihoods are cut off", file=self.path, remedy="run the decode stage again")
        return values.reshape(self.frames, self.num_pdfs)


def store(parts: Iterable[Mapping[str, np.ndarray]], folder: Path) -> Dict[str, Stored]:
    """Write the log-likelihoods of a set, which come in parts, to one file in `folder`; return what reads them."""
    stored: Dict[str, Stored] = {}
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "loglikes.f32"
        with open(path, "wb") as stream:
            for part in parts:
                for name, rows in part.items():
                    stored[name] = _append(rows, stream, path)
    return stored


def compute_and_store(sources: Mapping[str, Source], folder: Path, executor: Any) -> Dict[str, Stored]:
    """Make the log-likelihoods of a set where the executor works, and write them there, some utterances a file; return
    what reads them, in the order of the names."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return over_chunks(partial(_write_chunk, folder=folder), sources, None, executor, None, None)


def _write_chunk(chunk: Sequence[Tuple[str, Source]], *, folder: Path) -> List[Answer]:
    with disk_errors(folder), tempfile.NamedTemporaryFile("wb", dir=folder, suffix=".f32", delete=False) as stream:
        path = Path(stream.name)
        return [(name, _append(source(), stream, path), None) for name, source in chunk]


def _append(rows: np.ndarray, stream: IO[bytes], path: Path) -> Stored:
    offset = stream.tell()
    stream.write(np.ascontiguousarray(rows, np.float32).data)
    return Stored(path, offset, *rows.shape)
