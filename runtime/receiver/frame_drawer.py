"""Frame drawer: has a frame decoded, and hands out its picture."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict

from edgesem.errors import BundleError, EdgesemError
from edgesem.packet.capture_time import full_time_ms
from edgesem.packet.packet import Packet
from edgesem.picture import as_grey
from edgesem.provenance import Provenance
from runtime.process.rate_limit import RateLimitedLog
from runtime.receiver.archive import Archive
from runtime.receiver.bundle_set import BundleSet
from runtime.receiver.decoder_process import DecoderProcess
from runtime.receiver.received_picture import ReceivedPicture
from runtime.receiver.semantic_filter import SemanticFilter
from runtime.receiver.stamp import clock_is_set
from runtime.receiver.stream import Stream
from runtime.receiver.streams import Streams

log = logging.getLogger(__name__)


class FrameDrawer:
    """Draws the frames of all streams: to the archive, through the semantic filter, to a decoder, to `on_picture`.

    Thread-safe. A promised frame counts as drawn unless one of these raises; what they raise is logged.
    """

    def __init__(
        self,
        streams: Streams,
        bundles: BundleSet,
        on_picture: Callable[[ReceivedPicture], None],
        archive: Archive | None,
        semantic_filter: SemanticFilter | None,
    ) -> None:
        self._streams, self._bundles, self._on_picture = streams, bundles, on_picture
        self._archive, self._semantic_filter = archive, semantic_filter
        self._limited_log = RateLimitedLog(log)

    def draw(self, decoder: DecoderProcess, stream: Stream, packet: Packet) -> None:
        """Draw a frame that `Streams.next_frame` has given out, and give it back. Never raises."""
        started_s = time.monotonic()
        decode_s: float | None = None
        drawn = False
        try:
            self._add_to_archive(stream, packet)
            bundle = self._bundles.get(packet.bundle_id)
            if bundle is None:
                raise BundleError(f"was made with bundle {packet.bundle_id:04x}, which this receiver does not have")
            # A clip needs all of an event's, and a detail was asked for.
            wanted = packet.side_info.event is not None or packet.side_info.detail is not None
            passes = wanted or self._semantic_filter is None or self._semantic_filter.passes(packet)
            if passes or bundle.has_reference:  # later frames may refer to one that is not shown
                options = stream.synthesis.for_bundle(bundle, hurried=self._streams.has_ready())
                image, latent = decoder.decode(packet, options, self._streams.references.find(stream, packet))
                if latent is not None:
                    self._streams.references.hold(stream, packet, latent)
                decode_s = time.monotonic() - started_s
                delay_s = age_s(packet)
                stream.history.add(size_bytes=packet.size_bytes, delay_s=delay_s, decode_s=decode_s)
                if passes:
                    if stream.is_grey(packet):
                        image = as_grey(image)
                    self._on_picture(
                        ReceivedPicture(
                            stream=stream.name,
                            topics=stream.topics,
                            packet=packet,
                            image=image,
                            steps=options.steps,
                            decode_s=decode_s,
                            delay_s=delay_s,
                            provenance=Provenance.of(packet, bundle, **asdict(options)),
                        )
                    )
            else:
                decode_s = 0.0
            drawn = True
        except EdgesemError as error:
            self._limited_log.warn("frame %d of %s: %s", packet.frame, stream.name, error)
        except Exception:  # a caller's callback, or a defect of ours: the other streams go on
            self._limited_log.warn("frame %d of %s", packet.frame, stream.name, exc_info=True)
        finally:
            took_s = time.monotonic() - started_s if decode_s is None else decode_s
            self._streams.done(stream, decode_s=took_s, good=decode_s is not None)
        if drawn and packet.promised:
            self._streams.mark_drawn(stream, packet)

    def _add_to_archive(self, stream: Stream, packet: Packet) -> None:
        if self._archive is None or packet.side_info.detail is not None:  # it has pictures, not their parts
            return
        try:
            now_ms = time.time_ns() // 1_000_000
            # A board without a clock begins at 1970: such a frame goes by when it came, or it would be too old at once.
            captured_ms = full_time_ms(packet, now_ms) if clock_is_set(packet, now_ms) else now_ms
            self._archive.add(stream.name, packet, captured_ms / 1000, grey=stream.is_grey(packet))
        except EdgesemError as error:
            self._limited_log.warn("not archived: %s", error)


def age_s(packet: Packet) -> float:
    """Seconds since a packet's capture, as far as sender's and receiver's clocks agree."""
    return time.time() - full_time_ms(packet) / 1000
