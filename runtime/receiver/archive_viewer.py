"""Archive viewer: draws one archived picture at a time, for those who look back on the live page."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgesem.errors import BundleError, InputError, LinkError, PacketError
from edgesem.packet.packet import Packet
from edgesem.picture import as_grey
from edgesem.provenance import Provenance
from runtime.receiver.archive_entry import Entry, FrameHistory
from runtime.receiver.bundle_set import BundleSet
from runtime.receiver.decoder_process import DecoderProcess
from runtime.receiver.held_latent import HeldLatent
from runtime.receiver.sinks import encode_picture
from runtime.receiver.stamp import clock_is_set, stamp_picture
from runtime.receiver.synthesis import SynthesisOptions

_NICE = 15
"""Live pictures go first: their decoders have 5."""
_LONGEST_S = 20.0
"""For one picture with all those that it is decoded from."""
_MOST_WAITING = 8
_IDLE_S = 60.0
_KEPT_BYTES = 16 << 20
_HELD = 8
_LONGEST_CHAIN = 4000
"""Frames that one is decoded from; a sender makes a keyframe each minute."""


@dataclass(frozen=True)
class ArchivedPicture:
    """An archived frame, drawn."""

    entry: Entry
    jpeg: bytes


class ArchiveViewer:
    """Draws frames of an archive or a catalogue with the `bundles` (folders; None is the one that ships). Thread-safe.

    One picture is drawn at a time, in a decoder process of a priority below that of live pictures, which is started for
    the first one and ended by `rest` after a minute without any. Those drawn last are kept, up to 16 MiB. `stamp` is
    one of `runtime.receiver.stamp.STAMPS`. Use it as a context manager.
    """

    def __init__(self, archive: FrameHistory, bundles: Sequence[Path | None], *, stamp: str = "auto") -> None:
        self.archive = archive
        self._folders, self._stamp = bundles, stamp
        self._bundles: BundleSet | None = None
        self._decoder: DecoderProcess | None = None
        self._used_s, self._closed = 0.0, False
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(_MOST_WAITING)
        self._held: OrderedDict[tuple[str, int, int, int], HeldLatent] = OrderedDict()
        """Latents that later frames may refer to, by stream, epoch, frame and number of layers."""
        self._kept: OrderedDict[tuple[Entry, SynthesisOptions], ArchivedPicture] = OrderedDict()
        """By the entry, and how it was drawn."""

    def __enter__(self) -> ArchiveViewer:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        decoder = self._decoder
        if decoder is not None:
            decoder.kill()
        with self._lock:
            self._end()

    def picture(self, stream: str, at_s: float, near_s: float, options: SynthesisOptions) -> ArchivedPicture:
        """The picture of a stream that was captured last at `at_s` (Unix seconds) or before.

        Where that is an inter frame, and its keyframe is at most `near_s` seconds older than `at_s`, it is the
        keyframe: that costs one decoding, not one for each frame between. Raises InputError if there is none,
        BundleError or PacketError if it cannot be decoded, LinkError if too many wait or it takes too long.
        """
        entry = self.archive.newest(stream, at_s)
        if entry is None:
            raise InputError(f"nothing of {stream} is archived of that time")
        if not self._places.acquire(blocking=False):
            raise LinkError("too many archived pictures are asked for at a time: ask again")
        try:
            with self._lock:
                chain = self._chain(entry)
                key_entry, key_packet = chain[-1]
                if key_packet.side_info.reference is None and at_s - key_entry.captured_s <= near_s:
                    chain = [(key_entry, self.archive.packet(key_entry))]
                return self._picture(chain, options)
        finally:
            self._places.release()

    def rest(self) -> None:
        """End the decoder if nobody has looked back for a minute; to be called now and then. Does not wait:
        packets of an object store that is away may take long."""
        if self._decoder is None or time.monotonic() - self._used_s < _IDLE_S or not self._lock.acquire(blocking=False):
            return
        try:
            if time.monotonic() - self._used_s >= _IDLE_S:
                self._end()
        finally:
            self._lock.release()

    def _chain(self, entry: Entry) -> list[tuple[Entry, Packet]]:
        """A frame and those that it is decoded from, up to a keyframe or one whose latent is held; the oldest last."""
        chain = [(entry, self.archive.packet(entry))]
        while (reference := chain[-1][1].side_info.reference) is not None:
            last = chain[-1][0]
            if reference.frame >= last.frame or len(chain) == _LONGEST_CHAIN:
                raise PacketError(f"frame {last.frame} of {last.stream} refers to too many others, or to itself")
            if (last.stream, last.epoch, reference.frame, reference.layers) in self._held:
                break
            earlier, packet = self.archive.earlier(last, reference.frame)
            chain.append((earlier, packet.prefix(reference.layers)))
        return chain

    def _picture(self, chain: Sequence[tuple[Entry, Packet]], options: SynthesisOptions) -> ArchivedPicture:
        entry, packet = chain[0]
        key = entry, options
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return kept
        bundles = self._bundles = self._bundles or BundleSet(self._folders)
        bundle = bundles.get(packet.bundle_id)
        if bundle is None:
            raise BundleError(
                f"frame {entry.frame} of {entry.stream} was made with bundle {packet.bundle_id:04x}: "
                "name that with --bundle too"
            )
        if self._closed:
            raise LinkError("the receiver ends")
        if self._decoder is None:
            decoder = DecoderProcess(self._folders, timeout_s=_LONGEST_S, nice=_NICE)
            decoder.__enter__()
            self._decoder = decoder
        options = options.for_bundle(bundle)
        deadline_s = time.monotonic() + _LONGEST_S
        for one, its_packet in reversed(chain):
            reference = its_packet.side_info.reference
            name = reference and (one.stream, one.epoch, reference.frame, reference.layers)
            image, latent = self._decoder.decode(
                its_packet, options, self._held[name] if name else None, draw=its_packet is packet
            )
            self._used_s = time.monotonic()
            if self._used_s > deadline_s:
                raise LinkError(
                    f"frame {entry.frame} of {entry.stream} is decoded from too many others for this machine"
                )
            if latent is not None:
                self._held[one.stream, one.epoch, one.frame, len(its_packet.chunks)] = latent
                while len(self._held) > _HELD:
                    self._held.popitem(last=False)
        if entry.grey:
            image = as_grey(image)
        captured_ms = round(entry.captured_s * 1000)
        clock_set = clock_is_set(packet, captured_ms)
        image = stamp_picture(
            image, self._stamp, name=entry.stream, captured_ms=captured_ms, steps=options.steps, clock_set=clock_set
        )
        jpeg = encode_picture(image, "jpg", Provenance.of(packet, bundle, **asdict(options), captured_ms=captured_ms))
        drawn = self._kept[key] = ArchivedPicture(entry, jpeg)
        while sum(len(one.jpeg) for one in self._kept.values()) > _KEPT_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)
        return drawn

    def _end(self) -> None:
        """End the decoder, if there is one. Under the lock."""
        decoder, self._decoder = self._decoder, None
        self._held.clear()
        if decoder is not None:
            decoder.__exit__()
