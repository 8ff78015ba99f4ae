"""A server in this process, and clients of it that speak as Vosk's do (alphacep/vosk-server, websocket/test.py)."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np
import pytest
import soundfile
from lhotse import CutSet
from small_run import RATE
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from hybrid.decode.load import load
from hybrid.decode.recogniser import Recogniser
from hybrid.decode.result import Result
from hybrid.serve.engine import SLOTS, Engine
from hybrid.serve.server import Server
from hybrid.serve.session import Limits


class Served(NamedTuple):
    server: Server
    address: str  # http://127.0.0.1:PORT/

    @property
    def socket(self) -> str:
        return self.address.replace("http", "ws", 1)

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1].rstrip("/"))


@contextmanager
def serving(engine: Engine, limits: Optional[Limits] = None, origins: Sequence[str] = ()) -> Iterator[Served]:
    """A server over an engine, in a thread of its own, at a free port."""
    server = Server(engine, limits, origins=origins, version="1.2.3")
    ready: List[str] = []
    up = threading.Event()

    def tell(address: str) -> None:
        ready.append(address)
        up.set()

    thread = threading.Thread(target=lambda: asyncio.run(server.run("127.0.0.1", 0, tell)), daemon=True)
    thread.start()
    assert up.wait(30)
    try:
        yield Served(server, ready[0])
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive(), "the server did not end"


class Heard(NamedTuple):
    """What a client was answered; code, reason: of the close frame."""

    answers: List[Dict[str, Any]]
    code: int
    reason: str


def pcm(samples: np.ndarray) -> bytes:
    return np.round(np.asarray(samples) * 32768).clip(-32768, 32767).astype("<i2").tobytes()


async def vosk_client(
    address: str, data: bytes, config: Optional[Mapping[str, Any]] = None, step: int = 3200, pause: float = 0.0
) -> List[Dict[str, Any]]:
    """One answer is awaited after each message, and one after the end."""
    answers = []
    async with connect(address) as websocket:
        if config is not None:
            await websocket.send(json.dumps({"config": config}))
        for begin in range(0, len(data), step):
            await websocket.send(data[begin : begin + step])
            answers.append(json.loads(await asyncio.wait_for(websocket.recv(), 60)))
            await asyncio.sleep(pause)
        await websocket.send('{"eof" : 1}')
        answers.append(json.loads(await asyncio.wait_for(websocket.recv(), 60)))
    return answers


async def messages_client(address: str, messages: Sequence[Any], **options: Any) -> Heard:
    """Send messages without waiting, and take what comes until the server closes."""
    answers: List[Dict[str, Any]] = []
    async with connect(address, **options) as websocket:

        async def send() -> None:
            for message in messages:
                await websocket.send(message)

        sending = asyncio.ensure_future(send())
        try:
            while True:
                answers.append(json.loads(await asyncio.wait_for(websocket.recv(), 60)))
        except ConnectionClosed:
            pass
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
        return Heard(answers, websocket.close_code or 0, websocket.close_reason or "")


def hear(address: str, messages: Sequence[Any], **options: Any) -> Heard:
    return asyncio.run(messages_client(address, messages, **options))


def hybrid_messages(data: bytes, step: int = 3200, **config: Any) -> List[Any]:
    chunks = [data[begin : begin + step] for begin in range(0, len(data), step)]
    return [json.dumps({"config": {"format": "hybrid", **config}}), *chunks, '{"eof": 1}']


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


# ------------------------------------------------------------------ a recogniser to serve, and what it should say


@pytest.fixture(scope="module")
def engine(small_run: Path) -> Iterator[Engine]:
    made = Engine(load(small_run, "lfmmi"), 2)
    made.warm_up()
    yield made
    made.stop()


@pytest.fixture
def served(engine: Engine) -> Iterator[Served]:
    with serving(engine) as found:
        yield found
    assert engine.streams == 0, "streams are left"


@pytest.fixture(scope="module")
def speech(small_cuts: CutSet) -> List[np.ndarray]:
    """Samples that 16 bits hold."""
    found = []
    for cut in small_cuts:
        integers, _ = soundfile.read(cut.recording.sources[0].source, dtype="int16")
        found.append(integers.astype(np.float32) / 32768)
    return found


def directly(asr: Recogniser, samples: np.ndarray, rate: int = RATE, **options: Any) -> List[Result]:
    """The utterances that a stream of the library gives, with the network's calls of the server's size."""
    stream = asr.create_stream(online=asr.online(slots=SLOTS), **options)
    stream.accept_waveform(rate, samples)
    stream.input_finished()
    stream.decode()
    found = []
    while stream.is_endpoint():
        found.append(stream.get_result())
        stream.reset()
    return found


def own(results: List[Result], nbest: int = 1) -> List[Dict[str, Any]]:
    return json.loads(json.dumps([result.to_dict(nbest) for result in results]))
