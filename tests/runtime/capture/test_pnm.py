"""Pictures on standard input: every kind of PNM of 8 bits, and a clear error for anything else."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import InputError
from runtime.capture.pnm import read_pnm


def ppm(image, comment=b" "):
    height, width, _ = image.shape
    return b"P6" + comment + b"%d %d\n255\n" % (width, height) + image.tobytes()


@given(
    st.lists(st.tuples(st.integers(64, 80), st.integers(64, 80)), max_size=3),
    st.sampled_from([b" ", b"\n", b"\r\n", b"\t "]),
    st.integers(0, 20000),
)
def test_piped_pictures_come_as_they_are_and_a_cut_one_ends_them(sizes, space, cut_bytes):
    pictures = [
        np.arange(width * height * 3, dtype=np.uint32).astype(np.uint8).reshape(height, width, 3)
        for width, height in sizes
    ]
    assert [image.tobytes() for image, _ in read_pnm(io.BytesIO(b"".join(ppm(p, space) for p in pictures)))] == [
        picture.tobytes() for picture in pictures
    ]
    if pictures:
        whole = ppm(pictures[-1], space)
        left = whole[: max(len(whole) - 1 - cut_bytes % len(whole), 0)]
        came = []
        try:
            came.extend(read_pnm(io.BytesIO(left)))
        except InputError:
            assert len(left) < 64
        assert came == []


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda data: b"P6 " + data)))
def test_any_bytes_are_pictures_or_an_input_error(data):
    try:
        for image, _ in read_pnm(io.BytesIO(data)):
            assert image.shape[2] == 3
    except InputError:
        pass


@pytest.mark.parametrize(
    "header", [b"P6 99999 99999 255\n", b"P6 63 64 255\n", b"P7 64 64 255\n", b"P6 64 64 65535\n", b"P6" + b" " * 5000]
)
def test_a_header_is_refused_before_anything_is_read_for_it(header):
    stream = io.BytesIO(header + b" " * 5000)
    with pytest.raises(InputError):
        next(read_pnm(stream))
    assert stream.tell() <= max(len(header), 4097)


def plain(magic, image, largest=255):
    """A picture in decimal numbers, in lines of odd lengths."""
    numbers = [str(int(value)) for value in image.reshape(-1)]
    space = "" if magic == "P1" else " "
    text = "\n".join(space.join(numbers[at : at + 17]) for at in range(0, len(numbers), 17))
    size = f"{image.shape[1]} {image.shape[0]}" + ("" if magic == "P1" else f" {largest}")
    return f"{magic}\n{size}\n{text}\n".encode()


def test_every_kind_of_pnm_of_8_bits_is_read():
    generator = np.random.default_rng(1)
    colour = generator.integers(0, 256, (66, 70, 3), np.uint8)
    grey, black = generator.integers(0, 256, (66, 70), np.uint8), generator.integers(0, 2, (66, 70), np.uint8)
    raw = {
        "P4": b"P4 70 66\n" + np.packbits(black, axis=1).tobytes(),
        "P5": b"P5 70 66 255\n" + grey.tobytes(),
        "P6": b"P6 70 66 255\n" + colour.tobytes(),
        "P1": plain("P1", black),
        "P2": plain("P2", grey),
        "P3": plain("P3", colour),
    }
    shown = [image for image, _ in read_pnm(io.BytesIO(b"".join(raw.values())))]
    three = lambda values: np.repeat(values[:, :, None], 3, axis=2)  # noqa: E731
    wanted = [three((1 - black) * 255), three(grey), colour] * 2
    assert len(shown) == 6
    assert all(np.array_equal(a, b) for a, b in zip(shown, wanted, strict=True))


@pytest.mark.parametrize(
    "header",
    [
        b"P5\n# CREATOR: GIMP\n70 66\n255\n",
        b"P5 #a\n#b\n 70# width\n 66 #255\n255\n",
        b"P5\r\n70\t66\r\n255\n",
        b"P5\n" + b"#" * 2000 + b"\n70 66 255\n",
    ],
)
def test_comments_in_a_header_are_skipped(header):
    grey = np.random.default_rng(1).integers(0, 256, (66, 70), np.uint8)
    ((image, _),) = read_pnm(io.BytesIO(header + grey.tobytes()))
    assert np.array_equal(image[:, :, 1], grey)


def test_fewer_bits_are_scaled():
    grey = np.arange(66 * 70).reshape(66, 70) % 16
    for data in (b"P5 70 66 15\n" + grey.astype(np.uint8).tobytes(), plain("P2", grey, 15)):
        ((image, _),) = read_pnm(io.BytesIO(data))
        assert np.array_equal(image[:, :, 2], grey * 17)


@pytest.mark.parametrize("body", [b"300 " * 64 * 64, b"1 x " * 64 * 64, b"-1 " * 64 * 64, b"1 " * (64 * 64 + 1)])
def test_numbers_that_are_none_are_refused(body):
    with pytest.raises(InputError, match="numbers"):
        list(read_pnm(io.BytesIO(b"P2 64 64 255\n" + body)))
