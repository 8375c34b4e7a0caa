"""Block of the catalogue: what a search reads of up to 100 frames, in one row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgesem.errors import InputError
from edgesem.semantics.embedding import DIMENSIONS, EMBEDDING_BYTES, Vector

BLOCK_FRAMES = 100
_CHUNK = 2048
"""Embeddings that are compared at a time: few enough for the processor's cache, and for OpenBLAS to use one thread. Its
threads wait for each other busily: on a machine that does other things, they took 60 times as long."""
_SIGNS = 0x88
"""Both half bytes' highest bits: with them turned, -8 to 7 become 0 to 15."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Block:
    """The bytes of one row; all numbers are little-endian.

    streams: int32, numbers of the streams. times: float64, capture in Unix seconds. scales: float32, one over the
    length of the embedding's numbers. embeddings: 64 bytes each, as packets have them.
    """

    streams: bytes = b""
    times: bytes = b""
    scales: bytes = b""
    embeddings: bytes = b""

    @property
    def frames(self) -> int:
        """How many frames are in it."""
        return len(self.embeddings) // EMBEDDING_BYTES

    def check(self) -> None:
        """InputError if the parts do not fit together."""
        count = self.frames
        parts = {4 * count: (self.streams, self.scales), 8 * count: (self.times,)}
        parts[EMBEDDING_BYTES * count] = (self.embeddings,)
        if count > BLOCK_FRAMES or any(len(part) != size for size, all_ in parts.items() for part in all_):
            raise InputError("a block of the catalogue is damaged")

    def with_frames(self, streams: list[int], times: list[float], embeddings: list[bytes]) -> Block:
        """The block with more frames; each embedding is 64 bytes."""
        packed = b"".join(embeddings)
        return Block(
            self.streams + np.asarray(streams, "<i4").tobytes(),
            self.times + np.asarray(times, "<f8").tobytes(),
            self.scales + scales_of(np.frombuffer(packed, np.uint8).reshape(-1, EMBEDDING_BYTES)).tobytes(),
            self.embeddings + packed,
        )


def scales_of(embeddings: Bytes) -> npt.NDArray[np.float32]:
    """One over the length of the numbers of each embedding, uint8 [N, 64]; 0 for one of zeros."""
    turned = embeddings ^ _SIGNS
    low, high = (turned & 15).astype(np.float32) - 8, (turned >> 4).astype(np.float32) - 8
    length = np.sqrt((low**2 + high**2).sum(axis=1))
    return np.asarray(np.where(length > 0, 1 / np.maximum(length, 1e-9), 0), "<f4")


def similarities(embeddings: Bytes, scales: npt.NDArray[np.float32], query: Vector) -> npt.NDArray[np.float32]:
    """Cosine similarity of each embedding, uint8 [N, 64], with a query, float32 [128] of length 1: float32 [N].

    A byte holds two numbers, low + 16 high. low * a + high * b is byte * a + high * (b - 16 a), so that bytes need not
    be taken apart before they are multiplied.
    """
    assert query.shape == (DIMENSIONS,)
    of_byte = np.ascontiguousarray(query[0::2], np.float32)
    of_high = np.ascontiguousarray(query[1::2] - 16 * query[0::2], np.float32)
    found = np.empty(len(embeddings), np.float32)
    for start in range(0, len(embeddings), _CHUNK):
        turned = embeddings[start : start + _CHUNK] ^ _SIGNS
        fits = turned.astype(np.float32) @ of_byte + (turned >> 4).astype(np.float32) @ of_high
        found[start : start + _CHUNK] = fits
    found -= 8 * float(query.sum())
    found *= scales
    return found
