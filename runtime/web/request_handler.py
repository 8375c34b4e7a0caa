"""HTTP requests to a receiver: what each path answers, and who may ask.

Whoever reaches the server may look and ask. A browser is answered only if the page that it shows is our own.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from edgesem.errors import EdgesemError, InputError, LinkError, UsageError
from runtime.protocol.command import Command
from runtime.receiver.archive_viewer import ArchiveViewer
from runtime.receiver.event_store import EventStore
from runtime.receiver.stream import Stream
from runtime.receiver.stream_receiver import StreamReceiver
from runtime.receiver.viewing import LOOK_S
from runtime.web import elsewhere, event_list, look_back, mjpeg
from runtime.web.asks import command_of, detail_of, size_of
from runtime.web.elsewhere import Fleet
from runtime.web.gallery import Gallery, LatestPicture
from runtime.web.overview import overview
from runtime.web.page_handler import ANSWER_S, PageHandler, is_number

if TYPE_CHECKING:
    pass

_DRAWN_S = 60.0
"""An archived picture must be drawn, and its client have taken it, within this time."""
_MAX_SINCE_MS = 2**53
_MOST_VIEWED = 256
_JPEG_LOOK_S = 15.0
"""Who fetches a picture counts as somebody who looks for so long: others' programs fetch one each 10 s or so."""
_NEAR_MS = 60_000
"""The newest picture of a stream that is not heard here may be a keyframe that is so much older."""
_NOT_ELSEWHERE = {"promised", "detail", "max_age"}
"""What cannot be asked of a stream that is not heard here."""
_SHOWN = 5
_SCRIPTS = (
    *("chart.js", "details.js", "events.js", "format.js", "limits.js", "mask.js", "page.js", "part.js", "past.js"),
    *("picture.js", "sketch.js", "tile.js"),
)
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    **{f"/{name}": (name, "text/javascript; charset=utf-8") for name in _SCRIPTS},
}


@dataclass(frozen=True)
class Site:
    """What the handlers serve: a receiver, its latest pictures and its metrics."""

    receiver: StreamReceiver
    gallery: Gallery
    metrics: Callable[[], bytes]
    loopback: bool
    """Whether only this machine can reach the server: then a request must name it so."""
    allowed_hosts: frozenset[str] = frozenset()
    """The names of a reverse proxy, in small letters, by which a request may name it too."""
    viewer: ArchiveViewer | None = None
    """Draws archived pictures; None without an archive."""
    events: EventStore | None = None
    """The events that were gathered; None where nothing is kept."""
    fleet: Fleet | None = None
    """What other receivers have taken; None without a catalogue."""

    def look(self, stream: str, for_s: float = LOOK_S) -> None:
        """Somebody looks at a stream's pictures: they are drawn, and its sender is told if it sends them on demand."""
        if self.receiver.streams.find(stream) is not None:
            self.receiver.viewing.look(stream, for_s)
            self.receiver.draw_newest(stream)

    def drawn(self, stream: str, latest: LatestPicture | None) -> LatestPicture | None:
        """The latest picture of a stream once it is drawn; None if it is not drawn in time."""
        if latest is None or latest.jpeg:
            return latest
        return self.gallery.drawn(stream, lambda: self.receiver.draw_newest(stream), mjpeg.DRAW_S)


class RequestHandler(PageHandler):
    """Handler of one client's requests, on a thread of its own; the server makes a subclass with a `site`."""

    site: Site

    def get(self) -> None:
        """Answer a GET request."""
        url = urlsplit(self.path)
        if url.path in _PAGE:
            name, kind = _PAGE[url.path]
            self.answer(200, kind, files("runtime.page").joinpath(name).read_bytes())
        elif url.path == "/streams.json":
            asked = parse_qs(url.query, keep_blank_values=True)
            since, samples_of = asked.get("since", ["0"])[0], asked.get("samples", [None])[0]
            if not is_number(since, _MAX_SINCE_MS):
                self.answer_json(400, {"error": "since must be a time in Unix milliseconds"})
                return
            for name in asked.get("view", [])[:_MOST_VIEWED]:
                self.site.look(name)
            told = overview(self.site.receiver, self.site.gallery, int(since), samples_of)
            told["streams"] += elsewhere.streams(self.site.fleet, self.site.receiver)
            self.answer_json(200, told | {"archive": self.site.viewer is not None})
        elif url.path == "/archive.json":
            self._try(lambda: self.answer_json(200, look_back.times(self.site.viewer, parse_qs(url.query))))
        elif url.path == "/events":
            self._try(lambda: self.answer_json(200, self._events(parse_qs(url.query))))
        elif event_list.is_file(url.path):
            self._try(lambda: self._event_file(url.path))
        elif url.path == "/metrics":
            self.answer(200, "text/plain; version=0.0.4; charset=utf-8", self.site.metrics())
        else:
            self._picture(url.path, parse_qs(url.query, keep_blank_values=True))

    def post(self, asked: Any) -> None:
        """Answer a POST request."""
        try:
            stream = self.site.receiver.streams.find(asked["stream"])
            if stream is None:
                self.answer_json(404, {"error": self._unknown(str(asked["stream"])[:200])})
            elif self.path == "/settings":
                self.answer_json(200, self._set(stream, asked))
            elif self.path == "/snapshot":
                self.site.receiver.command(stream, Command("snapshot", size_bytes=size_of(asked)))
                self.answer_json(202, {"asked": "snapshot"})
            elif self.path == "/detail":
                command = detail_of(asked)
                if stream.state is not None and stream.state.detail is None:
                    why = f"{stream.name} keeps no pictures in full resolution: start its sender with --detail"
                    self.answer_json(409, {"error": why})
                else:
                    self.site.receiver.command(stream, command)
                    self.answer_json(202, {"asked": "detail", "request": command.id & 0xFFFFFFFF})
            elif self.path == "/ask":
                command = command_of(asked)
                self.site.receiver.command(stream, command)
                self.answer_json(202, {"asked": command.kind})
            else:
                self.answer_json(404, {"error": "nothing here"})
        except LinkError as error:
            self.answer_json(503, {"error": str(error)})
        except EdgesemError as error:
            self.answer_json(400, {"error": str(error)})

    def _unknown(self, name: str) -> str:
        """That a stream is not known, and those of similar names that are."""
        known = [stream.name for stream in self.site.receiver.streams.all()]
        near = difflib.get_close_matches(name, known, _SHOWN, 0.0)
        return f"no stream {name} is heard here; " + (f"heard are {', '.join(near)}" if near else "none is")

    def _set(self, stream: Stream, asked: dict[str, Any]) -> dict[str, Any]:
        steps, realism = asked.get("steps"), asked.get("realism")
        if steps is not None and (type(steps) is not int or not 0 <= steps <= self.site.receiver.max_steps):
            raise UsageError(f"steps must be 0 to {self.site.receiver.max_steps}: more this bundle cannot do")
        if realism is not None and (type(realism) not in (int, float) or not math.isfinite(realism)):
            raise UsageError("realism must be a number from 0 to 1")
        self.site.receiver.streams.set_synthesis(stream, steps=steps, realism=realism)
        return {"steps": stream.synthesis.steps, "realism": stream.synthesis.realism}

    def _picture(self, path: str, asked: dict[str, list[str]]) -> None:
        name, _, kind = path.removeprefix("/").rpartition(".")
        stream = "/".join(unquote(part) for part in name.split("/"))
        gallery = self.site.gallery
        kinds = {"promised": gallery.latest_promised, "detail": gallery.latest_detail}
        latest = next((kinds[one] for one in kinds if one in asked), gallery.latest)(stream)
        if kind == "jpg" and "at" in asked:
            return self._try(lambda: self._archived(stream, asked))
        try:
            options = mjpeg.VideoOptions.from_query(asked)
        except UsageError as error:
            return self.answer_json(400, {"error": str(error)})
        if kind not in ("jpg", "mjpg"):
            self.answer_json(404, {"error": "nothing here"})
        elif latest is None and kind == "jpg" and not asked.keys() & _NOT_ELSEWHERE and self._is_elsewhere(stream):
            newest = {"at": [str(time.time_ns() // 1_000_000)], "near": [str(_NEAR_MS)]}
            self._try(lambda: self._archived(stream, newest))
        elif latest is None:
            known = self.site.receiver.streams.find(stream) is not None
            self.answer_json(
                404, {"error": f"no picture of {stream} is here yet" if known else self._unknown(stream[:200])}
            )
        elif not options.shows(latest):
            self.answer_json(503, {"error": f"the newest picture of {stream} is {latest.age_s:.0f} s old"})
        elif kind == "jpg":
            if not asked:  # the page, which names a picture in its query, says apart what it shows
                self.site.look(stream, _JPEG_LOOK_S)
            drawn = self.site.drawn(stream, latest)
            if drawn is None:
                self.answer_json(503, {"error": f"the newest picture of {stream} is not drawn yet: ask again"})
            else:
                self.answer(200, "image/jpeg", drawn.jpeg, captured_s=time.time() - drawn.age_s)
        elif not gallery.followers.acquire(blocking=False):
            self.answer_json(503, {"error": "too many videos are followed already"})
        else:
            try:
                self._follow(stream, options)
            finally:
                gallery.followers.release()
        return None

    def _archived(self, stream: str, asked: look_back.Asked) -> None:
        self.set_deadline(_DRAWN_S)
        drawn = look_back.picture(self.site.viewer, self.site.receiver, stream, asked)
        captured_s = drawn.entry.captured_s
        self.answer(200, "image/jpeg", drawn.jpeg, captured_s=captured_s)

    def _is_elsewhere(self, stream: str) -> bool:
        with contextlib.suppress(EdgesemError):  # no name of a stream
            return self.site.fleet is not None and elsewhere.is_elsewhere(stream, self.site.receiver)
        return False

    def _events(self, asked: dict[str, list[str]]) -> dict[str, Any]:
        site = self.site

        def others(stream: str | None, before_s: float, most: int) -> list[dict[str, Any]]:
            return elsewhere.events(site.fleet, site.receiver, stream, before_s, most)

        return event_list.listing(site.events, asked, others)

    def _event_file(self, path: str) -> None:
        body, kind = event_list.file(self.site.events, path)
        part = event_list.byte_range(self.headers.get("Range"), len(body))
        self.set_deadline(_DRAWN_S)
        headers = {"Accept-Ranges": "bytes"}
        if part is not None:
            headers["Content-Range"] = f"bytes {part[0]}-{part[1]}/{len(body)}"
            body = body[part[0] : part[1] + 1]
        self.answer(200 if part is None else 206, kind, body, headers=headers)

    def _follow(self, stream: str, options: mjpeg.VideoOptions) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")  # it has no length; http.server then closes
        self.send_standard_headers(mjpeg.CONTENT_TYPE)
        if self.command == "HEAD":
            return
        mjpeg.bound_unread(self.connection)
        with self.site.receiver.viewing.hold(stream):
            for part in mjpeg.parts(self.site.gallery, stream, options, lambda: self.site.receiver.draw_newest(stream)):
                self.set_deadline(ANSWER_S)  # of a client that does not read, too
                self.wfile.write(part)
                self.set_deadline(ANSWER_S)  # the next one may be `LONGEST_REPEAT_S` away

    def _try(self, answer: Callable[[], None]) -> None:
        """Answer, or say what is wrong: 404 for what is not there, 503 for what may come later, 400 for the rest."""
        try:
            answer()
        except InputError as error:
            self.answer_json(404, {"error": str(error)})
        except LinkError as error:
            self.answer_json(503, {"error": str(error)})
        except EdgesemError as error:
            self.answer_json(400, {"error": str(error)})
