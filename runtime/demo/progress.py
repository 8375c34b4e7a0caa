"""Progress of a demo: what is known of each picture so far, as report.json will have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesem.packet.packet import Packet
from runtime.demo.compare import Jpeg, jpeg_within, measure, of_the_size_of
from runtime.receiver.received_picture import ReceivedPicture
from runtime.sender.events import FramePacked, LayersAcknowledged, LayersSent, SenderEvent

Pixels = NDArray[np.uint8]


class Progress:
    """A row for each picture, numbered from 0, and what is drawn of it. For one thread.

    A picture that was sent again counts as its last frame; events of earlier ones are ignored.
    """

    def __init__(self, names: Sequence[str], originals: Sequence[Pixels]) -> None:
        self.rows: list[dict[str, Any]] = [{"frame": number, "name": name} for number, name in enumerate(names)]
        self.phase = "starting"
        """What the demo does now, for display."""
        self.packets: dict[int, Packet] = {}
        """The packet of each picture as it was received, by row."""
        self._originals = list(originals)
        self._received: dict[int, Pixels] = {}
        self._redrawn: dict[int, Pixels] = {}
        self._rows_of_frames: dict[int, dict[str, Any]] = {}
        self._acknowledged: dict[int, set[int]] = {}
        """Layers that were acknowledged, by frame number."""

    def add_event(self, event: SenderEvent) -> None:
        """Add what the sender reports. A frame belongs to the row whose number is its name."""
        if isinstance(event, FramePacked) and event.name.isdecimal() and int(event.name) < len(self.rows):
            self._add_packed(self.rows[int(event.name)], event)
        elif isinstance(event, LayersSent) and (row := self._rows_of_frames.get(event.frame)) is not None:
            row["layers_sent"] += event.layers
            row["sent_bytes"] += event.size_bytes
        elif isinstance(event, LayersAcknowledged) and (row := self._rows_of_frames.get(event.frame)) is not None:
            layers = self._acknowledged.setdefault(event.frame, set())
            layers.update(range(event.layer, event.layer + event.layers))
            row["layers_acknowledged"] = len(layers)
            if event.layer == 0:
                row["base_delay_s"] = event.delay_s

    def _add_packed(self, row: dict[str, Any], event: FramePacked) -> None:
        self._rows_of_frames = {frame: of for frame, of in self._rows_of_frames.items() if of is not row}
        self._rows_of_frames[event.frame] = row
        row.update(
            budget_bytes=event.budget_bytes,
            capacity_bps=event.capacity_bps,
            layers_packed=event.layers_packed,
            q=event.q,
            analyze_s=event.analyze_s,
            pack_s=event.pack_s,
            layers_sent=0,
            sent_bytes=0,
            layers_acknowledged=0,
        )

    def row_of(self, picture: ReceivedPicture) -> int | None:
        """The row of a received picture, None if it has none or was sent again meanwhile."""
        row = self._rows_of_frames.get(picture.packet.frame)
        return None if row is None else int(row["frame"])

    def add_picture(self, number: int, picture: ReceivedPicture, file: str) -> None:
        """Add a received picture, with more layers than the one before, and measure it against its original."""
        info, row, original = picture.info, self.rows[number], self._originals[number]
        self.packets[number], self._received[number] = picture.packet, of_the_size_of(original, picture.image)
        row.update(layers=info.layers, decode_s=info.decode_s, delay_s=info.delay_s, file=file)
        row.update(width=original.shape[1], height=original.shape[0])
        row.update(measure(original, self._received[number], info.size_bytes))

    def add_redrawn(self, number: int, image: Pixels, decode_s: float, file: str) -> None:
        """Add the same picture as one step of the flow decoder redraws it."""
        self._redrawn[number] = of_the_size_of(self._originals[number], image)
        measured = measure(self._originals[number], self._redrawn[number], self.rows[number]["size_bytes"])
        self.rows[number]["one_step"] = {"file": file, "decode_s": round(decode_s, 4), **measured}

    def is_received(self, number: int) -> bool:
        """Whether a picture was received, with its base layer at least."""
        return "layers" in self.rows[number]

    def is_complete(self) -> bool:
        """Whether all pictures were received, with all layers that were acknowledged."""
        return all("layers" in row and row["layers"] >= row["layers_acknowledged"] for row in self.rows)

    def is_final(self, number: int) -> bool:
        """Whether no more layers of a received picture can come: it has all, or a later one was received."""
        row = self.rows[number]
        later = any("layers" in one for one in self.rows[number + 1 :])
        return "layers" in row and (later or row["layers"] == row["layers_packed"])

    def counts(self) -> dict[str, Any]:
        """How many pictures and layers went and came; `ok` if none was lost and each layer was acknowledged."""
        sent = sum(row.get("layers_sent", 0) for row in self.rows)
        acknowledged = sum(row.get("layers_acknowledged", 0) for row in self.rows)
        lost = len(self.rows) - len(self._received)
        return {
            "ok": lost == 0 and sent == acknowledged and sent > 0,
            "pictures": len(self.rows),
            "lost": lost,
            "layers_sent": sent,
            "layers_acknowledged": acknowledged,
        }

    def redrawn(self, number: int) -> Pixels | None:
        """A picture as one step of the flow decoder redraws it."""
        return self._redrawn.get(number)

    def compare(self) -> list[tuple[Pixels, Jpeg | None, Pixels | None]]:
        """Original, JPEG of the same bytes and received picture of each row; the JPEG's measures go into the row."""
        triples = []
        for number, (row, original) in enumerate(zip(self.rows, self._originals, strict=True)):
            jpeg = None
            if number in self._received:
                jpeg = jpeg_within(original, row["size_bytes"])
                measured = measure(original, jpeg.image, jpeg.size_bytes)
                row["jpeg"] = {"quality": jpeg.quality, "fits": jpeg.fits, **measured}
            triples.append((original, jpeg, self._received.get(number)))
        return triples
