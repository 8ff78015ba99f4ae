"""What the server answers to a browser beside websockets: the page, its health, and who may not connect.

Files are read once, when the server starts, and asked for by name: a request can name no other. They need nothing from
any other host, and the browser is told to load nothing from one.
"""

from __future__ import annotations

import json
from importlib import resources
from ipaddress import ip_address
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence
from urllib.parse import urlsplit

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js", "/recorder.js": "recorder.js"}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' ws: wss:; "
    "img-src data:; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Page(NamedTuple):
    """What a path answers: status, headers, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def load_pages() -> Dict[str, Page]:
    """Return the files of the page, by path."""
    folder = resources.files("hybrid.serve") / "page"
    pages = {}
    for path, name in _FILES.items():
        kind = _TYPES[name.rsplit(".", 1)[-1]]
        pages[path] = Page(200, {"Content-Type": f"{kind}; charset=utf-8", **_HEADERS}, (folder / name).read_bytes())
    return pages


def json_page(status: int, content: Mapping[str, Any]) -> Page:
    """Return an answer in JSON."""
    body = (json.dumps(content, ensure_ascii=False) + "\n").encode()
    return Page(status, {"Content-Type": "application/json; charset=utf-8", **_HEADERS}, body)


def refusal(origin: Optional[str], host: Optional[str], origins: Sequence[str], loopback: bool) -> Optional[str]:
    """Return why a websocket must not be opened, or None.

    Browsers tell the origin of the page that asks, other programs do not. A page may connect where it is this server's
    own, or one of `origins`. A server that listens to its machine alone does not believe in other names for itself:
    else any page in the user's browser could use it, by a name that was made to lead here (DNS rebinding).
    """
    if origin is None or origin in origins or "*" in origins:
        return None
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        name = None
    own = host is not None and origin in (f"http://{host}", f"https://{host}")
    if own and (not loopback or is_loopback(name)):
        return None
    return f"pages of {origin[:100]} may not connect; the server's option --origin lets them"


def is_loopback(host: Optional[str]) -> bool:
    """Return whether a host's name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False
