"""The server's limits, what clients leave behind that are killed, its pages, and its command."""

# ruff: noqa: F811 (fixtures of serve_tools.py are named as the arguments that take them)

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
from typing import Any, List

import numpy as np
import pytest

pytest.importorskip("websockets", reason="needs websockets (pip install 'hybrid-asr[serve]')")

from conftest import PROJECT
from serve_tools import (  # noqa: F401
    Served,
    directly,
    engine,
    hear,
    hybrid_messages,
    messages_client,
    pcm,
    served,
    serving,
    speech,
    vosk_client,
    wait_until,
)
from small_run import RATE
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from hybrid.cli import main
from hybrid.serve.engine import Engine
from hybrid.serve.session import Limits

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
    assert process.returncode == 0
    (line,) = errors.splitlines()  # of the model, at the start
    assert line.startswith("streams of lfmmi: ")


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
