"""One client, from its first message to its last.

A message is read when the one before has been answered: what a client sends faster than it can be recognised waits in
its own socket, and not here. At most a message that is being recognised and QUEUE more are in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Any, List, Optional, Set, Union

import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from hybrid.errors import HybridError
from hybrid.serve.answers import error_text
from hybrid.serve.engine import Engine, EngineStream, StreamClosed
from hybrid.serve.protocol import GOING_AWAY, INTERNAL, NORMAL, TOO_BIG, ClientError, StreamConfig, parse_text

QUEUE = 2  # messages
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What a client may ask for. connections: at once, of all clients; seconds: of speech; message: bytes; idle:
    seconds without a message, or in which it takes none of ours."""

    connections: int = 100
    seconds: float = 14400.0
    message: int = 2**20
    idle: float = 60.0


class Session:
    """Serves one connection. stopping: is done when the server ends."""

    def __init__(
        self, connection: ServerConnection, engine: Engine, limits: Limits, stopping: asyncio.Future[Any]
    ) -> None:
        self._connection, self._engine, self._limits, self._stopping = connection, engine, limits, stopping
        self._config = StreamConfig(engine.recogniser.sampling_rate)
        self._stream: Optional[EngineStream] = None
        self._samples = 0
        self._half = b""  # the first byte of a sample whose second has not come

    async def run(self) -> None:
        """Serve the client to its end, and free what was its own, however it ends."""
        gone = asyncio.ensure_future(self._connection.wait_closed())
        gone.add_done_callback(lambda _: self._close_stream())
        try:
            await self._serve()
        except ConnectionClosed:
            pass
        except ClientError as error:
            await self._refuse(error)
        except StreamClosed:
            await self._refuse(ClientError("the server has stopped", code=GOING_AWAY))
        except HybridError as error:  # without the file that it may name: that is the server's own
            await self._refuse(ClientError(error.what, remedy=error.remedy))
        except Exception:
            log.exception("a defect; the connection is closed")
            await self._refuse(ClientError("a defect of the server, which its log tells", code=INTERNAL))
        finally:
            self._close_stream()

    async def refuse(self, what: str, code: int) -> None:
        """Tell the client that it is not served, and close the connection."""
        await self._refuse(ClientError(what, code=code))

    async def _serve(self) -> None:
        while True:
            message = await self._next()
            if message is None:
                await self._finish()
                await self._connection.close(GOING_AWAY, "the server ends")
                return
            if isinstance(message, bytes):
                await self._hear(message)
                continue
            config = parse_text(message, self._config, self._engine.recogniser.sampling_rate)
            if config is None:
                await self._finish()
                await self._connection.close(NORMAL)
                return
            if self._stream is not None:
                raise ClientError("config after the first samples", remedy="send it before them, or connect again")
            self._config = config

    async def _next(self) -> Optional[Union[str, bytes]]:
        """The next message; None where the server ends."""
        receiving = asyncio.ensure_future(self._connection.recv())
        awaited: Set[asyncio.Future[Any]] = {receiving, self._stopping}
        try:
            await asyncio.wait(awaited, timeout=self._limits.idle, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                return receiving.result()
        finally:
            receiving.cancel()
        if self._stopping.done():
            return None
        await self._finish()
        raise ClientError(f"no message for {self._limits.idle:g} s", remedy="send samples as they come, or end")

    async def _hear(self, message: bytes) -> None:
        if len(message) > self._limits.message:
            what = f"a message of {len(message)} bytes; {self._limits.message} are the most"
            raise ClientError(what, remedy="send shorter ones", code=TOO_BIG)
        data = self._half + message
        self._half = data[len(data) // 2 * 2 :]
        samples = np.frombuffer(data, "<i2", len(data) // 2)
        self._samples += len(samples)
        if self._samples > self._limits.seconds * self._config.rate:
            await self._finish()
            raise ClientError(f"more than {self._limits.seconds:g} s of speech", remedy="connect again for the rest")
        await self._send(await self._answer(samples, False))

    async def _finish(self) -> None:
        await self._send(await self._answer(np.zeros(0, np.int16), True))

    async def _answer(self, samples: np.ndarray, last: bool) -> List[str]:
        if self._stream is None:
            loop = asyncio.get_running_loop()
            self._stream = await loop.run_in_executor(None, self._engine.open, self._config)
        return await asyncio.wrap_future(self._engine.feed(self._stream, samples, last))

    async def _send(self, messages: List[str]) -> None:
        for message in messages:
            try:
                await asyncio.wait_for(self._connection.send(message), self._limits.idle)
            except (TimeoutError, asyncio.TimeoutError):
                self._connection.transport.abort()
                raise ClientError(f"no answer was taken for {self._limits.idle:g} s") from None

    async def _refuse(self, error: ClientError) -> None:
        with contextlib.suppress(ConnectionClosed, ClientError):
            await self._send([error_text(error.what, error.remedy)])
            reason = error.what.encode()[:120].decode(errors="ignore")
            await self._connection.close(error.code, reason)

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._engine.close(self._stream)
