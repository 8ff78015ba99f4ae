"""Little utterances with everything that a training may hold, sources without files, and a consumer that stops early:

python tests/toy_stream.py FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence

import numpy as np

from hybrid.data.batches import Batch, Utterance
from hybrid.data.packing import pack
from hybrid.data.stream import ShardSource, ShardStream, open_source
from hybrid.data.target_store import SoftTargets
from hybrid.data.topk_codec import Codec, top_k

CODEC = Codec(50, 4)
OPTIONS = {"frame_shift": 0.03, "shard_size": 5}


def frames_of(number: int) -> int:
    return 3 + 7 * number % 11


def utterance(number: int, dim: int = 4) -> Utterance:
    random = np.random.default_rng(number)
    frames = frames_of(number)
    packed = CODEC.encode(*top_k(random.standard_normal((frames, 50)).astype(np.float32), 4))
    extra = {"soft": SoftTargets(packed, CODEC), "clean_cut": f"clean_cut{number}", "text": f"go {number}"}
    features = random.standard_normal((frames, dim)).astype(np.float32)
    return Utterance(f"u{number:03d}", features, random.integers(-1, 9, frames).clip(-100) % 9, extra)


def packed_source(folder: Path, count: int = 23, first: int = 0) -> ShardSource:
    """Shards of five utterances, the last one of what is left."""
    pack(folder, map(utterance, range(first, first + count)), **OPTIONS)
    return open_source(folder)


def ids_of(batches: Sequence[Batch]) -> List[str]:
    return [identifier for batch in batches for identifier in batch.ids]


def same(first: Sequence[Batch], second: Sequence[Batch]) -> bool:
    """To the bit."""
    return [batch.ids for batch in first] == [batch.ids for batch in second] and all(
        a.features.equal(b.features) and a.pdfs.equal(b.pdfs) for a, b in zip(first, second)
    )


@dataclass(frozen=True, eq=False)
class Made(ShardSource):
    """A source without files; `made` is called with every utterance that it gives, `asked` with every shard."""

    made: Optional[Callable[[Utterance], Any]] = None
    asked: Optional[Callable[[int], Any]] = None

    def read(self, index, dim=None):
        if self.asked is not None:
            self.asked(index)
        first = int(self.utterances[:index].sum())
        found = []
        for number in range(first, first + int(self.utterances[index])):
            features = np.full((frames_of(number), 2), number, np.float32)
            found.append(Utterance(f"{self.folder}-{number}", features))
            if self.made is not None:
                self.made(found[-1])
        return found


def made(sizes: Sequence[int], name: str = "m", **more: Any) -> Made:
    return Made(Path(name), ("features",), np.array(sizes, dtype=np.int64), dim=2, **more)


if __name__ == "__main__":
    stream = ShardStream([open_source(sys.argv[1])], 40, window=6, loaders=2, ahead=2)
    reading = stream.read(np.tile(stream.shards(), (200, 1)), (0, 0, 0))
    print(next(reading).num_frames > 0, flush=True)
