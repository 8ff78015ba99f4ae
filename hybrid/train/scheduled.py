"""Scheduled learning (Parthasarathi & Strom, ICASSP 2019): which data when, and at which learning rate.

A schedule is a text. Each item of it is a sub-epoch, after which the development set is heard; a sub-epoch is made of
chunks, each so many hours of one source at a factor of the learning rate:

    20*(unlabelled 50h, labelled 5h @2)        interleaved: 20 sub-epochs, in each 50 hours, then 5 at twice the rate
    8*unlabelled 25h, 4*labelled 100%          segregated: all that is unlabelled, then four passes over the labelled
    10*(unlabelled 25h, labelled 2h), 2*labelled 100% @0.5       interleaved, labelled last

An amount is of hours (5h, 0.5h) or of the source (100%: as much as it has). A source gives its shards in an order drawn
anew for each pass over it, and goes on where the last chunk of it ended: 8 chunks of 25 hours are one pass over 200. A
chunk ends with the shard in which its hours are full, so what is too much is taken off the next one: after any number
of chunks a source has given what was asked for, within one shard.

The learning rate of an update is that of the trainer (its decay runs over the hours of all sub-epochs) times the
chunk's factor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np

from hybrid.errors import ConfigError

_FORM = "items such as 20*(unlabelled 50h, labelled 5h @2), with hours (5h) or shares of the source (100%)"
_TOKEN = re.compile(r"\s*(?:(\d+)\s*\*|([(),])|([A-Za-z_][\w-]*)\s+(\d+(?:\.\d+)?)\s*(h|%)(?:\s*@\s*(\d+(?:\.\d+)?))?)")


@dataclass(frozen=True)
class Chunk:
    """amount: hours, or where `share` a part of the source; rate: factor of the learning rate."""

    source: str
    amount: float
    share: bool = False
    rate: float = 1.0


@dataclass(frozen=True)
class Piece:
    """A chunk as it is read: shards of `source` in order, hours of speech, the chunk's place in the whole schedule."""

    source: str
    shards: Tuple[int, ...]
    hours: float
    rate: float
    number: int

    def frames(self, frame_shift: float) -> float:
        """Return the piece's length in network frames of frame_shift seconds."""
        return 3600 * self.hours / frame_shift


SubEpoch = Tuple[Chunk, ...]


def parse(text: str) -> List[SubEpoch]:
    """Read a schedule as its sub-epochs. Raises ConfigError that shows where the text cannot be read."""
    tokens = _tokens(text)
    sub_epochs: List[SubEpoch] = []
    while tokens:
        sub_epochs += _item(tokens, text)
        if tokens and not _take(tokens, ","):
            raise _wrong(text, tokens[0][1])
    if not sub_epochs:
        raise ConfigError("the schedule is empty", remedy=f"give {_FORM}")
    return sub_epochs


def _tokens(text: str) -> List[Tuple[object, int]]:
    tokens: List[Tuple[object, int]] = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise _wrong(text, at)
        times, mark, source, amount, unit, rate = match.groups()
        token: object = mark
        if times:
            token = int(times)
        elif source:
            share = unit == "%"
            token = Chunk(source, float(amount) / (100 if share else 1), share, float(rate or 1))
            if not token.amount or not token.rate:
                raise ConfigError(f"'{match.group().strip()}' in the schedule", remedy="amounts and rates above 0")
        tokens.append((token, at))
        at = match.end()
    return tokens


def _item(tokens: List[Tuple[object, int]], text: str) -> List[SubEpoch]:
    token, at = tokens.pop(0)
    times = 1
    if isinstance(token, int):
        times = token
        if not times or not tokens:
            raise _wrong(text, at)
        token, at = tokens.pop(0)
    if isinstance(token, Chunk):
        sub_epoch: SubEpoch = (token,)
        return times * [sub_epoch]
    if token != "(":
        raise _wrong(text, at)
    chunks: List[Chunk] = []
    while True:
        if not tokens or not isinstance(tokens[0][0], Chunk):
            raise _wrong(text, tokens[0][1] if tokens else len(text))
        chunk, _ = tokens.pop(0)
        chunks.append(chunk)  # type: ignore[arg-type]
        if _take(tokens, ")"):
            return times * [tuple(chunks)]
        if not _take(tokens, ","):
            raise _wrong(text, tokens[0][1] if tokens else len(text))


def _take(tokens: List[Tuple[object, int]], mark: str) -> bool:
    if tokens and tokens[0][0] == mark:
        tokens.pop(0)
        return True
    return False


def _wrong(text: str, at: int) -> ConfigError:
    tail = text[at:].strip()
    place = f"at '{tail[:30]}'" if tail else "at its end"
    return ConfigError(f"the schedule '{text}' cannot be read {place}", remedy=_FORM)


@dataclass(frozen=True)
class Scheduled:
    """A schedule over sources: sub-epochs of pieces.

    hours: of each shard of each source. Orders of shards follow from `seed`. Raises ConfigError for an unknown source,
    or one without speech.
    """

    schedule: Sequence[SubEpoch]
    hours: Mapping[str, Sequence[float]]
    seed: int = 0

    def __post_init__(self) -> None:
        for name in sorted({chunk.source for sub in self.schedule for chunk in sub}):
            if name not in self.hours:
                raise ConfigError(f"the schedule has the source '{name}'", remedy=f"one of {', '.join(self.hours)}")
            if not sum(self.hours[name]) > 0:
                raise ConfigError(f"the source '{name}' of the schedule has no speech")

    @property
    def pieces(self) -> List[List[Piece]]:
        """The pieces of each sub-epoch."""
        readers = {
            name: _Reader(np.asarray(hours, np.float64), [self.seed, place])
            for place, (name, hours) in enumerate(sorted(self.hours.items()))
        }
        pieces: List[List[Piece]] = []
        number = 0
        for sub in self.schedule:
            pieces.append([])
            for chunk in sub:
                shards, hours = readers[chunk.source].take(chunk)
                pieces[-1].append(Piece(chunk.source, shards, hours, chunk.rate, number))
                number += 1
        return pieces

    def table(self, pieces: Sequence[Sequence[Piece]]) -> str:
        """Return the schedule as text: a row a sub-epoch, equal ones in a row together."""
        passes = dict.fromkeys(self.hours, 0.0)
        rows: List[Tuple[str, str, str]] = []
        last, since = "", 0
        for number, (sub, sub_pieces) in enumerate(zip(self.schedule, pieces, strict=True), 1):
            for piece in sub_pieces:
                passes[piece.source] += piece.hours / sum(self.hours[piece.source])
            chunks = ", ".join(_said(chunk) for chunk in sub)
            shares = ", ".join(f"{value:.2f} x {name}" for name, value in passes.items() if value)
            if chunks == last:
                rows[-1] = (f"{since}-{number}", chunks, shares)
            else:
                rows.append((str(number), chunks, shares))
                last, since = chunks, number
        rows.insert(0, ("sub-epoch", "chunks (hours, factor of the learning rate)", "heard by then"))
        widths = [max(len(row[column]) for row in rows) for column in range(2)]
        return "\n".join(f"{a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows)


class _Reader:
    """Gives the shards of one source, pass after pass."""

    def __init__(self, hours: np.ndarray, seed: List[int]) -> None:
        self.hours = hours
        self.seed = seed
        self.passes = 0
        self.queue: List[int] = []
        self.ahead = 0.0  # hours given beyond what was asked for

    def take(self, chunk: Chunk) -> Tuple[Tuple[int, ...], float]:
        target = chunk.amount * (self.hours.sum() if chunk.share else 1.0) - self.ahead
        shards: List[int] = []
        hours = 0.0
        # Sums of hours are rounded: a whole pass must not begin the next one for the last digit of a float.
        while hours < target - 1e-9 * self.hours.sum():
            if not self.queue:
                self.queue = np.random.default_rng([*self.seed, self.passes]).permutation(len(self.hours)).tolist()
                self.passes += 1
            shards.append(self.queue.pop(0))
            hours += float(self.hours[shards[-1]])
        self.ahead = hours - target
        return tuple(shards), hours


def _said(chunk: Chunk) -> str:
    amount = f"{100 * chunk.amount:g}%" if chunk.share else f"{chunk.amount:g}h"
    return f"{chunk.source} {amount}" + (f" @{chunk.rate:g}" if chunk.rate != 1 else "")


def total_hours(pieces: Sequence[Sequence[Piece]]) -> Dict[str, float]:
    """Return the hours of each source."""
    hours: Dict[str, float] = {}
    for sub in pieces:
        for piece in sub:
            hours[piece.source] = hours.get(piece.source, 0.0) + piece.hours
    return hours
