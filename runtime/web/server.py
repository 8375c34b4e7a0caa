"""HTTP server of a receiver: the live page, pictures as JPEG and MJPEG, figures as JSON, Prometheus metrics.

GET  /                                  the live page
GET  /streams.json?since=UNIX_MS        all streams: latest picture, link, counters, samples for the charts
GET  /SITE/DEVICE/STREAM.jpg            the latest picture; .mjpg: all of them as they come
GET  /metrics                           for Prometheus
POST /settings {"stream", "steps", "realism"}     how pictures are synthesized from now on
POST /snapshot {"stream", "size_bytes"}           ask the sender for a promised picture
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from edgesem.errors import EnvironmentMissing
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.settings import ListenAddress
from runtime.web.gallery import Gallery
from runtime.web.request_handler import RequestHandler, Site

log = logging.getLogger(__name__)

_MAX_CLIENTS = 64


class Server:
    """HTTP server of a receiver, which must be entered; it serves while inside the `with`.

    `metrics` gives the text for Prometheus. Raises EnvironmentMissing if the port is taken.
    """

    def __init__(
        self, address: ListenAddress, receiver: StreamReceiver, gallery: Gallery, *, metrics: Callable[[], bytes]
    ) -> None:
        site = Site(receiver, gallery, metrics, address.is_loopback)
        try:
            self._server = _BoundedServer(
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


class _BoundedServer(ThreadingHTTPServer):
    """HTTP server with a thread a client, and a bound on their number."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._slots = threading.BoundedSemaphore(_MAX_CLIENTS)
        super().__init__(address, handler)

    def server_bind(self) -> None:
        # The one of http.server asks the resolver for our name, which takes seconds where there is no network.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client went away", exc_info=True)
