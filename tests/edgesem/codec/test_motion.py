"""Motion: what has moved by whole positions is found and copied, both ends agree, and what has not is left alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgesem
from edgesem.bundle.bundle import DEFAULT
from edgesem.codec.copying import Copying
from edgesem.codec.latent import Latent
from edgesem.codec.motion import moved
from edgesem.codec.options import PackOptions
from edgesem.entropy.schedule import reference_graph
from edgesem.files import read_picture
from edgesem.packet.packet import Packet
from edgesem.packet.side_information import Reference, Region, SideInformation

PHOTOS = Path(__file__).parents[3] / "runtime" / "photos"
pytestmark = pytest.mark.skipif(
    not (DEFAULT / reference_graph(0)).is_file(), reason="the default bundle has no references"
)


@pytest.fixture(scope="module")
def codec():
    return edgesem.load()


@pytest.fixture(scope="module")
def street():
    return read_picture(PHOTOS / "11_football.jpg")


class Still(Copying):
    """Finds no motion."""

    def motion(self, latent, reference, gain):
        return b""


def stream(codec, pictures, copying=Copying, **more):
    """Packets of pictures that each refer to the one before, after both ends were found to have decoded the same."""
    sent = received = None
    decides, packets = copying(), []
    for frame, picture in enumerate(pictures):
        latent = codec.analyze(np.ascontiguousarray(picture))
        decides.look(latent)
        name = None if sent is None else Reference(frame - 1, 4)
        side_info = SideInformation(reference=name, region=more.get("region"))
        options = PackOptions(side_info=side_info, reference=sent, copying=decides, frame=frame)
        packet, sent = codec.pack_decoded(latent, quality=0.55, options=options)
        received = codec.unpack(Packet.from_bytes(packet.to_bytes()), received)
        assert received.values.tobytes() == sent.values.tobytes()
        assert (received.levels == sent.levels).all()
        packets.append(packet)
    return packets


def size(packets):
    return sum(packet.size_bytes for packet in packets[1:])


def test_a_camera_that_turns_by_whole_positions_pays_for_what_comes_into_view(codec, street):
    turning = [street[64 + 16 * n : 288 + 16 * n, 32 * n : 320 + 32 * n] for n in range(5)]
    found, still = stream(codec, turning), stream(codec, turning, Still)
    assert all((packet.motion == (1, 2)).all() for packet in found[1:])
    assert size(found) < 0.3 * size(still)


def test_motion_goes_with_a_region(codec, street):
    turning = [street[64:288, 16 * n : 320 + 16 * n] for n in range(4)]
    found = stream(codec, turning, region=Region(3, 3, 9, 9, 60))
    assert all((packet.motion == (0, 1)).any() for packet in found[1:])


def test_what_moves_before_a_scene_that_stands_still_has_vectors_of_its_own(codec, street):
    scene = []
    for number in range(5):
        picture = street[100:340, 60:380].copy()
        picture[64:176, 32 + 16 * number : 176 + 16 * number] = street[300:412, 300:444]
        scene.append(picture)
    found, still = stream(codec, scene), stream(codec, scene, Still)
    vectors = [packet.motion.reshape(-1, 2) for packet in found[1:]]
    assert all(((one == (0, -1)).all(1).any()) and (one == 0).all(1).mean() > 0.7 for one in vectors)
    assert size(found) < 0.8 * size(still)


def test_no_motion_is_found_where_there_is_none(codec, street):
    picture, random = street[100:340, 60:380], np.random.default_rng(0)
    noisy = [np.rint((picture + random.normal(0, 2, picture.shape)).clip(0, 255)).astype(np.uint8) for _ in range(3)]
    darker = (picture * 0.7).astype(np.uint8)
    packets = stream(codec, [picture, picture, *noisy, darker])
    assert [packet.motion for packet in packets] == [None] * 6


def test_the_layers_of_a_moved_frame_decode_one_by_one(codec, street):
    before, after = (codec.analyze(np.ascontiguousarray(street[:240, 16 * n : 320 + 16 * n])) for n in range(2))
    key, known = codec.pack_decoded(before, quality=0.5)
    copying = Copying()
    copying.look(after)
    options = PackOptions(side_info=SideInformation(reference=Reference(0, 4)), reference=known, copying=copying)
    packet, whole = codec.pack_decoded(after, quality=0.5, options=options)
    assert packet.motion is not None
    assert len(packet.chunks) == 4
    received = codec.unpack(key)
    parts = [codec.unpack(packet.prefix(layers), received) for layers in range(1, 5)]
    assert parts[-1].values.tobytes() == whole.values.tobytes()
    for part in parts:
        assert (part.values[:, packet.copied] == whole.values[:, packet.copied]).all()


def test_what_comes_from_outside_is_the_edge(codec):
    values = np.arange(96 * 5 * 6, dtype=np.float32).reshape(96, 5, 6)
    levels = np.arange(30, dtype=np.uint8).reshape(5, 6)
    field = np.zeros((2, 2, 2), np.int16)
    field[0, 0], field[1, 1] = (-2, 0), (255, -1)
    latent = Latent(values, 96, 80, 40, copied_levels=levels, origin=values + 1)
    found = moved(latent, field)
    assert (found.values[:, 0] == values[:, 0]).all()
    assert (found.values[:, 3, :4] == values[:, 1, :4]).all()
    assert (found.values[:, :4, 4:] == values[:, :4, 4:]).all()
    assert (found.values[:, 4, 4:] == values[:, 4, 3:5]).all()
    assert (found.origin == found.values + 1).all()
    assert (found.levels[3, :4] == levels[1, :4]).all()
    region = Region(0, 0, 1, 1, 10)
    assert (moved(replace(latent, copied_levels=None, region=region), field).levels[2, :2] == 40).all()
