"""The server: Vosk's clients work, and nobody's result depends on others."""

# ruff: noqa: F811 (fixtures of serve_tools.py are named as the arguments that take them)

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import pytest

pytest.importorskip("websockets", reason="needs websockets (pip install 'hybrid-asr[serve]')")

from serve_tools import (  # noqa: F401
    Served,
    directly,
    engine,
    hear,
    hybrid_messages,
    messages_client,
    own,
    pcm,
    served,
    serving,
    speech,
    vosk_client,
    wait_until,
)
from small_run import RATE
from websockets.asyncio.client import connect

from hybrid.decode.load import load
from hybrid.decode.recogniser import Recogniser
from hybrid.decode.result import Result
from hybrid.decode.segments import Endpointing, Rule
from hybrid.errors import DataError, ModelError
from hybrid.serve.engine import PIECE, Engine
from hybrid.serve.protocol import StreamConfig

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

    monkeypatch.setattr(engine.recogniser, "context", context)
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


def test_streams_that_share_a_call_do_not_change_each_other(small_run: Path, speech: List[np.ndarray]) -> None:
    engine = Engine(load(small_run, "lfmmi"), 1, slots=24)
    config = StreamConfig(RATE, hybrid=True, max_alternatives=5)
    integers = [np.round(one * 32768).astype(np.int16) for one in speech]
    alone = [engine.feed(engine.open(config), one, last=True).result(60) for one in integers]
    streams = [engine.open(config) for _ in integers]
    answers = [engine.feed(stream, one, last=True) for stream, one in zip(streams, integers)]
    assert [answer.result(60) for answer in answers] == alone
    assert engine.streams == 2 * len(speech)
    engine.stop()
    assert engine.streams == 0


def test_phrases_too_are_compiled_before_the_first_client(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(load(small_run, "lfmmi"), 1)
    asked, context = [], engine.recogniser.context
    monkeypatch.setattr(engine.recogniser, "context", lambda phrases: asked.append(phrases) or context(phrases))
    engine.warm_up()
    engine.stop()
    assert len(asked) == 1 and all(word in engine.recogniser.lang.words for word in asked[0])


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
            found = hear(served.socket, [bytes(8 * RATE)])  # a chunk of the network and more
        assert (found.answers, found.code) == ([words], code)
    assert "ZeroDivisionError" in caplog.text
    assert hear(served.socket, [bytes(3200), '{"eof": 1}']).code == 1000
