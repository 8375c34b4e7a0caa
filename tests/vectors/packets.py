"""Vectors of packets: keyframes, inter frames, layers, regions, lanes, extreme values, sealed packets."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from edgesem.codec.copying import Copies, Copying
from edgesem.codec.latent import Latent
from edgesem.entropy import rans
from edgesem.entropy.lane_termination import LaneTermination
from edgesem.files import read_picture
from edgesem.packet import copy_map, motion
from edgesem.packet.detail_mark import DetailMark
from edgesem.packet.event_mark import EventMark
from edgesem.packet.seal import Seal
from edgesem.packet.side_information import Reference, Region, SideInformation
from edgesem.semantics.embedding import SemanticHead
from edgesem.semantics.embedding import to_bytes as embedding_bytes
from runtime.capture.frame import PHOTOS
from tests.vectors.collection import BASE, FOLDER, SALT, STREAM_KEY, TIME_MS, Vectors, described


class Chosen(Copying):
    """Copies, and moves, what it is told to, at every quality."""

    def __init__(self, mask: np.ndarray, motion: bytes = b"") -> None:
        super().__init__()
        self._mask, self._motion = mask, motion

    def motion(self, latent: Latent, reference: Latent, gain: np.ndarray) -> bytes:
        """In place of what is found."""
        return self._motion

    def against(self, latent: Latent, reference: Latent, room_bytes: int) -> Any:
        """In place of differences."""
        copies = Copies(self._mask, copy_map.to_bytes(self._mask)) if self._mask.any() else None
        return SimpleNamespace(copies=lambda *_: copies)


def packets(vectors: Vectors) -> None:
    """Keyframes, inter frames, layers, regions, lanes."""
    small = vectors.picture("08_crossing.jpg", 200, 250, 64, 64)
    key = vectors.pack(small, 1, 0.5)
    vectors.packet("key_64", "A keyframe of 64x64 pixels in four layers; one lane.", key)
    base, *above = key.split()
    vectors.packet("key_64_layer0", "Its base layer as a message of its own.", base)
    for part in above:
        name = f"key_64_layer{part.first_layer}"
        vectors.write(name, "layer", "One more layer of it, alone.", part.to_bytes(), "es", **described(part))
    rest = replace(key, first_layer=1, chunks=key.chunks[1:])
    vectors.write("key_64_rest", "layer", "Its layers 1 to 3 in one message.", rest.to_bytes(), "es", **described(rest))
    other = replace(above[0], chunks=(bytes(len(above[0].chunks[0])),))
    about = "The same layer with other bytes. Of two chunks of one layer, the one that came first counts."
    vectors.write("key_64_layer1_again", "layer", about, other.to_bytes(), "es", **described(other))
    for name, messages, joined, layers in (
        ("join_two_messages", ["key_64_layer0", "key_64_rest"], "key_64", 4),
        ("join_any_order", ["key_64_layer2", "key_64_layer0", "key_64_layer3", "key_64_layer1"], "key_64", 4),
        ("join_repeated", ["key_64_layer0", "key_64_layer1", "key_64_layer1_again", "key_64_rest"], "key_64", 4),
        ("join_with_a_gap", ["key_64_layer3", "key_64_layer0", "key_64_layer1"], "key_64", 2),
        ("join_base_missing", ["key_64_layer1", "key_64_layer2"], None, 0),
    ):
        expected = {"messages": messages, "same_as": joined, "layers": layers}
        vectors.entries.append({"name": name, "kind": "reassembly", "about": "Messages of one frame."} | expected)
    whole_time = SideInformation(time_high=(TIME_MS + 500) >> 32)
    promised = replace(key, promised=True, side_info=whole_time)
    about = "The same with the flag PROMISED: all layers in one message, and the whole capture time."
    vectors.packet("key_64_promised", about, promised, [4])
    event = replace(whole_time, event=EventMark(0x5F3A9C01, 3, -1500, 1, True, "a truck"))
    about = "The same as a frame of an event: the fourth and last, captured 1.5 s before it began."
    vectors.packet("key_64_event", about, replace(key, promised=True, side_info=event), [4])
    detail = replace(whole_time, detail=DetailMark(16384, 19661, 32768, 32768, 0x89ABCDEF))
    about = "The same as a detail: from 0.25 to 0.5 of the picture's width, from 0.3 to 0.5 of its height."
    vectors.packet("key_64_detail", about, replace(key, promised=True, side_info=detail), [4])
    later = replace(key, side_info=SideInformation(unknown=((9, b"new"), (200, bytes(20)))))
    vectors.packet("next_packet", "Side information of kinds that are not known: as of a later program.", later, [4])

    street = vectors.picture("05_street_night.jpg", 100, 100, 121, 90)
    vectors.packet("key_odd_size", "121x90 pixels: 8x6 positions, 6 is no multiple of 4.", vectors.pack(street, 2, 0.6))
    vectors.packet("key_two_layers", "Coded with two layers only.", vectors.pack(street, 3, 0.6, layers=2))
    vectors.packet("key_lowest", "The coarsest quality, q 0.", vectors.pack(small, 4, 0.0))
    vectors.packet("key_finest", "The finest quality, q 255.", vectors.pack(small, 5, 1.0))

    crowd = vectors.picture("11_football.jpg", 100, 120, 160, 112)
    region = SideInformation(region=Region(2, 1, 6, 4, 90))
    about = "Side information: a region of interest. Finer in columns 2 to 6 and rows 1 to 4."
    vectors.packet("key_region", about, vectors.pack(crowd, 6, 0.6, side_info=region))
    outside = SideInformation(region=Region(0, 3, 255, 255, 255))
    about = "A region that goes beyond the picture, and a drop below quality 0."
    vectors.packet("key_region_clipped", about, vectors.pack(street, 7, 0.5, side_info=outside))
    meaning = SideInformation(embedding=embedding_bytes(SemanticHead(vectors.codec.bundle).embed(street)))
    vectors.packet("key_embedding", "Side information: an embedding.", vectors.pack(street, 8, 0.4, side_info=meaning))

    before, after = (vectors.picture(name, 300, 150, 160, 96) for name in ("13_parking_1.jpg", "14_parking_2.jpg"))
    first = vectors.pack(before, 20, 0.5)
    vectors.packet("inter_key", "A keyframe that the next vectors refer to.", first)
    refer = SideInformation(reference=Reference(20, 4))
    second = vectors.pack(after, 21, 0.5, side_info=refer, reference=vectors.latents["inter_key", 4])
    vectors.packet("inter_1", "An inter frame that refers to all layers of inter_key.", second)
    everything = SideInformation(Reference(21, 2), meaning.embedding, Region(1, 1, 4, 3, 60))
    third = vectors.pack(after, 22, 0.7, side_info=everything, reference=vectors.latents["inter_1", 2])
    vectors.packet("inter_2", "An inter frame that refers to two layers of inter_1; all side information.", third)
    still = SideInformation(reference=Reference(22, 4))
    fourth = vectors.pack(after, 23, 0.7, side_info=still, reference=vectors.latents["inter_2", 4])
    vectors.packet("inter_3", "The same picture once more; its reference has a region.", fourth)

    copied = np.zeros((6, 10), bool)
    copied[2:5, 3:9] = copied[:, 0] = True
    refer = SideInformation(reference=Reference(22, 4))
    fifth = vectors.pack(
        before, 24, 0.6, side_info=refer, reference=vectors.latents["inter_2", 4], copying=Chosen(copied)
    )
    vectors.packet("inter_copied", "Copies of some positions of inter_2, which has a region.", fifth)
    refer = SideInformation(Reference(24, 2), region=Region(2, 2, 6, 4, 50))
    sixth = vectors.pack(
        after,
        25,
        0.8,
        side_info=refer,
        reference=vectors.latents["inter_copied", 2],
        copying=Chosen(copied[::-1, ::-1]),
    )
    about = "Copies of two layers of inter_copied, and a region: positions of many levels."
    vectors.packet("inter_copied_again", about, sixth)
    refer = SideInformation(reference=Reference(25, 4))
    last = vectors.pack(
        after,
        26,
        1.0,
        side_info=refer,
        reference=vectors.latents["inter_copied_again", 4],
        copying=Chosen(copied | True),
    )
    vectors.packet("inter_all_copied", "All is copied from inter_copied_again: no symbols.", last)
    _moved(vectors)

    busy, dark = (read_picture(PHOTOS / name) for name in ("08_crossing.jpg", "05_street_night.jpg"))
    large = vectors.codec.analyze(np.concatenate([busy, dark[:, :256]], axis=1))
    for frame, name, quality in ((30, "lanes_128", 0.8), (31, "lanes_256", 1.0)):
        packet = vectors.pack(large, frame, quality)
        vectors.packet(name, "768x512 pixels, coded with many lanes.", packet, [1, 2, 4])
    trial = vectors.codec.trial(crowd, 200)
    with patch.object(LaneTermination, "choose", return_value=LaneTermination(6, 2, 2)):
        chunks = rans.encode(trial.entries, trial.tables, 16)
    packet = replace(vectors.pack(crowd, 32, 200 / 255), chunks=tuple(chunks))
    about = "Lanes that no encoder of today chooses: 16, ending from pass 6 on, at last 4."
    vectors.packet("lanes_16", about, packet)

    with patch.object(LaneTermination, "choose", return_value=LaneTermination(10, 3, 4)):
        lowest, *others = rans.encode(trial.entries, trial.tables, 16)
    shape = 4 | 12 << 4 | 3 << 8  # with log_width 4 no lane ended early; with `at` 12 none does either
    packet = replace(packet, frame=33, chunks=(shape.to_bytes(2, "little") + lowest[2:], *others))
    vectors.packet("lanes_at_12", "16 lanes that do not end early, because `at` is above 10.", packet)


def _moved(vectors: Vectors) -> None:
    """Inter frames whose reference has moved."""
    picture = vectors.picture("14_parking_2.jpg", 332, 134, 160, 96)  # inter_1: a position up, two to the right
    nothing, some = np.zeros((6, 10), bool), np.zeros((6, 10), bool)
    some[:4, :7] = True
    field = np.full((2, 3, 2), (-1, 2), np.int16)
    whole = motion.to_bytes((-1, 2), field)
    field[0, 1], field[1, 2] = (0, 0), (-255, 255)
    blocks = motion.to_bytes((-1, 2), field)
    for frame, name, about, before, chosen, region in (
        (27, "inter_moved", "All of inter_1 has moved by one row and two columns.", (21, 4, "inter_1"),
         Chosen(nothing, whole), None),
        (28, "inter_moved_blocks", "Two blocks have vectors of their own; copies of inter_2, which has a region.",
         (22, 4, "inter_2"), Chosen(some, blocks), Region(2, 2, 6, 4, 50)),
        (29, "inter_moved_again", "All copied from two layers of inter_moved_blocks, and moved.",
         (28, 2, "inter_moved_blocks"), Chosen(nothing | True, whole), None),
    ):  # fmt: skip
        number, layers, vector = before
        refer = SideInformation(Reference(number, layers), region=region)
        reference = vectors.latents[vector, layers]
        packet = vectors.pack(picture, frame, 0.6, side_info=refer, reference=reference, copying=chosen)
        vectors.packet(name, about, packet)


def extremes(vectors: Vectors) -> None:
    """Packets that reach the limits of values, tables and zero words; no photograph makes these."""
    small = vectors.picture("08_crossing.jpg", 202, 250, 64, 64)
    refer = SideInformation(reference=Reference(5, 4))
    packet = vectors.pack(small, 40, 0.1, side_info=refer, reference=vectors.latents["key_finest", 4])
    about = "Coarse, with the finest reference: in the base layer the networks give scales below `first`."
    vectors.packet("inter_clamp", about, packet)

    sides = np.where(np.arange(4) < 2, np.float32(1e5), np.float32(-1e5))
    values = np.broadcast_to(sides, (96, 4, 4)).copy()
    values[48:] = -1e5
    about = "Values beyond every limit; the last words are zero, and two of them are not there."
    extreme = Latent(values, 64, 64)
    vectors.packet("key_extreme", about, vectors.pack(extreme, 41, 0.0))
    refer = SideInformation(reference=Reference(41, 4))
    turned = replace(extreme, values=np.concatenate([-values[:48], values[48:]]))
    before = vectors.latents["key_extreme", 4]
    packet = vectors.pack(turned, 42, 1.0, side_info=refer, reference=before)
    trial = vectors.codec.trial(turned, 255, reference=before)
    with patch.object(LaneTermination, "choose", return_value=LaneTermination(8, 2, 1)):
        chunks = rans.encode(trial.entries, trial.tables, 4)
    about = "The reverse, at the finest level: clipped references and changes; 4 lanes, and 8 words of zero missing."
    vectors.packet("inter_extreme", about, replace(packet, chunks=tuple(chunks)))


def sealed(vectors: Vectors) -> None:
    """What is sealed or signed with the stream's key."""
    seal = Seal(STREAM_KEY, stream=BASE, salt=SALT)
    keys = {"stream_key": STREAM_KEY.hex(), "salt": SALT.hex(), "stream": BASE}
    for name, plain in (("sealed_layer0", "key_64_layer0"), ("sealed_promised", "key_64_promised")):
        data = seal.seal((FOLDER / f"{plain}.es").read_bytes())
        derived = {"packet_key": seal._key.hex(), "nonce": seal._nonce(bytearray(data[:20])).hex()}
        more = {"topic": f"{BASE}/pkt/0", **keys, **derived, "associated_data": data[:20].hex(), "opens_to": plain}
        vectors.write(name, "sealed", f"The vector {plain}, sealed.", data, "es", **more)
    for name, plain, topic in (("signed_ack", "ack_kept", "ack"), ("signed_command", "command_pause", "cmd")):
        data = seal.sign((FOLDER / f"{plain}.cbor").read_bytes(), f"{BASE}/{topic}")
        more = {"message_key": seal._sign_key.hex(), "topic": f"{BASE}/{topic}", "payload": plain}
        vectors.write(name, "signed", f"The vector {plain} with its tag.", data, "bin", **keys, **more)
