"""The engine's calls of the network: full where streams come together, and nobody waits for nothing."""

# ruff: noqa: F811 (fixtures of serve_tools.py are named as the arguments that take them)

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import numpy as np
import pytest

pytest.importorskip("websockets", reason="needs websockets (pip install 'hybrid-asr[serve]')")

from serve_tools import speech  # noqa: F401
from small_run import RATE

from hybrid.decode.load import load
from hybrid.decode.recogniser import Recogniser
from hybrid.online.loglikes import OnlineAcoustics
from hybrid.serve.engine import Engine, EngineStream
from hybrid.serve.protocol import StreamConfig

LONG = 5.0  # seconds that nobody should wait


@pytest.fixture(scope="module")
def recogniser(small_run: Path) -> Recogniser:
    found = load(small_run, "lfmmi")
    engine = Engine(found, 1)
    engine.warm_up()
    engine.stop()
    return found


@contextmanager
def gathering(recogniser: Recogniser, threads: int, slots: int, gather: float) -> Iterator[Tuple[Engine, List[int]]]:
    """An engine, and the sizes of its calls."""
    engine, sizes = Engine(recogniser, threads, slots, gather), []
    compute = engine.online.compute

    def counted(streams: List[Any]) -> None:
        sizes.append(len(streams))
        compute(streams)

    engine.online.compute = counted  # type: ignore[method-assign, assignment]
    try:
        yield engine, sizes
    finally:
        engine.stop()


def chunk(engine: Engine, chunks: float = 1.0) -> np.ndarray:
    """Samples that complete a chunk of the network, and not two."""
    online = engine.online
    seconds = online.latency + 0.1 + (chunks - 1) * online.chunk.chunk * online.frame_shift
    return np.random.default_rng(0).integers(-3000, 3000, int(seconds * RATE)).astype(np.int16)


def opened(engine: Engine, count: int) -> List[EngineStream]:
    return [engine.open(StreamConfig(RATE)) for _ in range(count)]


@pytest.mark.parametrize("threads", [1, 3])
def test_chunks_share_a_call_when_it_is_full(recogniser: Recogniser, threads: int) -> None:
    with gathering(recogniser, threads, 4, 60.0) as (engine, sizes):
        streams, samples = opened(engine, 9), chunk(engine)
        answers = [engine.feed(stream, samples) for stream in streams[:3]]
        time.sleep(0.3)
        assert not sizes and not any(answer.done() for answer in answers)
        answers.append(engine.feed(streams[3], samples))
        assert all(answer.result(20) for answer in answers) and sizes == [4]
        assert [answer.result(20) for answer in [engine.feed(stream, samples[:100]) for stream in streams[4:]]]
        assert sizes == [4]  # what completes no chunk is answered at once


def test_the_first_waits_no_longer_than_is_said(recogniser: Recogniser) -> None:
    with gathering(recogniser, 2, 50, 0.5) as (engine, sizes):
        streams, samples = opened(engine, 20), chunk(engine)
        began = time.monotonic()
        answers = [engine.feed(stream, samples) for stream in streams[:5]]
        assert not sizes
        answers[0].result(20)
        waited = time.monotonic() - began
        assert [answer.result(20) for answer in answers] and sizes == [5]
        assert 0.5 <= waited < 0.5 + LONG / 2


def test_nobody_waits_where_few_are_there(recogniser: Recogniser) -> None:
    """Two, of which in so short a time no other chunk is to be expected; and where all who are there have come."""
    with gathering(recogniser, 2, 12, 0.01) as (engine, sizes):
        one, _ = opened(engine, 2)
        samples = chunk(engine)
        engine.feed(one, samples).result(20)
        assert sizes == [1] and engine._wait() is None
    with gathering(recogniser, 1, 12, 60.0) as (engine, sizes):
        began = time.monotonic()
        answers = [engine.feed(stream, samples) for stream in opened(engine, 3)]
        assert all(answer.result(20) for answer in answers) and sum(sizes) == 3
        assert time.monotonic() - began < LONG


def test_the_end_of_a_stream_waits_for_nobody_and_takes_others_along(recogniser: Recogniser) -> None:
    with gathering(recogniser, 1, 12, 60.0) as (engine, sizes):
        streams, samples = opened(engine, 8), chunk(engine)
        answers = [engine.feed(stream, samples) for stream in streams[:3]]
        answers.append(engine.feed(streams[3], samples[:1000], last=True))
        assert all(answer.result(20) for answer in answers) and sizes == [4]


def test_who_floods_waits_for_himself(recogniser: Recogniser) -> None:
    """An hour's worth of chunks of one, sent before, and a chunk of another, sent after."""
    with gathering(recogniser, 1, 4, 0.02) as (engine, _):
        flood, other = opened(engine, 2)
        samples = chunk(engine)
        waiting = engine.feed(flood, np.tile(samples, 200))
        assert engine.feed(other, samples).result(20) and not waiting.done()
        engine.close(flood)


def test_calls_of_one_where_company_would_be_heard(
    recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with gathering(recogniser, 1, 12, 60.0) as (engine, sizes):
        assert engine.online.slots == 12 and "depend on who shares" not in caplog.text
    monkeypatch.setattr(OnlineAcoustics, "same_in_company", lambda self: False)
    with caplog.at_level(logging.WARNING), gathering(recogniser, 1, 12, 60.0) as (engine, sizes):
        assert engine.online.slots == 1 and "depend on who shares" in caplog.text
        samples = chunk(engine)
        answers = [engine.feed(stream, samples) for stream in opened(engine, 3)]
        assert all(answer.result(20) for answer in answers) and sizes == [1, 1, 1]


def test_answers_are_the_same_however_long_is_waited(recogniser: Recogniser, speech: List[np.ndarray]) -> None:
    integers = [np.round(one * 32768).astype(np.int16) for one in speech]
    found = []
    for threads, slots, gather in ((1, 1, 0.0), (1, 12, 0.0), (2, 5, 0.2), (3, 12, 0.05)):
        with gathering(recogniser, threads, slots, gather) as (engine, sizes):
            streams = [engine.open(StreamConfig(RATE, hybrid=True, max_alternatives=3)) for _ in integers]
            said: List[List[List[str]]] = [[] for _ in integers]
            for begin in range(0, max(map(len, integers)), 1600):
                parts = [one[begin : begin + 1600] for one in integers]
                answers = [engine.feed(stream, part) for stream, part in zip(streams, parts)]
                for mine, answer in zip(said, answers):
                    mine.append(answer.result(20))
            for mine, stream in zip(said, streams):
                mine.append(engine.feed(stream, integers[0][:0], last=True).result(20))
            found.append(said)
            assert (max(sizes) > 1) == (slots > 1 and gather > 0)
    assert all(said == found[0] for said in found)
