"""The server: Vosk's clients work, nobody's result depends on others, limits hold, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
import soundfile

pytest.importorskip("websockets", reason="needs websockets (pip install 'hybrid-asr[serve]')")

from conftest import PROJECT
from lhotse import CutSet
from serve_tools import (
    Served,
    hear,
    hybrid_messages,
    messages_client,
    pcm,
    serving,
    vosk_client,
    wait_until,
)
from small_run import RATE
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from hybrid.cli import main
from hybrid.decode.load import load
from hybrid.decode.recogniser import Recogniser
from hybrid.decode.result import Result
from hybrid.decode.segments import Endpointing, Rule
from hybrid.errors import DataError, ModelError
from hybrid.serve.engine import PIECE, SLOTS, Engine
from hybrid.serve.protocol import StreamConfig
from hybrid.serve.session import Limits


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


# ------------------------------------------------------------------ clients of Vosk's


def test_a_client_of_vosk(served: Served, engine: Engine, speech: List[np.ndarray]) -> None:
    """An answer to each message; the last has the words of a stream of the library."""
    texts = set()
    for samples in speech:
        (result,) = directly(engine.recogniser, samples)
        answers = asyncio.run(vosk_client(served.socket, pcm(samples), {"sample_rate": RATE}))
        assert all(answer.keys() == {"partial"} for answer in answers[:-1])
        words = [{"conf": w.conf, "start": w.start, "end": w.end, "word": w.word} for w in result.words]
        assert answers[-1] == {"text": result.text, "result": words} and words
        texts.add(result.text)
    assert len(texts) > 3


def test_without_a_config_the_rate_is_the_models(served: Served, engine: Engine, speech: List[np.ndarray]) -> None:
    samples = speech[7]
    for config in (None, {"words": 0}):
        answers = asyncio.run(vosk_client(served.socket, pcm(samples), config))
        assert answers[-1]["text"] == directly(engine.recogniser, samples)[0].text
        assert ("result" in answers[-1]) == (config is None)


@pytest.mark.parametrize("step", [15, 321, 3200, 10**6])
def test_answers_do_not_depend_on_the_pieces(
    served: Served, engine: Engine, speech: List[np.ndarray], step: int
) -> None:
    """Bytes may be cut anywhere, between the two of a sample too."""
    samples = speech[7] if step == 15 else np.concatenate(speech)
    assert step == 15 or len(samples) > 3 * PIECE * RATE
    answers = asyncio.run(vosk_client(served.socket, pcm(samples) + b"\x01", {"sample_rate": RATE}, step))
    said = " ".join(answer["text"] for answer in answers if answer.get("text"))
    assert said == " ".join(result.text for result in directly(engine.recogniser, samples)) != ""


def test_samples_of_another_rate(served: Served, engine: Engine, speech: List[np.ndarray]) -> None:
    samples = np.round(np.repeat(speech[3], 2) * 32768) / 32768
    answers = asyncio.run(vosk_client(served.socket, pcm(samples), {"sample_rate": 16000.0}))
    assert answers[-1]["text"] == directly(engine.recogniser, samples.astype(np.float32), 16000)[0].text


def test_alternatives(served: Served, engine: Engine, speech: List[np.ndarray]) -> None:
    config = {"sample_rate": RATE, "max_alternatives": 3}
    (*partials, last) = asyncio.run(vosk_client(served.socket, pcm(speech[5]), config))
    assert all("partial" in answer for answer in partials)
    (result,) = directly(engine.recogniser, speech[5])
    assert [one["text"] for one in last["alternatives"]] == [one.text for one in result.nbest(3)]
    shares = [one["confidence"] for one in last["alternatives"]]
    assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1.000001
    assert [word["word"] for word in last["alternatives"][0]["result"]] == result.text.split()


RULE = {"needs_words": True, "trailing_silence": 0.0, "utterance_length": 0.5}
ENDPOINTING = Endpointing((Rule(True, 0.0, float("inf"), 0.5),), 10.0)


def test_endpoints_as_the_client_wants_them(served: Served, engine: Engine, speech: List[np.ndarray]) -> None:
    """In one message for Vosk's clients, however many utterances are over in it; each its own in the other form."""
    samples = np.concatenate(speech)
    wanted = directly(engine.recogniser, samples, endpointing=ENDPOINTING)
    assert len(wanted) > 4 and len(directly(engine.recogniser, samples)) < len(wanted)
    config = {"sample_rate": RATE, "endpointing": {"rules": [RULE], "longest": 10}}
    for step in (1600, 10**6):
        answers = asyncio.run(vosk_client(served.socket, pcm(samples), config, step))
        over = [answer["text"] for answer in answers if answer.get("text")]
        assert " ".join(over) == " ".join(result.text for result in wanted)
        assert len(over) <= len(answers) and (step == 10**6 or len(over) == len(wanted))
        found = hear(served.socket, hybrid_messages(pcm(samples), step, **config))
        assert [one for one in found.answers if one["final"] and one["words"]] == own(wanted) and found.code == 1000
        times = [time for result in wanted for word in result.words for time in (word.start, word.end)]
        assert times == sorted(times)


def test_the_projects_form(served: Served, engine: Engine, speech: List[np.ndarray]) -> None:
    found = hear(served.socket, hybrid_messages(pcm(speech[7]), sample_rate=RATE, max_alternatives=5))
    *partials, last = found.answers
    assert [last] == own(directly(engine.recogniser, speech[7]), 5) and len(last["nbest"]) == 5
    assert len(partials) == -(-len(pcm(speech[7])) // 3200) and not any(one["final"] for one in partials)
    assert all(0 <= one["agreed"] <= len(one["words"]) for one in partials)
    assert found.code == 1000


def test_no_speech_at_all(served: Served) -> None:
    assert hear(served.socket, ['{"eof" : 1}']).answers == [{"text": ""}]
    assert hear(served.socket, [b"", b"\0", '{"eof" : 1}']).answers == [{"partial": ""}, {"partial": ""}, {"text": ""}]
    (last,) = hear(served.socket, hybrid_messages(b"")).answers
    assert last == own([Result((), 0.0, False)])[0]
    silence = hear(served.socket, [bytes(2 * RATE), b"\xff\x7f" * RATE, b"\0\x80" * RATE, '{"eof": 1}'])
    assert silence.code == 1000 and len(silence.answers) == 4 and "text" in silence.answers[-1]


def test_phrases_that_a_recogniser_does_not_take(
    served: Served, engine: Engine, speech: List[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream goes on without them, as Vosk's does, and its client is told; what can take them gets them."""

    def client() -> List[Dict[str, Any]]:
        return asyncio.run(vosk_client(served.socket, pcm(speech[0]), {"phrase_list": ["XYZZY"], "sample_rate": RATE}))

    asked = []

    def context(phrases: Any) -> Recogniser:
        asked.append(phrases)
        if len(asked) == 1:
            raise DataError("the lexicon has no XYZZY", file="/secret", remedy="add it")
        return engine.recogniser

    monkeypatch.setattr(engine.recogniser, "context", context, raising=False)
    answers = client()
    assert answers[0]["warnings"] == ["phrase_list: the lexicon has no XYZZY; passed over"]
    assert not any("warnings" in answer for answer in answers[1:])
    assert answers[-1]["text"] == directly(engine.recogniser, speech[0])[0].text
    assert "warnings" not in client()[0] and asked == [("XYZZY",)] * 2


# ------------------------------------------------------------------ in company


async def _garbage(served: Served, rng: np.random.Generator) -> None:
    """Clients that break off, lie, flood and talk nonsense."""
    noise = rng.integers(-32768, 32767, RATE).astype("<i2").tobytes()
    for message in ("{", '{"config": {"sample_rate": -1}}', '{"config": 1}', "\x00", "x" * 70000):
        await messages_client(served.socket, [message])
    await messages_client(served.socket, [noise, '{"config": {}}'])
    await messages_client(served.socket, [bytes(2**20 + 2)], max_size=None)
    await messages_client(served.socket, ['{"config": {"max_alternatives": 100}}', noise * 4, '{"eof": 1}'])
    for number in range(4):  # broken off in the middle, without a word
        websocket = await connect(served.socket)
        await websocket.send(noise * (1 + number))
        websocket.transport.abort()
    post = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"
    for bad in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n", post, b"\0" * 9000):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(bad)
        await writer.drain()
        writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n" + b"\xff" * 5000
    )
    await writer.drain()
    await reader.read(1000)
    writer.close()


def test_nobody_changes_anothers_result(served: Served, engine: Engine, speech: List[np.ndarray]) -> None:
    """Every number, of texts and times and costs, is that of the stream alone, among other streams and garbage."""
    options = {"sample_rate": RATE, "max_alternatives": 5}
    alone = [hear(served.socket, hybrid_messages(pcm(one), **options)).answers for one in speech]
    assert all(answers[-1] == own(directly(engine.recogniser, one), 5)[0] for answers, one in zip(alone, speech))

    async def company() -> List[Any]:
        steps = [800, 3200, 3200, 1999, 6400, 3200, 100, 5000]
        clients = [
            messages_client(served.socket, hybrid_messages(pcm(one), step, **options))
            for one, step in zip(speech, steps)
        ]
        garbage = [_garbage(served, np.random.default_rng(seed)) for seed in range(3)]
        found = await asyncio.gather(*clients, *garbage)
        return found[: len(speech)]

    for found, answers in zip(asyncio.run(company()), alone):
        assert found.answers[-1] == answers[-1] and found.code == 1000


def test_a_stream_that_fails_is_alone_in_it(engine: Engine, speech: List[np.ndarray]) -> None:
    integers = [np.round(one * 32768).astype(np.int16) for one in speech]
    wanted = [directly(engine.recogniser, one)[0].text for one in speech]
    streams = [engine.open(StreamConfig(RATE)) for _ in speech]

    def broken(rows: np.ndarray) -> None:
        raise DataError("rows", file="/secret")

    streams[2].stream.take_rows = broken  # type: ignore[method-assign]
    answers = [engine.feed(stream, one, last=True) for stream, one in zip(streams, integers)]
    for number, answer in enumerate(answers):
        if number == 2:
            with pytest.raises(DataError, match="rows"):
                answer.result(60)
        else:
            assert json.loads(answer.result(60)[-1])["text"] == wanted[number]
        engine.close(streams[number])


def test_errors_of_streams_are_told_without_files(
    served: Served, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for error, code, words in (
        (DataError("bad rows", file="/secret", remedy="mend"), 1008, {"error": "bad rows", "remedy": "mend"}),
        (ZeroDivisionError("secret"), 1011, {"error": "a defect of the server, which its log tells"}),
        (ModelError("the model is broken", file="/secret"), 1008, {"error": "the model is broken"}),
    ):

        def broken(*_: Any, error: Exception = error) -> None:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(engine.online, "compute", broken)
            found = hear(served.socket, [bytes(3200)])
        assert (found.answers, found.code) == ([words], code)
    assert "ZeroDivisionError" in caplog.text
    assert hear(served.socket, [bytes(3200), '{"eof": 1}']).code == 1000


# ------------------------------------------------------------------ limits


def test_too_much_speech_ends_with_what_was_said(engine: Engine, speech: List[np.ndarray]) -> None:
    with serving(engine, Limits(seconds=2.0)) as served:
        data = pcm(np.concatenate(speech[:4]))
        found = hear(served.socket, [data[begin : begin + 8000] for begin in range(0, len(data), 8000)])
    heard = np.frombuffer(data, "<i2")[: 2 * RATE].astype(np.float32) / 32768
    assert found.answers[-2]["text"] == directly(engine.recogniser, heard)[0].text != ""
    assert found.answers[-1]["error"].startswith("more than 2 s of speech") and found.code == 1008


def test_messages_that_are_too_large(engine: Engine) -> None:
    with serving(engine, Limits(message=1000)) as served:
        assert hear(served.socket, [bytes(1000), '{"eof": 1}']).code == 1000
        found = hear(served.socket, [bytes(1002)])
        assert found.code == 1009 and "1000 are the most" in found.answers[0]["error"]
        assert hear(served.socket, [bytes(5000)]).code == 1009  # not even read: the library's own word


def test_a_client_that_says_nothing(engine: Engine, speech: List[np.ndarray]) -> None:
    with serving(engine, Limits(idle=0.5)) as served:
        found = hear(served.socket, [pcm(speech[0])])
        assert found.answers[-2]["text"] == directly(engine.recogniser, speech[0])[0].text
        assert found.answers[-1]["error"].startswith("no message for 0.5 s") and found.code == 1008


def test_no_more_clients_than_there_may_be(engine: Engine, speech: List[np.ndarray]) -> None:
    async def clients(served: Served) -> Any:
        async with connect(served.socket) as one, connect(served.socket) as two:
            for websocket in (one, two):
                await websocket.send(bytes(320))
                await websocket.recv()
            third = await messages_client(served.socket, [])
            await two.close()
            await asyncio.to_thread(wait_until, lambda: len(served.server.sessions) == 1)
            fourth = await vosk_client(served.socket, pcm(speech[0]))
            return third, fourth

    with serving(engine, Limits(connections=2)) as served:
        third, fourth = asyncio.run(clients(served))
    assert third.code == 1013 and "2 clients are connected" in third.answers[0]["error"]
    assert fourth[-1]["text"] == directly(engine.recogniser, speech[0])[0].text


def test_a_fast_client_is_slowed_and_not_stored(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the engine works on one message, all that the client sends beyond a few waits in its own socket."""
    import threading

    hold = threading.Event()
    compute = engine.online.compute

    def slow(streams: Any) -> None:
        hold.wait(30)
        compute(streams)

    async def client(served: Served) -> int:
        sent = 0
        async with connect(served.socket) as websocket:
            try:
                while sent < 500:
                    await asyncio.wait_for(websocket.send(bytes(2**18)), 1.0)
                    sent += 1
            except asyncio.TimeoutError:
                pass
            websocket.transport.abort()
        return sent

    with serving(engine, Limits(message=2**18)) as served:
        monkeypatch.setattr(engine.online, "compute", slow)
        sent = asyncio.run(client(served))
        hold.set()
        assert 2 <= sent < 100  # 25 MB: what the sockets of this system hold, and a few messages
        wait_until(lambda: not served.server.sessions and engine.streams == 0)


def test_a_client_that_takes_no_answer(engine: Engine) -> None:
    """Its connection ends, once the sockets are full for `idle` seconds."""
    with serving(engine, Limits(idle=1.0)) as served:
        raw = socket.create_connection(("127.0.0.1", served.port))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        raw.sendall(
            b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        wait_until(lambda: len(served.server.sessions) == 1)
        (session,) = served.server.sessions
        asked: List[int] = []

        async def long(samples: np.ndarray, last: bool) -> List[str]:
            asked.append(1)
            return ["x" * 2**22]

        session._answer = long  # type: ignore[method-assign]
        raw.sendall(b"\x82\x82\0\0\0\0\0\0" * 20)  # masked messages of one sample
        wait_until(lambda: not served.server.sessions)
        assert asked
        raw.close()


# ------------------------------------------------------------------ nothing is left


_CLIENT = """
import sys, time
from websockets.sync.client import connect
with connect(sys.argv[1]) as websocket:
    websocket.send(bytes(8000)); websocket.recv()
    print("talking", flush=True)
    time.sleep(60)
"""


def test_killed_clients_leave_nothing(served: Served, engine: Engine) -> None:
    command = [sys.executable, "-c", _CLIENT, served.socket]
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for client in clients:
            assert client.stdout is not None and client.stdout.readline() == "talking\n"
        assert len(served.server.sessions) == engine.streams == 3
        streams = [weakref.ref(stream.stream) for stream in engine._open]
    finally:
        for client in clients:
            client.kill()
            client.communicate()
    wait_until(lambda: not served.server.sessions and engine.streams == 0)

    def collected() -> bool:
        gc.collect()
        return not any(ref() for ref in streams)

    wait_until(collected)


# ------------------------------------------------------------------ http


def get(served: Served, path: str, **headers: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_the_page_and_its_health(served: Served) -> None:
    response, body = get(served, "/")
    assert response.status == 200 and b"<title>" in body and response.getheader("X-Content-Type-Options") == "nosniff"
    for name in re.findall(rb'(?:src|href)="(/[^"]+)"', body):
        assert get(served, name.decode())[0].status == 200
    response, body = get(served, "/healthz?x=1")
    assert json.loads(body) == {
        "status": "ok", "version": "1.2.3", "streams": 0, "clients": 0, "system": "lfmmi", "sampling_rate": RATE,
    }  # fmt: skip


@pytest.mark.parametrize(
    "path", ["/../engine.py", "/page/index.html", "/%2e%2e/engine.py", "//etc/passwd", "/page.js/", "/index.html", "/x"]
)
def test_there_is_no_other_file(served: Served, path: str) -> None:
    response, body = get(served, path)
    assert response.status == 404 and "error" in json.loads(body)


def test_pages_of_others_may_not_connect(engine: Engine) -> None:
    async def opened(served: Served, origin: str) -> bool:
        try:
            async with connect(served.socket, origin=origin):  # type: ignore[arg-type]
                return True
        except InvalidStatus as error:
            assert error.response.status_code == 403 and b"--origin" in (error.response.body or b"")
            return False

    with serving(engine, origins=["https://app.example"]) as served:
        assert asyncio.run(opened(served, served.address.rstrip("/")))
        assert asyncio.run(opened(served, "https://app.example"))
        assert not asyncio.run(opened(served, "https://evil.example"))


# ------------------------------------------------------------------ the command


def start(exp: Path, *more: str) -> Any:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "hybrid.cli", "serve", str(exp), "--system", "lfmmi", "--port", "0", *more]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=PROJECT
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    match = re.fullmatch(rf"serving lfmmi \({RATE} Hz\) at (http://127.0.0.1:\d+/)\n", line)
    if not match:
        process.kill()
        raise AssertionError(line + process.communicate()[1])
    return process, match.group(1).replace("http", "ws", 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_signals_end_streams_with_their_results(
    small_run: Path, engine: Engine, speech: List[np.ndarray], number: int
) -> None:
    process, address = start(small_run)

    async def client() -> Any:
        async with connect(address) as websocket:
            await websocket.send(pcm(speech[6]))
            await websocket.recv()
            process.send_signal(number)
            last = json.loads(await asyncio.wait_for(websocket.recv(), 30))
            await websocket.wait_closed()
            return last, websocket.close_code

    try:
        last, code = asyncio.run(client())
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert last["text"] == directly(engine.recogniser, speech[6])[0].text != "" and code == 1001
    assert process.returncode == 0 and errors == ""


def test_an_address_that_is_taken(
    small_run: Path, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(small_run), "--system", "lfmmi", "--port", str(served.port)]) == 2
    error = capsys.readouterr().err
    assert f"port {served.port}" in error and "--port" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "options", [["--port", "70000"], ["--idle", "0"], ["--max-seconds", "nan"], ["--max-connections", "x"]]
)
def test_options_that_cannot_be(options: List[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["serve", "exp", *options])
    assert error.value.code == 2


def test_without_the_library(small_run: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "websockets" else found(name, *a))
    assert main(["serve", str(small_run)]) == 1
    assert "hybrid-asr[serve]" in capsys.readouterr().err
