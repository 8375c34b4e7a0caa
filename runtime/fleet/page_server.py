"""Server of the fleet page: every camera of a broker, those first that need attention.

GET /             the page: runtime/page/fleet.html
GET /fleet.json   all cameras, as `edgesem fleet status --json` has them
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from urllib.parse import urlsplit

from edgesem.errors import EnvironmentMissing
from runtime.fleet.status import FleetView
from runtime.mqtt.address import Address
from runtime.mqtt.connection import Connection
from runtime.process.service import running_service
from runtime.settings import ListenAddress
from runtime.web.page_handler import PageHandler
from runtime.web.server import BoundedServer

_HTML, _CSS, _SCRIPT = ("text/html; charset=utf-8", "text/css; charset=utf-8", "text/javascript; charset=utf-8")
_PAGE = {
    "/": ("fleet.html", _HTML),
    "/page.css": ("page.css", _CSS),
    "/fleet.css": ("fleet.css", _CSS),
    "/fleet.js": ("fleet.js", _SCRIPT),
    "/format.js": ("format.js", _SCRIPT),
}
_LOOK_S = 1.0


@dataclass(frozen=True)
class FleetSite:
    """What the handlers serve."""

    view: FleetView
    trouble: Callable[[], str]
    """Why there is no connection to the broker; empty while there is one."""
    loopback: bool
    allowed_hosts: frozenset[str]


class FleetHandler(PageHandler):
    """Handler of one client's requests, on a thread of its own; the server makes a subclass with a `site`."""

    site: FleetSite

    def get(self) -> None:
        """Answer a GET request."""
        path = urlsplit(self.path).path
        if path in _PAGE:
            name, kind = _PAGE[path]
            self.answer(200, kind, files("runtime.page").joinpath(name).read_bytes())
        elif path == "/fleet.json":
            cameras = [asdict(one) for one in self.site.view.cameras()]
            self.answer_json(200, {"trouble": self.site.trouble(), "cameras": cameras})
        else:
            super().get()


def serve(
    addresses: Sequence[Address],
    view: FleetView,
    where: str,
    allowed_hosts: frozenset[str],
    tell: Callable[[str], None],
) -> None:
    """Listen to the fleet and serve its page at `where`, [HOST:]PORT, until a signal comes; `tell` gets its URL.

    A lost broker is tried again. EnvironmentMissing if the port is taken, UsageError for no address.
    """
    address = ListenAddress.parse(where)
    link = Connection(
        addresses, name="fleet", subscribe=view.listener.topics, on_message=view.listener.take, retry=True
    )
    names = frozenset(name.lower() for name in allowed_hosts)
    site = FleetSite(view, lambda: link.trouble, address.is_loopback, names)
    try:
        server = BoundedServer((address.host, address.port), type("Handler", (FleetHandler,), {"site": site}))
    except OSError as error:
        raise EnvironmentMissing(f"cannot listen on {where}: {error}: name another port") from error
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    with running_service() as service, link:
        thread.start()
        host, port = server.server_address[:2]
        tell(f"http://{f'[{host!s}]' if ':' in str(host) else str(host)}:{port}/")
        service.ready()
        while not service.stop.wait(_LOOK_S):
            if thread.is_alive() and link.alive:
                service.alive()
        server.shutdown()
        server.server_close()
        thread.join()
