"""How a picture is shown: orientation, colours, transparency and depth that its file names count, as in a browser."""

import contextlib
import io
import logging
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from edgesem import files, picture
from edgesem.errors import InputError

PHOTO_SIDE = 96


def photo(side=PHOTO_SIDE):
    """A smooth picture of many colours, uint8 [side, side, 3]."""
    rough = np.random.default_rng(5).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_upright(tmp_path, kind, orientation):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24] = 255, 0, 0
    upright[16:, 24:] = 0, 0, 255
    # How a camera held that way stores it, by the table of EXIF 2.3, 4.6.4 A
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a.{kind}", exif=exif, quality=100)
    shown = files.read_picture(tmp_path / f"a.{kind}")
    assert shown.shape == upright.shape
    assert np.abs(shown[4:12, 4:20].astype(int) - upright[4:12, 4:20]).max() < 12
    assert np.abs(shown[20:28, 28:44].astype(int) - upright[20:28, 28:44]).max() < 12


def adobe_rgb():
    """An ICC profile with the colours of Adobe RGB (1998) and a gamma of 2.2, written by hand: version 2, matrix."""

    def xyz(*values):
        return b"XYZ " + bytes(4) + b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(2.19921875 * 256)) + bytes(2)
    text = b"text" + bytes(4) + b"none\0\0\0\0"
    desc = b"desc" + bytes(4) + struct.pack(">I", 5) + b"Adobe" + bytes(3 + 75)
    tags = [
        (b"desc", desc),
        (b"cprt", text),
        (b"wtpt", xyz(0.9642, 1.0, 0.8249)),
        (b"rXYZ", xyz(0.60974, 0.31111, 0.01947)),
        (b"gXYZ", xyz(0.20528, 0.62567, 0.06087)),
        (b"bXYZ", xyz(0.14919, 0.06322, 0.74457)),
        *((name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")),
    ]
    table, body, offset = struct.pack(">I", len(tags)), b"", 128 + 4 + 12 * len(tags)
    for name, data in tags:
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", offset + len(body), len(data))
        body += data
    size = 128 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + xyz(0.9642, 1.0, 0.8249)[8:]
    return head.ljust(128, b"\0") + table + body


def srgb_of(*adobe):
    """A colour of Adobe RGB in sRGB, by the linear matrix between the two; red and blue primaries nearly agree."""
    red, green, blue = ((value / 255) ** 2.19921875 for value in adobe)
    linear = np.array([1.3983 * red - 0.3983 * green, green, -0.0429 * green + 1.0429 * blue])
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255


def test_colours_of_a_profile_become_srgb(tmp_path):
    stored = np.full((8, 8, 3), (144, 238, 144), np.uint8)
    for kind in ("jpg", "png", "webp", "tiff"):
        path = tmp_path / f"a.{kind}"
        options = {"lossless": True} if kind == "webp" else {}
        Image.fromarray(stored).save(path, icc_profile=adobe_rgb(), quality=100, **options)
        assert np.abs(files.read_picture(path)[4, 4].astype(int) - srgb_of(144, 238, 144)).max() <= 3, kind


def test_an_srgb_profile_changes_nothing_and_a_broken_one_is_ignored(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile", srgb[:200], adobe_rgb()[:300]):
        Image.fromarray(photo()).save(tmp_path / "a.png", icc_profile=profile)
        assert np.array_equal(files.read_picture(tmp_path / "a.png"), photo())


def test_a_profile_of_another_kind_of_pixels_is_ignored(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.tiff", icc_profile=adobe_rgb())
    assert files.read_picture(tmp_path / "a.tiff")[4, 4].tolist() == [255, 0, 0]


def test_profile_and_transparency_together(tmp_path):
    stored = np.full((8, 8, 4), (144, 238, 144, 255), np.uint8)
    stored[:, 4:, 3] = 0
    Image.fromarray(stored).save(tmp_path / "a.png", icc_profile=adobe_rgb())
    shown = files.read_picture(tmp_path / "a.png")
    assert np.abs(shown[4, 1].astype(int) - srgb_of(144, 238, 144)).max() <= 2
    assert shown[4, 6].tolist() == [255, 255, 255]


def test_half_transparent_lies_over_white(tmp_path):
    Image.new("RGBA", (4, 4), (0, 100, 200, 128)).save(tmp_path / "a.png")
    assert np.abs(files.read_picture(tmp_path / "a.png")[0, 0].astype(int) - (127, 177, 227)).max() <= 1


def png16(values):
    """A PNG of 16-bit grey."""
    height, width = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bits_of_grey_are_scaled(tmp_path):
    values = np.linspace(0, 65535, 64).round().reshape(8, 8)
    (tmp_path / "a.png").write_bytes(png16(values))
    (tmp_path / "a.pgm").write_bytes(b"P5 8 8 65535\n" + values.astype(">u2").tobytes())
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "a.tiff")
    for kind in ("png", "pgm", "tiff"):
        shown = files.read_picture(tmp_path / f"a.{kind}")
        assert np.array_equal(shown[:, :, 1], values.astype(int) >> 8), kind


def test_a_thermal_picture_is_shown_as_it_is_and_said_once(tmp_path, caplog):
    picture._say_narrow.cache_clear()
    (tmp_path / "a.png").write_bytes(png16(7000 + np.arange(64).reshape(8, 8)))
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert set(files.read_picture(tmp_path / "a.png").ravel().tolist()) == {7000 >> 8}
    assert caplog.text.count("thermal") == 1


def test_floats_from_0_to_1_are_scaled_and_others_refused_in_words(tmp_path):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert np.array_equal(files.read_picture(tmp_path / "a.tiff")[:, :, 0], np.rint(values * 255))
    for wrong, said in ((values * 300, "0 to 300"), (values - 0.5, "-0.5 to 0.5"), (values * np.nan, "nan")):
        Image.fromarray(wrong.astype(np.float32)).save(tmp_path / "b.tiff")
        with pytest.raises(InputError, match=f"b.tiff.*{said}"):
            files.read_picture(tmp_path / "b.tiff")
    Image.fromarray(np.arange(64, dtype=np.int32).reshape(8, 8)).save(tmp_path / "c.tiff")
    with pytest.raises(InputError, match=r"c\.tiff.*32-bit"):
        files.read_picture(tmp_path / "c.tiff")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("lacking", [1, 2])
def test_a_jpeg_that_lacks_only_its_end_mark_is_shown(tmp_path, progressive, lacking):
    Image.fromarray(photo()).save(tmp_path / "whole.jpg", progressive=progressive)
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[:-lacking])
    assert np.array_equal(files.read_picture(tmp_path / "cut.jpg"), files.read_picture(tmp_path / "whole.jpg"))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_further_up_is_refused(tmp_path, progressive):
    Image.fromarray(photo()).save(tmp_path / "a.jpg", progressive=progressive)
    whole = (tmp_path / "a.jpg").read_bytes()
    for lacking in (3, 4, 8, 100, 500):
        (tmp_path / "a.jpg").write_bytes(whole[:-lacking])
        with pytest.raises(InputError, match=r"a\.jpg"):
            files.read_picture(tmp_path / "a.jpg")


def test_heic_is_named_with_what_to_do(tmp_path, caplog):
    if picture.has_heic():
        pytest.skip("pillow-heif is installed")
    for name in ("phone.heic", "phone.jpg"):  # phones send HEIC under any name
        (tmp_path / name).write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(200))
        with pytest.raises(InputError, match=rf"{name}.*HEIC.*pillow-heif"):
            files.read_picture(tmp_path / name)
    (tmp_path / "phone.jpg").unlink()
    with pytest.raises(InputError, match=r"1 HEIC pictures.*pillow-heif"):
        files.find_pictures(tmp_path)
    Image.fromarray(photo()).save(tmp_path / "a.png")
    caplog.clear()
    assert files.find_pictures(tmp_path) == [tmp_path / "a.png"]
    assert "HEIC" in caplog.text


@pytest.mark.parametrize("kind", ["jpg", "png"])
@pytest.mark.parametrize(
    ("size", "fit", "wanted"),
    [
        ((4500, 300), (1024, 1024), (68, 1024)),
        ((5000, 5000), (100, 50), (50, 50)),
        ((60, 40), (1024, 1024), (40, 60)),
        ((1600, 16), (64, 64), (1, 64)),
    ],
)
def test_a_large_picture_is_shrunk_to_fit_and_never_squeezed(tmp_path, kind, size, fit, wanted):
    Image.new("RGB", size, (10, 200, 30)).save(tmp_path / f"a.{kind}")
    shown = files.read_picture(tmp_path / f"a.{kind}", fit=fit)
    assert shown.shape == (*wanted, 3)
    assert np.abs(shown.astype(int) - (10, 200, 30)).max() <= 2


def test_damaged_exif_takes_nothing_from_the_picture(tmp_path):
    Image.fromarray(photo()).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert np.array_equal(files.read_picture(tmp_path / "a.png"), photo())


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png"):
        files.read_picture(tmp_path / "a.png")


def test_an_animation_is_its_first_picture(tmp_path):
    first, second = Image.new("RGB", (20, 20), "red"), Image.new("RGB", (20, 20), "blue")
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    assert files.read_picture(tmp_path / "a.png")[0, 0].tolist() == [255, 0, 0]


def test_whatever_the_bytes_are_it_is_a_picture_or_an_input_error(tmp_path):
    buffer, generator = io.BytesIO(), np.random.default_rng(2)
    Image.fromarray(photo(32)).save(buffer, "JPEG")
    for number in range(150):
        data = bytearray(buffer.getvalue()[: generator.integers(2, buffer.tell())])
        for place in generator.integers(0, len(data), 3):
            data[place] = generator.integers(0, 256)
        (tmp_path / f"{number}.jpg").write_bytes(data)
        with contextlib.suppress(InputError):
            files.read_picture(tmp_path / f"{number}.jpg")
