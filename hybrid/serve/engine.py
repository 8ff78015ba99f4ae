"""Many streams of speech with one graph and one network: threads that compute what has come, together.

A message goes three steps, each in whatever thread is free: at most PIECE seconds of it become features, so that nobody
waits for one who sent an hour at once; the chunk of the network that they complete, if they do, is computed; and what
comes out is searched. Chunks that are complete wait for each other: up to `slots` of them share a call, which begins
when it is full, or when the first of them has waited for `gather` seconds. Where there are so few streams that in that
time no other chunk is to be expected, a chunk waits only while there are samples that could complete another. Queues
are served in the order in which streams came, those that are nearest to their answer first: who floods waits for
himself.

A stream's numbers are the same bits in any company, and those of a stream of the library (hybrid/online/network.py).
That is tried out at the start, with some streams; where it is not so, every call is of one. What goes wrong in one
stream ends that stream alone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from functools import partial
from typing import Callable, Deque, List, Optional, Sequence

import numpy as np

from hybrid.decode.recogniser import Recogniser
from hybrid.decode.result import Result
from hybrid.decode.segments import Endpointing
from hybrid.decode.stream import Stream
from hybrid.errors import HybridError
from hybrid.parallel import cores
from hybrid.serve.answers import Answers
from hybrid.serve.protocol import StreamConfig

PIECE = 1.0  # seconds of a stream that are taken at a time
SLOTS = 12  # streams that share a call of the network, at most
GATHER = 0.05  # seconds that a chunk waits for others, at most

log = logging.getLogger(__name__)


class StreamClosed(HybridError):
    """A stream whose client has gone, or whose engine has stopped."""


class EngineStream:
    """One stream in the engine; made by `Engine.open`. One message at a time: the next after its answer."""

    def __init__(self, stream: Stream, answers: Answers, rate: int) -> None:
        self.stream, self.answers, self.rate = stream, answers, rate
        self.closed = False
        self._samples: np.ndarray = np.zeros(0, np.int16)  # of a message, that wait
        self._last = self.flushed = False  # flushed: no sample will come
        self._over: List[Result] = []
        self.until = 0.0  # when its chunk has waited long enough, by time.monotonic
        self._answer: Optional[Future[List[str]]] = None

    def expect(self, samples: np.ndarray, last: bool) -> Future[List[str]]:
        """Take a message, and return what will hold its answer."""
        if self._answer is not None:
            raise RuntimeError("a message before the last one was answered")
        answer: Future[List[str]] = Future()
        answer.set_running_or_notify_cancel()  # it will be set whoever waits for it
        self._samples, self._last, self._answer = samples, last, answer
        return answer

    def attempt(self, step: Callable[[], bool]) -> bool:
        """Do a step of this stream's work and return what it says; False where it fails, which its client is told."""
        try:
            if self.closed:
                raise StreamClosed("the stream is closed")
            return step()
        except Exception as error:
            self.fail(error)
            return False

    def push(self) -> bool:
        """Give the next piece of the message to the acoustic model; return True."""
        count = int(PIECE * self.rate)
        piece, self._samples = self._samples[:count], self._samples[count:]
        if len(piece):
            self.stream.accept_waveform(self.rate, piece.astype(np.float32) / np.float32(32768))
        if self._last and not len(self._samples):
            self.stream.input_finished()
        self.flushed = self.stream.push()
        return True

    def search(self) -> bool:
        """Decode what the acoustic model has computed; return whether the message has more pieces. Where not, it is
        answered, and from that moment on the stream may be in the hands of another thread."""
        self.stream.take_rows(self.stream.acoustics.pop())
        if self.flushed:
            self.stream.end()
        while self.stream.is_endpoint():
            self._over.append(self.stream.get_result())
            self.stream.reset()
        if len(self._samples):
            return True
        over, self._over = self._over, []
        told = self.answers.of_end(over) if self._last else self.answers.of_chunk(over, self.stream.get_result())
        self._answered().set_result(told)
        return False

    def fail(self, error: BaseException) -> None:
        """End the message with an error; nothing more can come of the stream."""
        self.closed = True
        self._samples = self._samples[:0]
        if self._answer is not None:
            self._answered().set_exception(error)

    def _answered(self) -> Future[List[str]]:
        answer, self._answer = self._answer, None
        assert answer is not None
        return answer


class Engine:
    """Threads that recognise streams. threads: 0 for one a core; slots: streams that share a call of the network, at
    most; gather: seconds that a chunk of a stream waits for those of others, at most."""

    def __init__(
        self, recogniser: Recogniser, threads: int = 0, slots: int = SLOTS, gather: float = GATHER
    ) -> None:
        self.recogniser, self.online, self._gather = recogniser, recogniser.online(slots=slots), gather
        if slots > 1 and not self.online.same_in_company():
            log.warning("with these libraries a stream's scores depend on who shares its call: each has its own")
            self.online = recogniser.online(slots=1)
        self._ready: Deque[EngineStream] = deque()  # that have samples, or have ended
        self._complete: Deque[EngineStream] = deque()  # that have a chunk for the network
        self._scored: Deque[EngineStream] = deque()  # whose rows are to be searched
        self._changed = threading.Condition()
        self._open: set[EngineStream] = set()
        self._stopping = False
        count = threads or cores()
        self._threads = [threading.Thread(target=self._work, name=f"engine {n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._open)

    def open(self, config: StreamConfig) -> EngineStream:
        """Return a new stream. May take a while where it has phrases."""
        answers = Answers(config)
        recogniser = self.recogniser
        if config.phrases:
            try:
                recogniser = recogniser.context(config.phrases)
            except HybridError as error:  # as Vosk does with a model that cannot: without them, but not in silence
                answers.warn(f"phrase_list: {error.what}; passed over")
        stream = EngineStream(recogniser.create_stream(config.endpointing, online=self.online), answers, config.rate)
        with self._changed:
            if self._stopping:
                raise StreamClosed("the server has stopped")
            self._open.add(stream)
        return stream

    def feed(self, stream: EngineStream, samples: np.ndarray, last: bool = False) -> Future[List[str]]:
        """Return what will hold the messages that answer int16 samples [N]. last: no more will come."""
        with self._changed:
            if stream.closed:
                raise StreamClosed("the stream is closed")
            answer = stream.expect(samples, last)
            self._ready.append(stream)
            self._changed.notify()
        return answer

    def close(self, stream: EngineStream) -> None:
        """Drop a stream and what it waits for."""
        with self._changed:
            stream.closed = True
            self._open.discard(stream)

    def stop(self) -> None:
        """End the threads; streams that are open get no answer any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        for stream in [*self._open]:
            self.close(stream)
            stream.fail(StreamClosed("the server has stopped"))

    def warm_up(self) -> None:
        """Decode some noise, cut and ended, and again with a phrase: what is compiled or made when first used is there
        for the first client."""
        rate, endpointing = self.recogniser.sampling_rate, Endpointing(rules=(), longest=1.0)
        noise = np.random.default_rng(0).integers(-2000, 2000, 4 * rate).astype(np.int16)
        word = list(self.recogniser.lang.words)[1]  # after epsilon
        for phrases in ((), (word,)):
            stream = self.open(StreamConfig(rate, max_alternatives=1, endpointing=endpointing, phrases=phrases))
            self.feed(stream, noise).result()
            self.feed(stream, noise[:0], last=True).result()
            self.close(stream)

    def _work(self) -> None:
        while True:
            step = self._next()
            if step is None:
                return
            step()
            del step  # while this thread waits for others, it keeps no stream

    def _next(self) -> Optional[Callable[[], None]]:
        """Wait for something to do; None: the engine stops."""
        with self._changed:
            while not self._stopping:
                if self._scored:
                    return partial(self._search, self._scored.popleft())
                wait = self._wait()
                if wait is not None and wait <= 0:
                    count = min(self.online.slots, len(self._complete))
                    return partial(self._compute, [self._complete.popleft() for _ in range(count)])
                if self._ready:
                    return partial(self._push, self._ready.popleft())
                self._changed.wait(wait)
        return None

    def _wait(self) -> Optional[float]:
        """The seconds until the next call of the network; None: no chunk is complete."""
        if not self._complete:
            return None
        expected = len(self._open) * self._gather / (self.online.chunk.chunk * self.online.frame_shift)
        if len(self._complete) >= min(self.online.slots, len(self._open)) or (expected < 1 and not self._ready):
            return 0.0
        return self._complete[0].until - time.monotonic()

    def _put(self, queue: Deque[EngineStream], streams: Sequence[EngineStream]) -> None:
        with self._changed:
            queue.extend(streams)
            self._changed.notify(len(streams))

    def _push(self, stream: EngineStream) -> None:
        if not stream.attempt(stream.push):
            return
        if not stream.stream.acoustics.is_ready():
            self._put(self._scored, [stream])
            return
        with self._changed:
            if stream.flushed:  # its last words wait for nobody, and those that wait go with it
                self._complete.appendleft(stream)
            else:
                stream.until = time.monotonic() + self._gather
                self._complete.append(stream)
            self._changed.notify()

    def _compute(self, streams: List[EngineStream]) -> None:
        try:
            self.online.compute([stream.stream.acoustics for stream in streams])
        except Exception as error:  # the model's own fault: 16-bit samples are finite, and so is what is made of them
            for stream in streams:
                stream.fail(error)
            return
        self._put(self._scored, streams)

    def _search(self, stream: EngineStream) -> None:
        if stream.attempt(stream.search):
            self._put(self._ready, [stream])
