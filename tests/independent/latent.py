"""From the chunks of a frame to its values, its latent and its picture (bitstream.md, sections 2 to 7, 9, 10, 12)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from tests.independent.motion import Motion
from tests.independent.packet import Region
from tests.independent.rans import SymbolDecoder, Tables
from tests.independent.refusal import RefusedError

Plane = NDArray[np.float32]
Integers = NDArray[np.int64]

CHANNELS = 96
MOST_VALUE = 2047


@dataclass(frozen=True)
class Pass:
    """One line of the table of passes."""

    group: int
    start: int
    stop: int
    stride: int
    phases: tuple[tuple[int, int], ...]
    seen: int


PASSES = (
    Pass(0, 0, 6, 4, ((0, 0),), 0),
    Pass(0, 0, 6, 4, ((2, 2),), 6),
    Pass(0, 0, 6, 4, ((0, 2), (2, 0)), 6),
    Pass(0, 0, 6, 2, ((1, 1),), 6),
    Pass(0, 0, 6, 2, ((0, 1), (1, 0)), 6),
    Pass(1, 6, 24, 2, ((0, 0), (1, 1)), 6),
    Pass(1, 6, 24, 2, ((0, 1), (1, 0)), 24),
    Pass(2, 24, 48, 2, ((0, 0), (1, 1)), 24),
    Pass(2, 24, 48, 2, ((0, 1), (1, 0)), 48),
    Pass(3, 48, 96, 2, ((0, 0), (1, 1)), 48),
    Pass(3, 48, 96, 2, ((0, 1), (1, 0)), 96),
)


@dataclass(frozen=True)
class Known:
    """A reference: the latent that was decoded, its level of each position, and the same for the networks."""

    latent: Plane
    levels: Integers
    seen: Integers


@dataclass(frozen=True)
class Decoded:
    """What some layers of a frame decode to."""

    symbols: tuple[tuple[int, ...], ...]
    values: Integers
    latent: Plane
    q: int
    levels: Integers
    has_copies: bool = False

    def known(self) -> Known:
        """As the reference of a later frame."""
        seen = self.levels if self.has_copies else np.full_like(self.levels, self.q)
        return Known(self.latent, self.levels, seen)


def moved(known: Known, blocks: Motion) -> Known:
    """A reference with each position taken from where it was; from the edge, if that was outside."""
    _, h, w = known.latent.shape
    if set(blocks) != {(row, column) for row in range(-(-h // 4)) for column in range(-(-w // 4))}:
        raise RefusedError("reference", "another size")
    latent, levels = np.empty_like(known.latent), np.empty_like(known.levels)
    for row in range(h):
        for column in range(w):
            down, right = blocks[row // 4, column // 4]
            from_row, from_column = max(0, min(h - 1, row + down)), max(0, min(w - 1, column + right))
            latent[:, row, column] = known.latent[:, from_row, from_column]
            levels[row, column] = known.levels[from_row, from_column]
    return replace(known, latent=latent, levels=levels, seen=levels)


def positions(coded: Pass, height: int, width: int) -> tuple[Integers, Integers]:
    """Rows and columns of a pass in the order in which its network gives them."""
    s = coded.stride
    order = [
        (s * i + row, s * j + column)
        for i in range(height // s)
        for row, column in coded.phases
        for j in range(width // s)
    ]
    rows, columns = np.array(order, np.int64).T
    return rows, columns


def levels_of(h: int, w: int, q: int, region: Region | None) -> Integers:
    """The level of each position."""
    levels = np.full((h, w), q, np.int64)
    if region is not None:
        rows, columns = np.mgrid[:h, :w]
        inside = (rows >= region.top) & (rows <= region.bottom) & (columns >= region.left) & (columns <= region.right)
        levels[~inside] = max(0, q - region.drop)
    return levels


def coarse(values: Integers) -> Integers:
    """What the networks of passes 5 to 10 see of a value."""
    halves: Integers = np.clip(values >> 1, -511, 511)
    return halves


def eighths(symbol: int, table: int) -> int:
    """What a symbol adds to the mean."""
    less = 3 if table < 8 else 2 if table < 16 else 1 if table < 26 else 0
    return 8 * symbol - ((symbol > 0) - (symbol < 0)) * less


class Bundle:
    """The files that publisher and receiver share."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = json.loads((folder / "manifest.json").read_text())
        if manifest["format"] != 3:
            raise ValueError("another format of bundle")
        self.digests: dict[str, str] = manifest["files"]
        with np.load(folder / "tables.npz") as arrays:
            self.tables = Tables(arrays["radius"], arrays["frequency"])
            self.reference_tables = self.tables
            if "reference_radius" in arrays and "reference_frequency" in arrays:
                self.reference_tables = Tables(arrays["reference_radius"], arrays["reference_frequency"])
            self.gain: Plane = arrays["gain"]
            self.inverse_gain: Plane = arrays["inverse_gain"]
        self.has_inter = all(f"context_ref_{n:02d}.onnx" in self.digests for n in range(11))
        if self.has_inter and self.reference_tables.first == len(self.reference_tables.radius):
            raise ValueError("the tables of inter frames code nothing")
        self.session = cache(self.open_session)

    def backgrounds(self) -> list[str]:
        """Names of the files of its background pictures."""
        names = [f"background_{n}.packet" for n in range(8)]
        return list(takewhile(self.digests.__contains__, names)) if self.has_inter else []

    def check_files(self) -> None:
        """Compare each file with its digest."""
        for name, digest in self.digests.items():
            if hashlib.sha256((self.folder / name).read_bytes()).hexdigest() != digest:
                raise ValueError(f"{name} is another file")

    def id(self, *, backgrounds: bool = True) -> int:
        """The 16 bits that packets name the bundle by: of the networks, the tables and the background pictures."""
        names = [*(f"context_{n:02d}.onnx" for n in range(11)), "tables.npz"]
        if self.has_inter:
            names += [f"context_ref_{n:02d}.onnx" for n in range(11)]
        if backgrounds:
            names += self.backgrounds()
        joined = "".join(self.digests[name] for name in names)
        return int.from_bytes(hashlib.sha256(joined.encode("ascii")).digest()[:2], "little")

    def digest(self) -> str:
        """The SHA-256 of the whole bundle, in hex, that a birth tells."""
        return hashlib.sha256(json.dumps(self.digests, sort_keys=True).encode()).hexdigest()

    def open_session(self, name: str) -> Any:
        """A network on one thread of the CPU."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(self.folder / name, options, providers=["CPUExecutionProvider"])

    def run(self, name: str, inputs: dict[str, NDArray[Any]], outputs: list[str]) -> list[Plane]:
        """Run a network with batch size 1."""
        feed = {key: np.ascontiguousarray(value, np.float32)[None] for key, value in inputs.items()}
        return [output[0] for output in self.session(name).run(outputs, feed)]


class Grid:
    """The values of one frame while it is decoded, on planes of whole multiples of 4."""

    def __init__(
        self, levels: Integers, gain: Plane, reference: Known | None, copied: NDArray[np.bool_] | None
    ) -> None:
        self.h, self.w = levels.shape
        self.height, self.width = 4 * -(-self.h // 4), 4 * -(-self.w // 4)
        self.values = np.zeros((CHANNELS, self.height, self.width), np.int64)
        self.change = np.zeros_like(self.values)
        self.level = self.whole(np.stack([levels, 255 - levels]))
        self.reference = reference
        if reference is not None:
            if reference.latent.shape != gain.shape:
                raise RefusedError("reference", "another size")
            eighth = np.rint(reference.latent * gain * np.float32(8))
            self.own = self.whole(np.clip(eighth, -MOST_VALUE, MOST_VALUE))
            self.reference_level = self.whole(reference.seen[None])
        self.copied = np.zeros((self.height, self.width), bool)
        if copied is not None:
            self.copied[: self.h, : self.w] = copied

    def whole(self, planes: NDArray[Any]) -> Integers:
        """Planes [n, h, w] with zeros around them where there is no picture."""
        full = np.zeros((len(planes), self.height, self.width), np.int64)
        full[:, : self.h, : self.w] = planes
        return full

    def inputs(self, number: int, coded: Pass) -> dict[str, NDArray[Any]]:
        """What the network of a pass is given."""
        known = self.values[: coded.seen]
        fine = number <= 4
        feed = {"values" if fine else "coarse": np.concatenate([self.level, known if fine else coarse(known)])}
        if self.reference is not None:
            feed["own"] = self.own[coded.start : coded.stop]
            feed["reference_level"] = self.reference_level
            if not fine:
                feed["moved"] = coarse(np.abs(self.change[: coded.start]))
            elif number > 0:
                feed["change"] = self.change[:6]
        return feed

    def put(self, coded: Pass, rows: Integers, columns: Integers, values: Integers) -> None:
        """Make values [n, positions] known."""
        values = np.clip(values, -MOST_VALUE, MOST_VALUE)
        if self.copied.any():
            own = self.own[coded.start : coded.stop, rows, columns]
            values = np.where(self.copied[rows, columns], own, values)
        self.values[coded.start : coded.stop, rows, columns] = values
        if self.reference is not None:
            moved = values - self.own[coded.start : coded.stop, rows, columns]
            self.change[coded.start : coded.stop, rows, columns] = np.clip(moved, -MOST_VALUE, MOST_VALUE)


def decode(
    bundle: Bundle,
    chunks: tuple[bytes, ...],
    total_layers: int,
    size: tuple[int, int],
    q: int,
    region: Region | None = None,
    reference: Known | None = None,
    copied: NDArray[np.bool_] | None = None,
) -> Decoded:
    """Decode the first layers of a frame of `size` (width, height)."""
    if reference is not None and not bundle.has_inter:
        raise RefusedError("reference", "no networks for inter frames")
    h, w = -(-size[1] // 16), -(-size[0] // 16)
    levels = levels_of(h, w, q, region)
    gain = np.moveaxis(bundle.gain[levels], -1, 0)
    tables = bundle.tables if reference is None else bundle.reference_tables
    grid = Grid(levels, gain, reference, copied)
    if reference is not None and copied is not None:
        levels = np.where(copied, reference.levels, levels)
        if copied.all():
            if any(chunks):
                raise RefusedError("symbols", "though all is copied")
            return Decoded((), grid.own[:, :h, :w], reference.latent, q, levels, True)
    decoder = SymbolDecoder(chunks, tables)
    symbols: list[tuple[int, ...]] = []
    for number, coded in enumerate(PASSES):
        name = f"context_{number:02d}.onnx" if reference is None else f"context_ref_{number:02d}.onnx"
        outputs = bundle.run(name, grid.inputs(number, coded), ["mean", "scale"])
        rows, columns = positions(coded, grid.height, grid.width)
        inside = (rows < h) & (columns < w)
        mean, scale = (o.reshape(coded.stop - coded.start, -1)[:, inside].astype(np.int64) for o in outputs)
        if coded.group < len(chunks):
            if reference is not None and coded.group == 0:
                scale = np.maximum(scale, tables.first)
            where = (scale >= tables.first) & ~grid.copied[rows[inside], columns[inside]]
            used = scale[where].tolist()
            read = decoder.read_pass(used)
            mean[where] += np.array([eighths(s, k) for s, k in zip(read, used, strict=True)], np.int64)
            symbols.append(tuple(read))
        grid.put(coded, rows[inside], columns[inside], mean)
    if len(chunks) == total_layers:
        decoder.finish()
    values = grid.values[:, :h, :w]
    latent = values.astype(np.float32) / np.float32(8) / gain
    if reference is not None and copied is not None:
        latent = np.where(copied, reference.latent, latent)
    return Decoded(tuple(symbols), values, latent, q, levels, copied is not None)


def enlarged(mask: NDArray[Any]) -> Plane:
    """A mask, or shares, [h, w] made 16 times larger by bilinear interpolation."""
    result = mask.astype(np.float64)
    for axis in (0, 1):
        count = result.shape[axis]
        at = np.clip((np.arange(16 * count) + 0.5) / 16 - 0.5, 0, count - 1)
        low = np.floor(at).astype(int)
        part = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        high = np.minimum(low + 1, count - 1)
        result = result.take(low, axis) * (1 - part) + result.take(high, axis) * part
    return result.astype(np.float32)


def drawn_levels(levels: Integers) -> list[int]:
    """At which levels a picture is drawn, the lowest first."""
    there = sorted({int(level) for level in levels.flat})
    if len(there) <= 2:
        return there
    grid = [0, 32, 64, 96, 128, 192, 255]
    beside = {max(anchor for anchor in grid if anchor <= level) for level in there}
    return sorted(beside | {min(anchor for anchor in grid if anchor >= level) for level in there})


def draw(bundle: Bundle, decoded: Decoded, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture [3, height, width], RGB, of a latent. Without tiles."""

    def at_level(q: int) -> Plane:
        scaled = decoded.latent * (bundle.gain[q] * bundle.inverse_gain[q])[:, None, None]
        quality = np.full((1, 1, 1), q / 255)
        return bundle.run("decoder.onnx", {"latent": scaled, "quality": quality}, ["picture"])[0]

    before, *others = drawn_levels(decoded.levels)
    picture = at_level(before)
    for level in others:
        share = np.clip((decoded.levels - before) / (level - before), 0, 1)
        picture = picture + enlarged(share) * (at_level(level) - picture)
        before = level
    whole = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return whole[:, : size[1], : size[0]]
