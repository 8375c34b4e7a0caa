"""Pictures and packets on disk: what is read, what is refused, and that nothing half-written is left."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgesem import files
from edgesem.errors import ChecksumError, InputError, PacketError, UsageError
from edgesem.packet.packet import MAX_PACKET_BYTES, Packet


def test_a_picture_comes_back_as_it_was_written(tmp_path):
    frame = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for name in ("a.png", "A.PNG", "a.ppm"):
        files.write_picture(frame, tmp_path / name)
        assert np.array_equal(files.read_picture(tmp_path / name), frame)
    files.write_picture(frame, tmp_path / "a.jpg")
    assert files.read_picture(tmp_path / "a.jpg").shape == frame.shape


def test_a_folder_that_cannot_be_read_is_said_so(tmp_path):
    (tmp_path / "a.txt").touch()
    for folder, why in ((tmp_path / "b", "No such file"), (tmp_path / "a.txt", "Not a directory")):
        with pytest.raises(InputError, match=f"{folder.name} cannot be read: {why}"):
            files.find_pictures(folder)
    with pytest.raises(InputError, match="name a folder that holds some"):
        files.find_pictures(tmp_path)


def test_a_choice_is_spread_from_the_first_to_the_last():
    assert files.spread("abcdefghi", 3) == ["a", "e", "i"]
    assert files.spread("abc", 9) == ["a", "b", "c"]
    assert files.spread("abc", 1) == ["a"]
    assert files.spread("", 9) == []


@pytest.mark.parametrize("name", ["a", "a.es", "a.txt", ".png"])
def test_a_name_without_a_picture_format_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.png"):
        files.write_picture(np.zeros((4, 4, 3), np.uint8), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("image", "pixel"),
    [
        (Image.new("L", (2, 2), 77), (77, 77, 77)),
        (Image.new("1", (2, 2), 1), (255, 255, 255)),
        (Image.new("I;16", (2, 2), 0x8042), (0x80, 0x80, 0x80)),
        (Image.new("RGBA", (2, 2), (9, 8, 7, 0)), (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (9, 8, 7, 255)), (9, 8, 7)),
        (Image.new("LA", (2, 2), (50, 255)), (50, 50, 50)),
        (Image.new("RGB", (2, 2), (1, 2, 3)).quantize(4), (1, 2, 3)),
    ],
    ids=lambda value: getattr(value, "mode", ""),
)
def test_every_kind_of_pixel_becomes_rgb(tmp_path, image, pixel):
    image.save(tmp_path / "a.png")
    frame = files.read_picture(tmp_path / "a.png")
    assert frame.dtype == np.uint8
    assert frame.tolist() == [[list(pixel)] * 2] * 2


def test_a_picture_too_large_is_refused_before_a_pixel_is_read(tmp_path, monkeypatch):
    Image.new("1", (4097, 2)).save(tmp_path / "wide.png")
    with pytest.raises(InputError, match="4097x2 pixels"):
        files.read_picture(tmp_path / "wide.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)  # Pillow warns from here on, and refuses from the double
    for width in (3500, 4000 * 2):
        Image.new("1", (width, 2)).save(tmp_path / "bomb.png")
        with pytest.raises(InputError, match="too many pixels"):
            files.read_picture(tmp_path / "bomb.png")


def test_what_is_no_picture_is_refused(tmp_path, monkeypatch):
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "good.png")
    whole = (tmp_path / "good.png").read_bytes()
    for number, data in enumerate((b"", b"hello", whole[:20], whole[: len(whole) // 2], whole[:60] + bytes(2000))):
        path = tmp_path / f"{number}.png"
        path.write_bytes(data)
        with pytest.raises(InputError, match=str(path)):
            files.read_picture(path)
    with pytest.raises(InputError, match="does not exist"):
        files.read_picture(tmp_path / "nowhere.png")
    with pytest.raises(InputError, match=str(tmp_path)):
        files.read_picture(tmp_path)
    for content, why in ((b"", "it is empty"), (b"hello", "of no picture format")):
        (tmp_path / "no.png").write_bytes(content)
        with pytest.raises(InputError, match=f"as a picture: .*{why}"):
            files.read_picture(tmp_path / "no.png")
    monkeypatch.chdir(tmp_path)
    Path("it").mkdir()  # a name that stands in the reason too
    with pytest.raises(InputError, match="cannot read it as a picture: it is no file"):
        files.read_picture(Path("it"))


def test_a_packet_is_read_from_its_file_or_refused_with_its_name(tmp_path):
    packet = Packet(1, 2, 3, 4, 64, 64, 5, total_layers=2, first_layer=0, chunks=(b"a", b"b"))
    path = tmp_path / "a.es"
    path.write_bytes(packet.to_bytes())
    assert files.read_packet(path) == packet
    path.write_bytes(packet.to_bytes()[:-1])
    with pytest.raises(ChecksumError, match=str(path)):
        files.read_packet(path)
    path.write_bytes(bytes(MAX_PACKET_BYTES + 1))
    with pytest.raises(PacketError, match=str(path)):
        files.read_packet(path)
    for missing in (tmp_path / "nowhere.es", tmp_path):
        with pytest.raises(InputError, match=str(missing)):
            files.read_packet(missing)


def test_a_file_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    path = tmp_path / "a.es"
    files.write_whole(path, b"old")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(InputError, match="No space left"):
            files.write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    files.write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_can_be_written_to_standard_output_that_is_a_pipe():
    program = "from edgesem.files import Path, write_whole; write_whole(Path('/dev/stdout'), b'abc')"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"abc"


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    files.write_whole(tmp_path / "link", b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"data"
    files.write_whole(Path("/dev/null"), b"data")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_target_that_cannot_be_written_is_named(tmp_path):
    for path in (tmp_path / "nowhere" / "a.es", tmp_path):
        with pytest.raises(InputError, match=str(path)):
            files.write_whole(path, b"data")
