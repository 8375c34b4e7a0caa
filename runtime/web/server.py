"""HTTP server of a receiver: the live page, pictures as JPEG and MJPEG, figures as JSON, Prometheus metrics.

GET  /                                  the live page
GET  /streams.json?since=UNIX_MS        all streams: latest picture, link, counters, samples for the charts; with
                                        &samples=SITE/DEVICE/STREAM those of one stream only
GET  /SITE/DEVICE/STREAM.jpg            the latest picture, with ?promised the latest promised one
GET  /SITE/DEVICE/STREAM.mjpg           all of them, as MJPEG for players: runtime/web/mjpeg.py
GET  /archive.json?stream&since&until&count     when archived frames of a stream were captured: runtime/web/look_back.py
GET  /SITE/DEVICE/STREAM.jpg?at=UNIX_MS the archived picture of that time
GET  /events?stream&before&limit        the events, newest first: runtime/web/event_list.py
GET  /events/SITE/DEVICE/STREAM/ID.jpg  their pictures; -sheet.jpg: contact sheets; .mp4 or .webp: clips
GET  /metrics                           for Prometheus
POST /settings {"stream", "steps", "realism"}     how pictures are synthesized from now on
POST /snapshot {"stream", "size_bytes"}           ask the sender for a promised picture
POST /detail {"stream", "roi", "size_bytes"}      ask it for a part of the picture in full resolution
POST /ask {"stream", "kind", ...}                 ask it for something else: runtime/web/asks.py
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from edgesem.errors import EnvironmentMissing
from runtime.receiver.archive_viewer import ArchiveViewer
from runtime.receiver.event_store import EventStore
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.settings import ListenAddress
from runtime.web.elsewhere import Fleet
from runtime.web.gallery import Gallery
from runtime.web.request_handler import RequestHandler, Site

log = logging.getLogger(__name__)

_MAX_CLIENTS = 64
_MAX_CLIENTS_OF_ADDRESS = 16
_MAX_CLIENTS_OF_LOOPBACK = 48
"""Behind a reverse proxy, all clients come from this machine."""
_LOOK_S = 0.5


class Server:
    """HTTP server of a receiver, which must be entered; it serves while inside the `with`.

    `metrics` gives the text for Prometheus. `allowed_hosts` are the names of a reverse proxy before it. `viewer`
    draws archived pictures, `events` has those that were gathered, `fleet` what other receivers have taken. Raises
    EnvironmentMissing if the port is taken.
    """

    def __init__(
        self,
        address: ListenAddress,
        receiver: StreamReceiver,
        gallery: Gallery,
        *,
        metrics: Callable[[], bytes],
        allowed_hosts: Collection[str] = (),
        viewer: ArchiveViewer | None = None,
        events: EventStore | None = None,
        fleet: Fleet | None = None,
    ) -> None:
        names = frozenset(name.lower() for name in allowed_hosts)
        site = Site(receiver, gallery, metrics, address.is_loopback, names, viewer, events, fleet)
        try:
            self._server = BoundedServer(
                (address.host, address.port), type("Handler", (RequestHandler,), {"site": site})
            )
        except OSError as error:
            raise EnvironmentMissing(
                f"cannot listen on {address.host}:{address.port}: {error}: name another port"
            ) from error
        host, port = self._server.server_address[:2]
        self.url = f"http://{f'[{host!s}]' if ':' in str(host) else str(host)}:{port}/"
        """Address of the live page."""
        self._gallery = gallery
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        if not address.is_loopback:
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

    @property
    def alive(self) -> bool:
        """Whether it still serves; a defect that ended its thread is in the log."""
        return self._thread.is_alive()


class BoundedServer(ThreadingHTTPServer):
    """HTTP server with a thread a client, and bounds on their number, that of one address, and each one's time."""

    daemon_threads = True
    request_queue_size = 128  # with the five of http.server, Linux drops the requests of a page's pictures for a second
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._lock = threading.Lock()
        self._clients: Counter[str] = Counter()
        self._deadlines_s: dict[socket.socket, float] = {}
        self._looked_s = 0.0
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # The one of http.server asks the resolver for our name, which takes seconds where there is no network.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def set_deadline(self, connection: socket.socket, seconds: float) -> None:
        """End a connection unless its deadline is set anew within so many seconds: a socket's own timeout is for each
        byte, and who sends one now and then would never meet it."""
        with self._lock:
            self._deadlines_s[connection] = time.monotonic() + seconds

    def service_actions(self) -> None:
        """Cut the connections that are over their time; called by `serve_forever` again and again."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        with self._lock:
            late = [connection for connection, deadline_s in self._deadlines_s.items() if deadline_s < now_s]
        for connection in late:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        host = str(client_address[0])
        with self._lock:
            full = self._clients.total() >= _MAX_CLIENTS or self._clients[host] >= _share_of(host)
            if not full:
                self._clients[host] += 1
        if full:
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        host = str(client_address[0])
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._deadlines_s.pop(request, None)
                self._clients[host] -= 1
                if not self._clients[host]:
                    del self._clients[host]

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client went away", exc_info=True)


def _share_of(host: str) -> int:
    """The most clients of one address."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            return _MAX_CLIENTS_OF_LOOPBACK
    return _MAX_CLIENTS_OF_ADDRESS
