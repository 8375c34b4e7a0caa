"""Handler of HTTP requests that all our pages share: bounds on time and size, who may ask, and how it is answered.

A browser is answered only if the page that it shows is our own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import urlsplit

from runtime.settings import ListenAddress

if TYPE_CHECKING:
    from runtime.web.server import BoundedServer

MAX_BODY_BYTES = 4096
_SILENT_S = 20.0
_REQUEST_S = 20.0
"""A request must have come whole so long after the one before it was answered."""
ANSWER_S = 20.0
"""A client must have taken an answer, or one picture of a video, within this time."""
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Place(Protocol):
    """Where a server stands."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the server: then a request must name it so."""

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """The names of a reverse proxy, in small letters, by which a request may name it too."""


class PageHandler(BaseHTTPRequestHandler):
    """Handler of one client's requests, on a thread of its own; the server makes a subclass with a `site`."""

    site: Place
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "edgesem", ""
    timeout = _SILENT_S

    def handle_one_request(self) -> None:
        """Read a request and answer it, in bounded time."""
        self.set_deadline(_REQUEST_S)
        super().handle_one_request()

    def do_GET(self) -> None:
        """Answer a GET request by `get`, unless it may not be."""
        if self.drain() and self.is_allowed():
            self.get()

    def do_HEAD(self) -> None:
        """Answer a HEAD request: what GET answers, without its body."""
        self.do_GET()

    def do_POST(self) -> None:
        """Answer a POST request by `post`, unless it may not be."""
        size = self.headers.get("Content-Length", "")
        if not is_number(size, MAX_BODY_BYTES) or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self.answer_json(413, {"error": f"a request has a Content-Length of at most {MAX_BODY_BYTES} bytes"})
            return
        body = self.rfile.read(int(size))
        self.set_deadline(ANSWER_S)
        if not self.is_allowed():
            return
        # A form on somebody else's page can send text, but not this type.
        if self.headers.get_content_type() != "application/json":
            self.answer_json(415, {"error": "a request is application/json"})
            return
        try:
            self.post(json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            self.answer_json(400, {"error": "not a request that is known here"})

    def get(self) -> None:
        """Answer a GET request for `self.path`."""
        self.answer_json(404, {"error": "nothing here"})

    def post(self, asked: Any) -> None:
        """Answer a POST request for `self.path`, whose body was `asked` as JSON; ValueError and such for nonsense."""
        self.answer_json(404, {"error": "nothing here"})

    def log_message(self, *_: Any) -> None:
        """Log nothing: a page that asks each second would fill the log."""

    def drain(self) -> bool:
        """Read the body that a GET request has for no reason: left where it is, it would be the next request."""
        size = self.headers.get("Content-Length", "0")
        if not is_number(size, MAX_BODY_BYTES) or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self.answer_json(400, {"error": "a GET request has no body"})
            return False
        self.rfile.read(int(size))
        self.set_deadline(ANSWER_S)
        return True

    def is_allowed(self) -> bool:
        """Refuse a browser that shows another site's page, also one whose host name was made to lead here."""
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        allowed = self.site.allowed_hosts
        ours = not self.site.loopback or name.lower() in allowed or ListenAddress(name.strip("[]")).is_loopback
        # A browser says whose page it is that loads this; a link that the user has followed shows it to nobody else.
        site, mode = self.headers.get("Sec-Fetch-Site"), self.headers.get("Sec-Fetch-Mode")
        followed = mode == "navigate" and self.headers.get("Sec-Fetch-Dest") == "document" and self.command != "POST"
        foreign = site not in (None, "same-origin", "none") and not followed
        # A proxy may pass on its own name, or ours: the page's is then the proxy's.
        if (
            ours
            and not foreign
            and (origin in (None, f"http://{host}", f"https://{host}") or _host_of(origin) in allowed)
        ):
            return True
        self.answer_json(403, {"error": "this page may not ask here"})
        return False

    def set_deadline(self, seconds: float) -> None:
        """End the connection unless this is called again within so many seconds."""
        cast("BoundedServer", self.server).set_deadline(self.connection, seconds)

    def answer_json(self, status: int, what: Mapping[str, Any]) -> None:
        """Answer with JSON."""
        self.answer(status, "application/json", json.dumps(what, allow_nan=False).encode())

    def answer(
        self,
        status: int,
        kind: str,
        body: bytes,
        *,
        captured_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer with a body of type `kind`, to HEAD without it; `captured_s` is when a picture was taken (Unix)."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if captured_s is not None:
            self.send_header("Last-Modified", formatdate(captured_s, usegmt=True))
            self.send_header("X-Timestamp", f"{captured_s:.3f}")
        self.send_header("Content-Length", str(len(body)))
        self.send_standard_headers(kind)
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_standard_headers(self, kind: str) -> None:
        """End the headers with those that all answers have."""
        self.send_header("Content-Type", kind)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()


def _host_of(origin: str) -> str | None:
    """The host's name in an origin, None if there is none."""
    try:
        return urlsplit(origin).hostname
    except ValueError:
        return None


def is_number(text: str, most: int) -> bool:
    """Whether `text` is a whole number from 0 to `most`, in digits."""
    return text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= most
