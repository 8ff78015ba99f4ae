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

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Set, Tuple

import numpy as np

from hybrid.data.cmvn import CmvnStats
from hybrid.data.text_column import TextColumn, repeated
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
        [--norm-vars]). Memory: ids, texts and numbers of all utterances, and the stream's own. Raises DataError where
        there is no utterance, for two of one id, for features of different dimensions, and where the second call gives
        others than the first.
        """
        folder = Path(folder)
        rows = _Rows()
        stats: Dict[str, CmvnStats] = {}
        dim: Optional[int] = None
        for item in items():
            values = np.asarray(item.features, np.float64)
            if values.ndim != 2 or (dim is not None and values.shape[1] != dim):
                raise DataError(f"features {list(values.shape)} among others of {dim} dimensions", utterance=item.id)
            dim = values.shape[1]
            rows.append(item)
            before = stats.get(item.speaker, CmvnStats(0.0, np.zeros(dim), np.zeros(dim)))
            stats[item.speaker] = CmvnStats(
                before.count + len(values), before.sum + values.sum(0), before.squares + np.square(values).sum(0)
            )
        if dim is None:
            raise DataError(
                "no utterances to train on", remedy="problems.jsonl of the stage says why each was left out"
            )
        duplicate = repeated(len(rows), rows.ids.__getitem__)
        if duplicate is not None:
            raise DataError("two utterances have the same id", utterance=duplicate, remedy="give each its own")
        order = rows.order()
        frames = np.array(rows.frames, np.int64)
        starts = np.empty_like(frames)
        starts[order] = np.cumsum(frames[order]) - frames[order]
        total = int(frames.sum())
        speakers = np.array(rows.speakers)[order]
        chunks = list(_plan(speakers, frames[order], chunk_frames))
        with disk_errors(folder):
            (folder / "chunks").mkdir(parents=True, exist_ok=True)
            (folder / "store.json").unlink(missing_ok=True)
            with open(folder / "base.f32", "wb") as stream:
                stream.truncate(total * dim * 4)
                place = -1
                for place, item in enumerate(items()):
                    if place >= len(rows) or (item.id, len(item.features)) != (rows.ids[place], frames[place]):
                        raise DataError("the utterances have changed meanwhile", utterance=item.id, remedy=_AGAIN)
                    cmvn = stats[item.speaker]
                    x = np.asarray(item.features, np.float32) - cmvn.mean.astype(np.float32)
                    if variance:
                        x /= np.sqrt(cmvn.variance).astype(np.float32)
                    stream.seek(int(starts[place]) * dim * 4)
                    stream.write(np.ascontiguousarray(x, "<f4").tobytes())
                if place + 1 < len(rows):
                    raise DataError("the utterances have changed meanwhile", file=folder, remedy=_AGAIN)
        for index, (begin, end) in enumerate(chunks):
            part = order[begin:end].tolist()
            write_json(
                folder / "chunks" / f"{index:06d}.json",
                {
                    "row": int(starts[part[0]]),
                    "speakers": [rows.names[rows.speakers[place]] for place in part],
                    "ids": [rows.ids[place] for place in part],
                    "texts": [rows.texts[place] for place in part],
                    "frames": frames[part].tolist(),
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


class _Rows:
    """What is held of all utterances while a store is made, in the order in which they come: 20 bytes each beside their
    ids and texts."""

    def __init__(self) -> None:
        self.ids, self.texts = TextColumn(), TextColumn()
        self.frames, self.speakers = array("q"), array("i")
        self.names: List[str] = []
        self._numbers: Dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def append(self, item: StoredUtterance) -> None:
        number = self._numbers.setdefault(item.speaker, len(self.names))
        if number == len(self.names):
            self.names.append(item.speaker)
        self.ids.append(item.id)
        self.texts.append(item.text)
        self.frames.append(len(item.features))
        self.speakers.append(number)

    def order(self) -> np.ndarray:
        """Return the places of the utterances by speaker, then by id, int64 [N]."""
        by_speaker: Dict[int, List[int]] = {}
        for place, number in enumerate(self.speakers):
            by_speaker.setdefault(number, []).append(place)
        numbers = sorted(by_speaker, key=self.names.__getitem__)
        places = (sorted(by_speaker[number], key=self.ids.__getitem__) for number in numbers)
        return np.array([place for part in places for place in part], np.int64)


def _plan(speakers: np.ndarray, frames: np.ndarray, chunk_frames: int) -> Iterator[Tuple[int, int]]:
    """Ranges of utterances: whole speakers up to `chunk_frames`, a larger speaker in parts of about that size.

    speakers, frames: numbers [N] of each utterance, those of one speaker together."""
    ends = [*(np.flatnonzero(np.diff(speakers)) + 1).tolist(), len(speakers)]
    begin, size_so_far = 0, 0  # of the chunk that is being filled
    last = 0  # the end of the speaker before
    for end in ends:
        size = int(frames[last:end].sum())
        if size_so_far and size_so_far + size > chunk_frames:
            yield begin, last
            begin, size_so_far = last, 0
        if size > chunk_frames:
            at, parts = 0, -(-size // chunk_frames)
            for i in range(last, end):
                at += int(frames[i])
                if at >= size / parts and i + 1 < end:
                    yield begin, i + 1
                    begin, at = i + 1, 0
            size_so_far = at
        else:
            size_so_far += size
        last = end
    if begin < len(speakers):
        yield begin, len(speakers)
