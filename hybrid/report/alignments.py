"""What the alignments of the training utterances tell: how well each fits, and how long its phones are.

EXP/gmm/alignments.jsonl.gz has a row an utterance: {"id", "loglike": a frame, "words": [[word, start, frames], ...],
"phones": [[name, start, frames], ...]}, at 10 ms frames; the phones cover all frames. It is read as a stream, twice:
for durations and log-likelihoods, of which only counts and one number an utterance are kept, then for the few rows
that are shown.
"""

from __future__ import annotations

import gzip
import heapq
import json
import math
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from hybrid.errors import DataError
from hybrid.io import PathLike, read_jsonl

FRAME_MS = 10
LEAST = 3  # frames that a phone of three states takes at least
LIMIT = 50_000  # utterances that are counted, spread evenly over the file: some seconds
LOWEST = 10
_DRAWN = ((0.0, "the worst fit"), (0.1, "a bad fit"), (0.5, "typical"), (0.9, "a good fit"))
_POSITIONS = ("_B", "_E", "_I", "_S")  # as lexicon/lang.py marks a phone's place in its word

Segment = Tuple[str, int, int]  # name, first frame, frames


@dataclass
class Utterance:
    """A row: `loglike` a frame (None where it is not finite), words and phones with their frames; `why` it is shown."""

    id: str
    loglike: Optional[float]
    words: List[Segment]
    phones: List[Segment]
    why: str = ""

    @property
    def frames(self) -> int:
        return max((start + frames for _, start, frames in self.phones + self.words), default=0)

    @property
    def text(self) -> str:
        return " ".join(word for word, _, _ in self.words)


@dataclass
class Alignments:
    """`total` utterances, `counted` of them read. durations: phone -> frames -> how often. `examples`: from the
    lowest log-likelihood to a high one; `lowest`: those that fit worst, the worst first."""

    total: int = 0
    counted: int = 0
    loglikes: List[float] = field(default_factory=list)
    durations: Dict[str, Counter] = field(default_factory=dict)
    examples: List[Utterance] = field(default_factory=list)
    lowest: List[Utterance] = field(default_factory=list)


def read_alignments(path: PathLike, limit: int = LIMIT) -> Alignments:
    """Reads the alignments of a run and counts their durations and log-likelihoods.

    Raises DataError where the file is truncated or a row is not what it should be, with the number of the line.
    """
    alignments = Alignments(total=sum(1 for _ in _lines(path)))
    step = max(1, math.ceil(alignments.total / limit))
    ranked: List[Tuple[float, int]] = []
    for number, line in _lines(path, step):
        utterance = _utterance(path, number, line)
        alignments.counted += 1
        if utterance.loglike is not None:
            ranked.append((utterance.loglike, number))
        for name, _, frames in utterance.phones:
            alignments.durations.setdefault(name, Counter())[frames] += 1
    ranked.sort()
    alignments.loglikes = [loglike for loglike, _ in ranked]
    examples = [(why, ranked[round(share * (len(ranked) - 1))][1]) for share, why in _DRAWN if ranked]
    if alignments.counted and not ranked:
        examples = [("the first, for none has a log-likelihood", 1)]
    lowest = [number for _, number in heapq.nsmallest(LOWEST, ranked)]
    rows = _rows(path, {number for _, number in examples} | set(lowest))
    numbers = set()
    for why, number in examples:
        if number not in numbers:
            numbers.add(number)
            rows[number].why = why
            alignments.examples.append(rows[number])
    alignments.lowest = [rows[number] for number in lowest]
    return alignments


def _rows(path: PathLike, numbers: Iterable[int]) -> Dict[int, Utterance]:
    selected = set(numbers)
    return {number: _utterance(path, number, line) for number, line in _lines(path) if number in selected}


def _lines(path: PathLike, step: int = 1) -> Iterator[Tuple[int, bytes]]:
    """(number from 1, line) of every `step`-th line."""
    number = 0
    try:
        with gzip.open(path, "rb") as stream:
            for number, line in enumerate(stream, 1):
                if (number - 1) % step == 0:
                    yield number, line
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"after line {number}: {error}", file=path, remedy="run the gmm stage again") from error


def _utterance(path: PathLike, number: int, line: bytes) -> Utterance:
    try:
        row = json.loads(line)
        loglike = row.get("loglike")
        return Utterance(
            str(row["id"]),
            float(loglike) if isinstance(loglike, (int, float)) and math.isfinite(loglike) else None,
            _segments(row["words"]),
            _segments(row["phones"]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        problem = f"line {number}: not an aligned utterance ({type(error).__name__}: {error})"
        raise DataError(problem, file=path, remedy="run the gmm stage again") from error


def _segments(rows: Sequence[Sequence[Any]]) -> List[Segment]:
    segments = [(str(name), int(start), int(frames)) for name, start, frames in rows]
    for name, start, frames in segments:
        if start < 0 or frames < 0:
            raise ValueError(f"{name} of {frames} frames from frame {start}")
    return segments


# ------------------------------------------------------------------ durations


@dataclass(frozen=True)
class Duration:
    """One phone: `count` of it, the quantiles 5, 25, 50, 75, 95 % in frames, the share that is `LEAST` or shorter."""

    name: str
    count: int
    quantiles: Tuple[int, ...]
    at_least: float

    @property
    def flagged(self) -> bool:
        return self.quantiles[2] <= LEAST


def duration_rows(durations: Dict[str, Counter], *, positions: bool = False) -> List[Duration]:
    """Returns a row for each phone, the longest median first.

    Without `positions` those of one phone at different places in a word are one.
    """
    merged: Dict[str, Counter] = {}
    for name, counts in durations.items():
        merged.setdefault(name if positions else base(name), Counter()).update(counts)
    rows = []
    for name, counts in merged.items():
        frames = np.array(sorted(counts))
        times = np.array([counts[value] for value in frames.tolist()])
        below = np.cumsum(times)
        count = int(below[-1])
        # the shortest duration that at least this share of them does not exceed
        places = np.searchsorted(below, np.array([0.05, 0.25, 0.5, 0.75, 0.95]) * count - 1e-9)
        short = float(times[frames <= LEAST].sum() / count)
        rows.append(Duration(name, count, tuple(int(value) for value in frames[places]), short))
    return sorted(rows, key=lambda row: (-row.quantiles[2], -row.quantiles[3], row.name))


def base(name: str) -> str:
    """Returns the phone without the mark of its place in the word: AH of AH_B."""
    return name[:-2] if len(name) > 2 and name.endswith(_POSITIONS) else name


# ------------------------------------------------------------------ spectrograms


def read_features(folder: PathLike, name: str, ids: Sequence[str]) -> Dict[str, np.ndarray]:
    """Reads the arrays of a few utterances of a set, and only the shards that hold them.

    Raises DataError where the set is missing, unfinished or damaged. An id that is not in it is left out.
    """
    # Lhotse takes seconds to load, and only a report with alignments needs it.
    from hybrid.data.arrays import read_complete
    from hybrid.data.shards import read_shard

    missing = set(ids)
    features: Dict[str, np.ndarray] = {}
    complete = read_complete(folder)
    if name not in complete["names"]:
        raise DataError(f"no arrays '{name}' in this set", file=folder, remedy="run the features stage again")
    for index, shard in enumerate(complete["shards"]):
        if not missing:
            break
        if not shard["cuts"]:
            continue
        rows = read_jsonl(f"{folder}/shards/cuts.{index:06d}.jsonl.gz")
        if not missing.intersection(row.get("id") for row in rows):
            continue
        for cut, arrays in read_shard(folder, index, shard, [name]):  # type: ignore[arg-type]
            if cut.id in missing:
                missing.remove(cut.id)
                features[cut.id] = arrays[name]
    return features
