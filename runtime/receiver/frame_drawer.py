"""Frame drawer: has a frame decoded, and hands out its picture."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgesem.bundle.bundle import LARGE_DECODER
from edgesem.errors import BundleError, EdgesemError
from edgesem.packet.capture_time import full_time_ms
from edgesem.packet.packet import Packet
from edgesem.picture import as_grey
from edgesem.provenance import Provenance
from runtime.process.rate_limit import RateLimitedLog
from runtime.receiver.bundle_set import BundleSet
from runtime.receiver.decoder_process import DecoderProcess
from runtime.receiver.received_picture import ReceivedPicture
from runtime.receiver.semantic_filter import SemanticFilter
from runtime.receiver.skipped_picture import SkippedPicture
from runtime.receiver.stamp import clock_is_set
from runtime.receiver.stream import Stream
from runtime.receiver.streams import Streams

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgesem.bundle.bundle import Bundle
    from runtime.receiver.archive import Archive
    from runtime.receiver.synthesis import SynthesisOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OnDemand:
    """Drawing on demand: the decoders only follow a stream whose pictures nobody needs. Both are for any thread."""

    needs_image: Callable[[str, Packet], bool]
    """Whether somebody needs the picture of this stream's packet now."""
    show: Callable[[ReceivedPicture], None]
    """Takes the picture of a frame that was handed out without one, which was asked for since."""


class FrameDrawer:
    """Draws the frames of all streams: to the archive, through the semantic filter, to a decoder, to `on_picture`.

    With `on_demand`, `on_picture` gets an empty image of a frame whose picture is not needed. Thread-safe. A promised
    frame counts as drawn unless one of these raises; what they raise is logged.
    """

    def __init__(
        self,
        streams: Streams,
        bundles: BundleSet,
        on_picture: Callable[[ReceivedPicture], None],
        archive: Archive | None,
        semantic_filter: SemanticFilter | None,
        on_demand: OnDemand | None = None,
    ) -> None:
        self._streams, self._bundles, self._on_picture = streams, bundles, on_picture
        self._on_demand = on_demand
        self._archive, self._semantic_filter = archive, semantic_filter
        self._limited_log = RateLimitedLog(log)

    def draw(self, decoder: DecoderProcess, stream: Stream, frame: Packet | SkippedPicture) -> None:
        """Draw what `Streams.next_frame` has given out, and give it back. Never raises."""
        if isinstance(frame, SkippedPicture):
            self._draw_skipped(decoder, stream, frame)
            return
        packet = frame
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
                options = self._options(stream, bundle)
                reference = self._streams.references.find(stream, packet)
                needed = passes and self._needs_image(stream, packet)
                image, latent = decoder.decode(packet, options, reference, draw=needed)
                if passes and not packet.promised:
                    self._streams.skipped.note(stream, None if needed else SkippedPicture(packet, reference))
                if latent is not None:
                    self._streams.references.hold(stream, packet, latent)
                decode_s = time.monotonic() - started_s
                delay_s = age_s(packet)
                stream.history.add(size_bytes=packet.size_bytes, delay_s=delay_s, decode_s=decode_s)
                if passes:
                    self._on_picture(_picture(stream, packet, image, bundle, options, decode_s, delay_s))
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
        skipped = self._streams.skipped
        if skipped.is_newest(stream, packet) and self._needs_image(stream, packet):  # somebody came meanwhile
            skipped.draw(stream)
        if drawn and packet.promised:
            self._streams.mark_drawn(stream, packet)

    def _needs_image(self, stream: Stream, packet: Packet) -> bool:
        return self._on_demand is None or self._on_demand.needs_image(stream.name, packet)

    def _options(self, stream: Stream, bundle: Bundle) -> SynthesisOptions:
        hurried = LARGE_DECODER in bundle.files and self._streams.has_ready()  # which looks at all streams
        return stream.synthesis.for_bundle(bundle, hurried=hurried)

    def _draw_skipped(self, decoder: DecoderProcess, stream: Stream, skipped: SkippedPicture) -> None:
        """Draw the picture of a frame that was decoded without it, unless a newer one is there. Never raises."""
        started_s, packet, drawn = time.monotonic(), skipped.packet, False
        try:
            bundle = self._bundles.get(packet.bundle_id)
            if bundle is not None and self._on_demand is not None and self._streams.skipped.is_newest(stream, skipped):
                options = self._options(stream, bundle)
                image, _ = decoder.decode(packet, options, skipped.reference)
                decode_s = time.monotonic() - started_s
                self._on_demand.show(_picture(stream, packet, image, bundle, options, decode_s, age_s(packet)))
                drawn = True
        except EdgesemError as error:
            self._limited_log.warn("frame %d of %s: %s", packet.frame, stream.name, error)
        except Exception:  # a caller's callback, or a defect of ours: the other streams go on
            self._limited_log.warn("frame %d of %s", packet.frame, stream.name, exc_info=True)
        finally:
            self._streams.done_skipped(stream, skipped, decode_s=time.monotonic() - started_s, drawn=drawn)

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


def _picture(
    stream: Stream,
    packet: Packet,
    image: NDArray[np.uint8],
    bundle: Bundle,
    options: SynthesisOptions,
    decode_s: float,
    delay_s: float,
) -> ReceivedPicture:
    return ReceivedPicture(
        stream=stream.name,
        topics=stream.topics,
        packet=packet,
        image=as_grey(image) if image.size and stream.is_grey(packet) else image,
        steps=options.steps,
        decode_s=decode_s,
        delay_s=delay_s,
        provenance=Provenance.of(packet, bundle, **asdict(options)),
    )


def age_s(packet: Packet) -> float:
    """Seconds since a packet's capture, as far as sender's and receiver's clocks agree."""
    return time.time() - full_time_ms(packet) / 1000
