"""Many clients of `hybrid serve` at once: does any result change, how late are words, how much does a stream cost?

    python -m benchmarks.serve MODEL AUDIO... [--system S] [--clients 50] [--pace 1] [--calm] [--gather-ms 50]

AUDIO: files, folders, or manifests of Lhotse. Each is recognised by a client alone first, as fast as it is answered.
Then `clients` at once, each with an utterance of its own (in turn), beside as many again that are killed in the middle,
send garbage, or flood: the answers of the former must be those they had alone. The server is a process of its own.

pace: 1 sends 0.2 s of speech each 0.2 s, as a microphone does; 0 the next piece when the last was answered.
end: seconds from the last piece of speech, and the word that it was the last, to the final words. first: from the end
of the first word to the first partial result that holds a word (with a pace alone). CPU: of the server, all threads, a
second of speech; that of those who disturb counts, though what the killed had sent is not all recognised: --calm
leaves them away.
Memory: the server's resident set with all streams open, above that with none, a stream.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import psutil
from lhotse import load_manifest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from hybrid.data.audio import load_samples

CHUNK = 0.2  # seconds
_LINE = (
    "{clients:7d} {pace:4g} {changed:7d} {seconds:7.1f} {cpu:6.3f} {end_p50:8.2f} {end_p95:5.2f} {first_p50:10.2f}"
    " {first_p95:5.2f} {mb_a_stream:10.2f} {left:5d}"
)
_FALSE = ("{", '{"config": {"sample_rate": -1}}', '{"config": {"words": 3}}', "\x00", "x" * 70000)


@dataclass(frozen=True)
class Row:
    """What a round has shown. changed: clients whose answers were not those that they had alone."""

    clients: int
    pace: float
    changed: int
    seconds: float
    speech: float
    cpu: float
    end_p50: float
    end_p95: float
    first_p50: float
    first_p95: float
    mb_a_stream: float
    left: int


class Talk:
    """One client of Vosk's kind, and when it was answered."""

    def __init__(self, address: str, data: bytes, rate: int, pace: float) -> None:
        self._address, self._data, self._rate, self._pace = address, data, rate, pace
        self.results: List[Dict[str, Any]] = []
        self.end = self.first = float("nan")

    async def run(self, start: float = 0.0) -> None:
        await asyncio.sleep(start)
        step = 2 * round(CHUNK * self._rate)
        pieces = [self._data[begin : begin + step] for begin in range(0, len(self._data), step)]
        heard: Optional[float] = None
        async with connect(self._address, compression=None, ping_interval=None) as websocket:
            await websocket.send(json.dumps({"config": {"sample_rate": self._rate}}))
            began = time.monotonic()

            async def send() -> None:
                for number, piece in enumerate(pieces, 1):
                    await asyncio.sleep(max(began + number * CHUNK / self._pace - time.monotonic(), 0))
                    await websocket.send(piece)

            sending = asyncio.ensure_future(send()) if self._pace else None
            for piece in pieces:
                if sending is None:
                    await websocket.send(piece)
                answer = json.loads(await websocket.recv())
                if heard is None and (answer.get("partial") or answer.get("text")):
                    heard = time.monotonic() - began
                if "text" in answer:
                    self.results.append(answer)
            ended = time.monotonic() if sending is None else max(began + len(pieces) * CHUNK / self._pace, 0)
            await websocket.send('{"eof" : 1}')
            self.results.append(json.loads(await websocket.recv()))
            self.end = time.monotonic() - ended
        words = [word for answer in self.results for word in answer.get("result", [])]
        if heard is not None and words and self._pace:
            self.first = heard - words[0]["end"] / self._pace

    @property
    def text(self) -> str:
        return " ".join(answer["text"] for answer in self.results if answer["text"])


async def disturb(address: str, data: bytes, number: int, sent: List[int]) -> None:
    """A client that is killed, lies, or floods."""
    with contextlib.suppress(WebSocketException, OSError):
        async with connect(address, compression=None, ping_interval=None) as websocket:
            kind = number % 3
            if kind == 0:
                await websocket.send(_FALSE[number // 3 % len(_FALSE)])
                await websocket.recv()
            elif kind == 1:  # gone in the middle, without a word
                part = data[: len(data) // 2]
                sent.append(len(part))
                await websocket.send(part)
                await asyncio.sleep(0.3)
                websocket.transport.abort()
            else:  # noise at full scale, then what is no message
                noise = np.random.default_rng(number).integers(-32768, 32767, 32000).astype("<i2").tobytes()
                sent.append(len(noise))
                await websocket.send(noise)
                await websocket.recv()
                await websocket.send("}")
                await websocket.recv()


@contextlib.contextmanager
def serving(model: str, system: Optional[str], extra: Sequence[str]) -> Iterator[Tuple[psutil.Process, str, int]]:
    """The server's process, its address, and the model's sampling rate."""
    command = [sys.executable, "-m", "hybrid.cli", "serve", model, "--port", "0", "--max-connections", "1000"]
    command += extra
    process = subprocess.Popen(command + (["--system", system] if system else []), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        match = re.search(r"\((\d+) Hz\) at http(\S+)", process.stdout.readline())
        if match is None:
            sys.exit("the server did not start")
        yield psutil.Process(process.pid), "ws" + match.group(2), int(match.group(1))
    finally:
        process.terminate()
        process.wait(60)


def speech_of(sources: Sequence[str], rate: int) -> List[bytes]:
    """16-bit samples at the model's rate."""
    audio: List[Any] = []
    for source in map(Path, sources):
        if source.name.endswith((".jsonl", ".jsonl.gz")):
            audio += list(load_manifest(source))
        else:
            audio += sorted(one for one in source.rglob("*") if one.is_file()) if source.is_dir() else [source]
    samples = [load_samples(one, rate) for one in audio]
    return [np.round(one * 32768).clip(-32768, 32767).astype("<i2").tobytes() for one in samples]


async def one_round(
    process: psutil.Process, address: str, rate: int, speech: List[bytes], alone: List[str], clients: int, pace: float,
    calm: bool,
) -> Row:  # fmt: skip
    talks = [Talk(address, speech[number % len(speech)], rate, pace) for number in range(clients)]
    empty, most, sent = process.memory_info().rss, 0, [0]

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, process.memory_info().rss)
            await asyncio.sleep(0.1)

    watching = asyncio.ensure_future(watch())
    spread = np.random.default_rng(0).random(clients)  # not all in step
    cpu, began = sum(process.cpu_times()[:2]), time.monotonic()
    others = range(0 if calm else clients)
    disturbing = [disturb(address, speech[number % len(speech)], number, sent) for number in others]
    await asyncio.gather(*(talk.run(start) for talk, start in zip(talks, spread)), *disturbing)
    seconds, cpu = time.monotonic() - began, sum(process.cpu_times()[:2]) - cpu
    watching.cancel()
    total = (sum(len(speech[number % len(speech)]) for number in range(clients)) + sum(sent)) / 2 / rate
    changed = sum(talk.text != alone[number % len(speech)] for number, talk in enumerate(talks))
    ends = np.percentile([talk.end for talk in talks], [50, 95]).tolist()
    heard = [talk.first for talk in talks if np.isfinite(talk.first)]
    firsts = np.percentile(heard, [50, 95]).tolist() if heard else [float("nan")] * 2
    await asyncio.sleep(1.0)
    memory = (most - empty) / 2**20 / clients
    return Row(clients, pace, changed, seconds, total, cpu / total, *ends, *firsts, memory, await streams_of(address))


async def streams_of(address: str) -> int:
    """The streams that the server says are open."""
    host, port = address.split("//")[1].rstrip("/").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    body = (await reader.read()).split(b"\r\n\r\n", 1)[1]
    writer.close()
    return int(json.loads(body)["streams"])


async def measured(options: argparse.Namespace, process: psutil.Process, address: str, rate: int) -> List[Row]:
    speech = speech_of(options.audio, rate)[: options.utterances]
    alone = []
    for data in speech:
        talk = Talk(address, data, rate, 0.0)
        await talk.run()
        alone.append(talk.text)
    print(f"{len(speech)} utterances, {sum(map(len, speech)) / 2 / rate:.0f} s; load {os.getloadavg()[0]:.1f}")
    print("clients pace changed seconds  CPU/s  end p50   p95  first p50   p95  MB/stream  left")
    rows = []
    for pace in options.pace:
        for clients in options.clients:
            for _ in range(options.rounds):
                row = await one_round(process, address, rate, speech, alone, clients, pace, options.calm)
                print(_LINE.format(**asdict(row)), flush=True)
                rows.append(row)
    return rows


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Returns 1 where a result has changed or a stream is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("audio", nargs="+")
    parser.add_argument("--system")
    parser.add_argument("--clients", type=int, nargs="+", default=[50])
    parser.add_argument("--pace", type=float, nargs="+", default=[1.0])
    parser.add_argument("--calm", action="store_true", help="without the clients that disturb")
    for name in ("--slots", "--gather-ms", "--threads"):
        parser.add_argument(name, help="of hybrid serve")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--utterances", type=int, default=50, help="of the audio, at most")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    passed = {"--slots": options.slots, "--gather-ms": options.gather_ms, "--threads": options.threads}
    extra = [word for name, value in passed.items() if value is not None for word in (name, value)]
    with serving(options.model, options.system, extra) as (process, address, rate):
        rows = asyncio.run(measured(options, process, address, rate))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return int(any(row.changed or row.left for row in rows))


if __name__ == "__main__":
    sys.exit(main())
