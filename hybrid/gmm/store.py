"""The cepstra of a set of utterances on disk, by speaker, in chunks: what every pass of a training reads.

    FOLDER/base.f32            float32 [N, B]: normalised cepstra of all utterances, one speaker after the other
    FOLDER/chunks/000000.json  the utterances of a chunk: ids, speakers, texts, frames; and its first row
    FOLDER/store.json          the store is whole; written last

A chunk is the unit of work and of memory: whole utterances of some `chunk_frames` frames, and whole speakers, so that
a speaker's transform is estimated where their frames are in memory. One who fills more than a chunk is divided: each
part has far more frames than a transform needs, and is adapted by itself.

Making it reads the features twice, for the speakers' means and for the frames; a pass then reads each chunk once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

import numpy as np

from hybrid.data.cmvn import CmvnStats
from hybrid.errors import DataError
from hybrid.io import PathLike, disk_errors, read_json, write_json

CHUNK_FRAMES = 60_000  # ten minutes: some 30 MB with the neighbours spliced, seconds of work
_AGAIN = "delete the folder and run the stage that writes it again"


class StoredUtterance(NamedTuple):
    """An utterance to store: cepstra [T, B], who speaks, and the transcript."""

    id: str
    speaker: str
    text: str
    features: np.ndarray


@dataclass(frozen=True)
class Chunk:
    """ids, speakers, texts and lengths of its utterances, in order; base [N, B] float32, their frames in a row."""

    index: int
    ids: List[str]
    speakers: List[str]
    texts: List[str]
    lengths: np.ndarray
    base: np.ndarray

    @property
    def offsets(self) -> np.ndarray:
        """The places where each utterance begins among the frames, [n + 1]."""
        return np.r_[0, np.cumsum(self.lengths)]

    def speaker_rows(self) -> Iterator[Tuple[str, slice]]:
        """Yields (speaker, their frames); the utterances of one stand together."""
        offsets = self.offsets
        begin = 0
        for end in range(1, len(self.ids) + 1):
            if end == len(self.ids) or self.speakers[end] != self.speakers[begin]:
                yield self.speakers[begin], slice(int(offsets[begin]), int(offsets[end]))
                begin = end


@dataclass(frozen=True)
class Store:
    """A finished store; picklable, for it holds its folder and numbers alone."""

    folder: Path
    num_chunks: int
    utterances: int
    frames: int
    base_dim: int

    @classmethod
    def create(
        cls,
        folder: PathLike,
        items: Callable[[], Iterable[StoredUtterance]],
        *,
        variance: bool,
        chunk_frames: int = CHUNK_FRAMES,
    ) -> Store:
        """Writes a store of utterances, and returns it.

        `items()` gives the utterances, the same at each of two calls, features not normalised.

        Each speaker's mean is taken off, with `variance` their deviation is divided out (Kaldi's apply-cmvn
        [--norm-vars]). Memory: a row of numbers an utterance and the stream's own. Raises DataError where there is
        no utterance, for two of one id, and for features of different dimensions.
        """
        folder = Path(folder)
        rows: List[Tuple[str, str, str, int]] = []
        stats: Dict[str, CmvnStats] = {}
        dim: Optional[int] = None
        for item in items():
            values = np.asarray(item.features, np.float64)
            if values.ndim != 2 or (dim is not None and values.shape[1] != dim):
                raise DataError(f"features {list(values.shape)} among others of {dim} dimensions", utterance=item.id)
            dim = values.shape[1]
            rows.append((item.speaker, item.id, item.text, len(values)))
            before = stats.get(item.speaker, CmvnStats(0.0, np.zeros(dim), np.zeros(dim)))
            stats[item.speaker] = CmvnStats(
                before.count + len(values), before.sum + values.sum(0), before.squares + np.square(values).sum(0)
            )
        if dim is None:
            raise DataError(
                "no utterances to train on", remedy="problems.jsonl of the stage says why each was left out"
            )
        rows.sort(key=lambda row: row[:2])
        starts: Dict[str, int] = {}
        total = 0
        for _speaker, identifier, _text, length in rows:
            if identifier in starts:
                raise DataError("two utterances have the same id", utterance=identifier, remedy="give each its own")
            starts[identifier] = total
            total += length
        chunks = list(_plan(rows, chunk_frames))
        with disk_errors(folder):
            (folder / "chunks").mkdir(parents=True, exist_ok=True)
            (folder / "store.json").unlink(missing_ok=True)
            with open(folder / "base.f32", "wb") as stream:
                stream.truncate(total * dim * 4)
                for item in items():
                    cmvn = stats[item.speaker]
                    x = np.asarray(item.features, np.float32) - cmvn.mean.astype(np.float32)
                    if variance:
                        x /= np.sqrt(cmvn.variance).astype(np.float32)
                    stream.seek(starts[item.id] * dim * 4)
                    stream.write(np.ascontiguousarray(x, "<f4").tobytes())
        for index, (begin, end) in enumerate(chunks):
            part = rows[begin:end]
            write_json(
                folder / "chunks" / f"{index:06d}.json",
                {
                    "row": starts[part[0][1]],
                    "speakers": [row[0] for row in part],
                    "ids": [row[1] for row in part],
                    "texts": [row[2] for row in part],
                    "frames": [row[3] for row in part],
                },
            )
        about = {"num_chunks": len(chunks), "utterances": len(rows), "frames": total, "base_dim": dim}
        write_json(folder / "store.json", about)
        return cls(folder, **about)

    @classmethod
    def open(cls, folder: PathLike) -> Store:
        """Opens a finished store. Raises DataError where it is missing or was not finished."""
        path = Path(folder) / "store.json"
        if not path.is_file():
            raise DataError("no finished store of features", file=path, remedy=_AGAIN)
        try:
            return cls(Path(folder), **read_json(path))
        except TypeError as error:
            raise DataError(f"not a store of features: {error}", file=path, remedy=_AGAIN) from error

    def chunk(self, index: int) -> Chunk:
        """Reads one chunk. Raises DataError where the file is cut off."""
        about = self.about(index)
        lengths = np.asarray(about["frames"], np.int64)
        count = int(lengths.sum()) * self.base_dim
        path = self.folder / "base.f32"
        try:
            with open(path, "rb") as stream:
                stream.seek(about["row"] * self.base_dim * 4)
                base = np.fromfile(stream, "<f4", count)
        except FileNotFoundError:
            raise DataError("no such file", file=path, remedy=_AGAIN) from None
        if len(base) != count:
            raise DataError("the frames are cut off", file=path, remedy=_AGAIN)
        return Chunk(
            index, about["ids"], about["speakers"], about["texts"], lengths, base.reshape(-1, self.base_dim)
        )

    def words(self) -> Set[str]:
        """Return the words of all transcripts."""
        chunks = map(self.about, range(self.num_chunks))
        return {word for about in chunks for text in about["texts"] for word in text.split()}

    def about(self, index: int) -> Mapping:
        """Reads the row of a chunk: "row", "ids", "speakers", "texts", "frames"."""
        return read_json(self.folder / "chunks" / f"{index:06d}.json")

    def __iter__(self) -> Iterator[Chunk]:
        return map(self.chunk, range(self.num_chunks))


def _plan(rows: List[Tuple[str, str, str, int]], chunk_frames: int) -> Iterator[Tuple[int, int]]:
    """Ranges of rows: whole speakers up to `chunk_frames`, a larger speaker in parts of about that size."""
    ends = [i + 1 for i in range(len(rows)) if i + 1 == len(rows) or rows[i + 1][0] != rows[i][0]]
    begin, frames = 0, 0  # of the chunk that is being filled
    last = 0  # the end of the speaker before
    for end in ends:
        size = sum(row[3] for row in rows[last:end])
        if frames and frames + size > chunk_frames:
            yield begin, last
            begin, frames = last, 0
        if size > chunk_frames:
            at, parts = 0, -(-size // chunk_frames)
            for i in range(last, end):
                at += rows[i][3]
                if at >= size / parts and i + 1 < end:
                    yield begin, i + 1
                    begin, at = i + 1, 0
            frames = at
        else:
            frames += size
        last = end
    if begin < len(rows):
        yield begin, len(rows)
