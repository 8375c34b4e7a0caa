"""Training data of the semantic head: squares cut from photographs, and the teacher's answers, kept between runs.

The teacher does not see the codec, so a new codec needs the squares encoded again, and nothing else.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgesem.bundle.manifest import digest_of
from edgesem.errors import InputError
from edgesem.files import find_pictures, read_picture, write_whole
from edgesem.quality.judges import Judge
from edgesem.quality.metrics import Frame

SIDE = 256
_PLAN = 1  # raise it when squares are cut in another way: the teacher is then asked again
_LEAST_SHARE = 0.4  # of a picture's shorter side
_HELD_OUT_OF = 10  # each tenth picture is never learned from


@dataclass(frozen=True)
class Photo:
    """A picture's file and its SHA-256."""

    path: Path
    digest: str

    @property
    def held_out(self) -> bool:
        """Whether it is for judging alone. By its content, so a longer list changes nothing."""
        return int(self.digest[:8], 16) % _HELD_OUT_OF == 0


def find_photos(folders: Sequence[Path]) -> list[Photo]:
    """The pictures of all folders, each once."""
    paths = [path for folder in folders for path in find_pictures(folder)]
    return list({photo.digest: photo for photo in (Photo(path, digest_of(path)) for path in paths)}.values())


def squares(photo: Photo, count: int) -> list[Frame]:
    """Squares of one picture, uint8 [256, 256, 3]: the whole of it, pressed, then pieces; every other one mirrored.

    Always the same ones of the same picture.
    """
    image = Image.fromarray(read_picture(photo.path))
    random = np.random.default_rng(int(photo.digest[:15], 16))
    found = []
    for index in range(count):
        box = (0.0, 0.0, float(image.width), float(image.height))
        if index > 1:
            side = min(image.size) * random.uniform(_LEAST_SHARE, 1)
            left, top = random.uniform(0, image.width - side), random.uniform(0, image.height - side)
            box = (left, top, left + side, top + side)
        piece = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box))
        found.append(np.ascontiguousarray(piece[:, ::-1] if index % 2 else piece))
    return found


class Answers:
    """Store of a teacher's answers for the squares of each picture, in a file; those that are missing are made."""

    def __init__(self, path: Path, teacher: Judge[npt.NDArray[np.float32]], count: int) -> None:
        self._path, self._teacher, self._count = path, teacher, count
        self._tag = hashlib.sha256(f"{_PLAN} {teacher.version} {count}".encode()).hexdigest()[:16]
        self._known: dict[str, npt.NDArray[np.float16]] = {}
        if path.exists():
            try:
                with np.load(path, allow_pickle=False) as stored:
                    self._known = {name: stored[name] for name in stored.files}
            except (OSError, ValueError) as error:
                raise InputError(f"{path} is damaged, remove it: {error}") from error

    def of(self, photos: Sequence[Photo], progress: Callable[[float], None]) -> npt.NDArray[np.float32]:
        """float32 [pictures, squares, outputs], in the order of `photos`."""
        missing = [photo for photo in photos if self._key(photo) not in self._known]
        for index, photo in enumerate(missing):
            said = [self._teacher.predict(square) for square in squares(photo, self._count)]
            self._known[self._key(photo)] = np.stack(said).astype(np.float16)
            progress((index + 1) / len(missing))
            if index % 100 == 99:
                self._save()
        if missing:
            self._save()
        return np.stack([self._known[self._key(photo)] for photo in photos]).astype(np.float32)

    def _key(self, photo: Photo) -> str:
        return f"{self._tag}-{photo.digest[:24]}"

    def _save(self) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self._known)  # type: ignore[arg-type]
        write_whole(self._path, buffer.getvalue())
