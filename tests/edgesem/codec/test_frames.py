"""Frames in other forms: each is refused with a line of code, and that line makes a frame of it."""

import copy
import io
import pathlib
import pickle
import re

import numpy
import numpy as np
import PIL.Image
import pytest

import edgesem
import edgesem.files
from edgesem.errors import FrameError, UsageError

PICTURE = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)


class Tensor:
    """Like a tensor of another library: not an array, and can be made one."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


@pytest.fixture(scope="module")
def codec():
    with edgesem.load() as opened:
        yield opened


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    PIL.Image.fromarray(PICTURE).save(path)
    return path


def encoded():
    buffer = io.BytesIO()
    PIL.Image.fromarray(PICTURE).save(buffer, "PNG")
    return buffer.getvalue()


FORMS = {
    "PIL": lambda path: PIL.Image.fromarray(PICTURE),
    "PIL, grey": lambda path: PIL.Image.fromarray(PICTURE[:, :, 0]),
    "path": lambda path: path,
    "text of a path": lambda path: str(path),
    "bytes of a file": lambda path: encoded(),
    "list": lambda path: PICTURE.tolist(),
    "tensor, colours first, floats": lambda path: Tensor(PICTURE.transpose(2, 0, 1).astype(np.float32) / 255),
    "grey": lambda path: PICTURE[:, :, 0],
    "grey with an axis": lambda path: PICTURE[:, :, :1],
    "alpha": lambda path: np.dstack([PICTURE, PICTURE[:, :, :1]]),
    "floats to 1": lambda path: PICTURE / 255,
    "floats to 255": lambda path: PICTURE.astype(np.float32),
    "16 bits": lambda path: PICTURE.astype(np.uint16) << 8,
    "negative": lambda path: PICTURE.astype(int) - 5,
    "bits": lambda path: PICTURE > 100,
    "a batch": lambda path: PICTURE[None],
}


@pytest.mark.parametrize("make", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("method", ["encode", "analyze"])
def test_the_error_has_the_line_that_converts(codec, photo, make, method):
    names = {"frame": make(photo), "numpy": numpy, "PIL": PIL, "io": io, "pathlib": pathlib, "edgesem": edgesem}
    call = codec.analyze if method == "analyze" else lambda frame: codec.encode(frame, quality=0.2)
    for _ in range(4):
        with pytest.raises(FrameError) as caught:
            call(names["frame"])
        line = re.search(r"(frame = .*)$", str(caught.value))
        exec(line[1], names)
        if isinstance(names["frame"], np.ndarray) and names["frame"].dtype == np.uint8 and names["frame"].ndim == 3:
            break
    assert call(names["frame"])
    assert names["frame"].shape == PICTURE.shape


@pytest.mark.parametrize(
    "frame",
    [None, 5, object(), np.zeros((48, 64, 2), np.uint8), np.zeros(5), np.zeros((2, 48, 64, 3), np.uint8), PICTURE[:3]],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_picture_is_refused_too(codec, frame):
    with pytest.raises(FrameError):
        codec.analyze(frame)


@pytest.mark.parametrize("again", [lambda codec: pickle.loads(pickle.dumps(codec)), copy.copy, copy.deepcopy])
def test_a_codec_is_pickled_and_copied(codec, again):
    data = codec.encode(PICTURE, quality=0.3)
    with again(codec) as other:
        assert other.encode(PICTURE, quality=0.3) == data
        assert np.array_equal(other.decode(data), codec.decode(data))
    assert np.array_equal(codec.decode(data), codec.decode(data))  # the first one is still open


def test_a_codec_that_cannot_be_pickled_says_why():
    codec = edgesem.load()
    runner = codec._graphs.runner("encoder.onnx")
    codec.use("encoder", runner)
    with pytest.raises(UsageError, match="lent"):
        pickle.dumps(codec)
    codec.close()
    with pytest.raises(UsageError, match="closed"):
        copy.copy(codec)


def test_int8_is_used_where_there_is_such_a_form():
    with edgesem.load(precision="int8") as codec:
        picture = codec.decode(codec.encode(PICTURE, quality=0.5), steps=1)
        assert picture.shape == PICTURE.shape
    from edgesem.bundle.runner import choose

    chosen = {part: choose(codec.bundle, part, "int8") for part in ("encoder", "decoder")}
    assert chosen["encoder"].graph == "encoder.int8.onnx"
    assert chosen["decoder"].graph == "decoder.onnx"
    assert "no decoder.int8.onnx" in chosen["decoder"].reason
