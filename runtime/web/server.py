"""The receiver's HTTP server: the live page, pictures as JPEG and MJPEG, figures as JSON, Prometheus metrics.

    GET  /                                  the live page
    GET  /streams.json?since=UNIX_MS        all streams: latest picture, link, counters, samples for the charts
    GET  /SITE/DEVICE/STREAM.jpg            the latest picture; .mjpg: all of them as they come
    GET  /metrics                           for Prometheus
    POST /settings {"stream", "steps", "realism"}     how pictures are drawn from now on
    POST /snapshot {"stream", "size_bytes"}           ask the sender for a promised picture

Whoever reaches it may look and ask: it listens on loopback unless told otherwise, and answers a browser only if the
page it shows is its own.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import math
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from edgesem.errors import EdgesemError, EnvironmentMissing, UsageError
from runtime.protocol.command import Command
from runtime.receiver.stream import Stream
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.web.gallery import Gallery
from runtime.web.overview import overview

log = logging.getLogger(__name__)

_MOST_CLIENTS = 64
_MOST_BODY_BYTES = 4096
_SILENT_S = 20.0
_BOUNDARY = "edgesem-picture"
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Place:
    """Where to listen."""

    host: str = "127.0.0.1"
    port: int = 8480

    @classmethod
    def parse(cls, text: str) -> Place:
        """`PORT` (loopback), `HOST:PORT` or `[V6]:PORT`. UsageError for anything else."""
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") or cls.host
        if not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise UsageError(f"{text!r} is no place to listen: write PORT, or HOST:PORT to be reached from outside")
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host).is_loopback
        return self.host == "localhost"


class Server:
    """Serves a reception while inside the `with`; `url` says where."""

    def __init__(
        self, place: Place, stream_receiver: StreamReceiver, gallery: Gallery, *, metrics: Callable[[], bytes]
    ) -> None:
        handler = type("Handler", (_Handler,), {"site": _Site(stream_receiver, gallery, metrics, place.is_loopback)})
        try:
            self._server = _Bounded((place.host, place.port), handler)
        except OSError as error:
            raise EnvironmentMissing(
                f"cannot listen on {place.host}:{place.port}: {error}: name another port"
            ) from error
        host, port = self._server.server_address[:2]
        self.url = f"http://{f'[{host!s}]' if ':' in str(host) else str(host)}:{port}/"
        self._gallery = gallery
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        if not place.is_loopback:
            log.warning(
                "%s is open to everybody who can reach this machine: pictures, settings and snapshots", self.url
            )

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._gallery.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Bounded(ThreadingHTTPServer):
    """A thread a client, and no more clients than there may be."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._places = threading.BoundedSemaphore(_MOST_CLIENTS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # The one of http.server asks the resolver for our name, which takes seconds where there is no network.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client went away", exc_info=True)


@dataclass(frozen=True)
class _Site:
    """What the handlers serve."""

    stream_receiver: StreamReceiver
    gallery: Gallery
    metrics: Callable[[], bytes]
    loopback: bool


class _Handler(BaseHTTPRequestHandler):
    """One client's requests."""

    site: _Site
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "edgesem", ""
    timeout = _SILENT_S

    def do_GET(self) -> None:
        """Answer a request to look."""
        url = urlsplit(self.path)
        if not self._is_welcome():
            return
        if url.path in _PAGE:
            name, kind = _PAGE[url.path]
            self._answer(200, kind, files("runtime.page").joinpath(name).read_bytes())
        elif url.path == "/streams.json":
            since = parse_qs(url.query).get("since", ["0"])[0]
            at_ms = int(since) if since.isascii() and since.isdigit() and len(since) < 16 else 0
            self._json(200, overview(self.site.stream_receiver, self.site.gallery, at_ms))
        elif url.path == "/metrics":
            self._answer(200, "text/plain; version=0.0.4; charset=utf-8", self.site.metrics())
        else:
            self._picture(url.path)

    def do_POST(self) -> None:
        """Answer a request to change something."""
        size = self.headers.get("Content-Length", "")
        if not (size.isascii() and size.isdigit() and int(size) <= _MOST_BODY_BYTES):
            self.close_connection = True
            return self._json(413, {"error": f"a request has a Content-Length of at most {_MOST_BODY_BYTES} bytes"})
        body = self.rfile.read(int(size))
        if not self._is_welcome():
            return None
        # A form on somebody else's page can send text, but not this type.
        if self.headers.get_content_type() != "application/json":
            return self._json(415, {"error": "a request is application/json"})
        try:
            asked = json.loads(body)
            stream = self.site.stream_receiver.streams.find(asked["stream"])
            if stream is None:
                return self._json(404, {"error": "no such stream"})
            if self.path == "/settings":
                self._json(200, self._set(stream, asked))
            elif self.path == "/snapshot":
                size_bytes = asked.get("size_bytes", 8000)
                if type(size_bytes) is not int or not 256 <= size_bytes <= 65535:
                    raise UsageError("size_bytes must be a whole number from 256 to 65535")
                self.site.stream_receiver.command(stream, Command("snapshot", size_bytes=size_bytes))
                self._json(202, {"asked": "snapshot"})
            else:
                self._json(404, {"error": "nothing here"})
        except EdgesemError as error:
            self._json(400, {"error": str(error)})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._json(400, {"error": "not a request that is known here"})
        return None

    def log_message(self, *_: Any) -> None:
        """Say nothing: a page that looks each second would fill the log."""

    def _set(self, stream: Stream, asked: dict[str, Any]) -> dict[str, Any]:
        steps, realism = asked.get("steps"), asked.get("realism")
        if steps is not None and (type(steps) is not int or not 0 <= steps <= self.site.stream_receiver.max_steps):
            raise UsageError(f"steps must be 0 to {self.site.stream_receiver.max_steps}: more this bundle cannot do")
        if realism is not None and (type(realism) not in (int, float) or not math.isfinite(realism)):
            raise UsageError("realism must be a number from 0 to 1")
        self.site.stream_receiver.streams.draw(stream, steps=steps, realism=realism)
        return {"steps": stream.drawing.steps, "realism": stream.drawing.realism}

    def _is_welcome(self) -> bool:
        """Refuse a browser that shows somebody else's page, also one that has told it that we are its host."""
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        ours = not self.site.loopback or name in ("localhost", "127.0.0.1", "[::1]") or _is_loopback(name)
        if ours and origin in (None, f"http://{host}", f"https://{host}"):
            return True
        self._json(403, {"error": "this page may not ask here"})
        return False

    def _picture(self, path: str) -> None:
        name, _, kind = path.removeprefix("/").rpartition(".")
        stream = "/".join(unquote(part) for part in name.split("/"))
        shown = self.site.gallery.latest(stream)
        if kind not in ("jpg", "mjpg") or shown is None:
            self._json(404, {"error": "nothing here"})
        elif kind == "jpg":
            self._answer(200, "image/jpeg", shown.jpeg)
        else:
            self._follow(stream)

    def _follow(self, stream: str) -> None:
        self.close_connection = True
        self.send_response(200)
        self._send_headers(f"multipart/x-mixed-replace; boundary={_BOUNDARY}")
        number = 0
        while not self.site.gallery.closed:
            shown = self.site.gallery.after(stream, number, _SILENT_S)
            if shown is None:
                # Nothing new; a client that has gone is found out by what is sent to it.
                shown = self.site.gallery.latest(stream)
            if shown is None:
                return
            number = shown.number
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(shown.jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + shown.jpeg + b"\r\n")

    def _json(self, status: int, what: dict[str, Any]) -> None:
        self._answer(status, "application/json", json.dumps(what, allow_nan=False).encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self._send_headers(kind)
        self.wfile.write(body)

    def _send_headers(self, kind: str) -> None:
        self.send_header("Content-Type", kind)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
