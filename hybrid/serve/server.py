"""The server: one port for the page, its health and the websockets of all clients.

The library is `websockets`: it needs no other package, serves what a browser asks for before a websocket is open, holds
a client's messages in its socket while they are not read, and is what Vosk's server and clients use. (aiohttp could
take uploads by HTTP, too; a file that the page decodes goes through the websocket.)

No pings: a client whose messages wait in its socket cannot be heard answering them, and would be taken for dead when
it is only fast. Who has gone without a word is known by `Limits.idle`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from http import HTTPStatus
from typing import Callable, Optional, Sequence, Set

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from hybrid.errors import ConfigError
from hybrid.serve.engine import Engine
from hybrid.serve.protocol import TRY_LATER
from hybrid.serve.session import QUEUE, Limits, Session
from hybrid.serve.web import Page, is_loopback, json_page, load_pages, refusal

GRACE = 10.0  # seconds in which streams end, once the server is to end


class Server:
    """Serves an engine. version, origins: see web.py."""

    def __init__(
        self, engine: Engine, limits: Optional[Limits] = None, *, origins: Sequence[str] = (), version: str = ""
    ) -> None:
        self.engine, self.limits, self._origins, self._version = engine, limits or Limits(), origins, version
        self.sessions: Set[Session] = set()
        self._pages = load_pages()
        self._loopback = True
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._ending: Optional[asyncio.Event] = None

    def stop(self) -> None:
        """End, from any thread: every stream gets its final result first."""
        if self._loop is not None and self._ending is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._ending.set)

    async def run(self, host: str, port: int, ready: Callable[[str], None], *, signals: bool = False) -> None:
        """Serve until `stop`, or with `signals` until SIGTERM or Ctrl-C. ready: is told the address.

        Raises ConfigError for an address that cannot be listened at.
        """
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        self._loopback = is_loopback(host)
        self._stopping = asyncio.ensure_future(self._ending.wait())
        try:
            server = await serve(
                self._handle, host, port, process_request=self._request, compression=None, ping_interval=None,
                close_timeout=5, max_size=4 * self.limits.message, max_queue=QUEUE, server_header=None,
            )  # fmt: skip
        except OSError as error:
            self._stopping.cancel()
            what = f"cannot listen at {host}, port {port}: {error.strerror or error}"
            raise ConfigError(what, remedy="give another --host or --port") from None
        if signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._ending.set)
        try:
            bound = next(iter(server.sockets)).getsockname()[1]
            ready(f"http://{f'[{host}]' if ':' in host else host}:{bound}/")
            await self._ending.wait()
        finally:
            if signals:  # a second one ends at once
                for number in (signal.SIGTERM, signal.SIGINT):
                    self._loop.remove_signal_handler(number)
            server.close(close_connections=False)
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(server.wait_closed(), GRACE)
            for connection in server.connections:
                connection.transport.abort()

    async def _handle(self, connection: ServerConnection) -> None:
        session = Session(connection, self.engine, self.limits, self._stopping)
        if len(self.sessions) >= self.limits.connections:
            await session.refuse(f"{self.limits.connections} clients are connected: try again later", TRY_LATER)
            return
        self.sessions.add(session)
        try:
            await session.run()
        finally:
            self.sessions.discard(session)

    def _request(self, connection: ServerConnection, request: Request) -> Optional[Response]:
        """What is answered in place of a websocket; None opens one."""
        path = request.path.split("?", 1)[0]
        if _one(request.headers, "Upgrade").lower() == "websocket":
            origin = request.headers.get("Origin")
            why = refusal(origin, request.headers.get("Host"), self._origins, self._loopback)
            return None if why is None else _response(json_page(403, {"error": why}))
        if path == "/healthz":
            return _response(json_page(200, self._health()))
        unknown = json_page(404, {"error": "there is / and /healthz, and / as a websocket"})
        return _response(self._pages.get(path, unknown))

    def _health(self) -> dict[str, object]:
        recogniser = self.engine.recogniser
        return {
            "status": "ok", "version": self._version, "streams": self.engine.streams, "clients": len(self.sessions),
            "system": recogniser.system, "sampling_rate": recogniser.sampling_rate,
        }  # fmt: skip


def _one(headers: Headers, name: str) -> str:
    values = headers.get_all(name)
    return values[0] if values else ""


def _response(page: Page) -> Response:
    headers = Headers({**page.headers, "Content-Length": str(len(page.body)), "Connection": "close"})
    return Response(page.status, HTTPStatus(page.status).phrase, headers, page.body)
