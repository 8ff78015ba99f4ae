"""`hybrid serve`."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys

from hybrid.decode.load import load
from hybrid.errors import MissingDependency
from hybrid.measure import versions
from hybrid.parallel import set_threads, share_one_heap
from hybrid.serve.engine import Engine
from hybrid.serve.web import is_loopback


def serve_model(options: argparse.Namespace) -> int:
    """Serve a model until SIGTERM or Ctrl-C; return the exit code."""
    if importlib.util.find_spec("websockets") is None:
        raise MissingDependency("websockets is not installed", remedy="pip install 'hybrid-asr[serve]'")
    from hybrid.serve.server import Server
    from hybrid.serve.session import Limits

    share_one_heap()
    set_threads(1)  # a thread of the engine computes alone
    recogniser = load(options.model, options.system, condition=options.condition, device=options.device)
    engine = Engine(recogniser, options.threads, options.slots, options.gather_ms / 1000)
    try:
        engine.warm_up()
        limits = Limits(options.max_connections, options.max_seconds, 1024 * options.max_message, options.idle)
        version = versions().get("hybrid-asr") or ""
        server = Server(engine, limits, origins=options.origins, version=version)
        if not is_loopback(options.host):
            print(
                f"hybrid: at {options.host} others than this machine can connect, without a login and unencrypted",
                file=sys.stderr,
            )

        def ready(address: str) -> None:
            print(f"serving {recogniser.system} ({recogniser.sampling_rate} Hz) at {address}", flush=True)

        asyncio.run(server.run(options.host, options.port, ready, signals=True))
    finally:
        engine.stop()
    return 0
