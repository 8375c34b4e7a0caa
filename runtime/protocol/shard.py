"""Shard of a fleet's streams: which of N receivers takes which streams, without asking anybody.

Rendezvous hashing (Thaler and Ravishankar, 1998), also called highest random weight: each shard has a weight for each
stream, and the largest weight takes it. One shard more takes 1/(N+1) of the streams, and no other stream moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from edgesem.errors import UsageError
from runtime.protocol.topics import Topics

MOST_SHARDS = 1024


@dataclass(frozen=True)
class Shard:
    """Shard `index` of `count`, counted from 0. UsageError for numbers that cannot be."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MOST_SHARDS or not 0 <= self.index < self.count:
            raise UsageError(
                f"shard {self.index}/{self.count}: write I/N, N from 1 to {MOST_SHARDS} and I from 0 to N - 1"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`I/N`, such as 0/4 for the first of four. UsageError for anything else."""
        parts = text.split("/")
        if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) <= 6 for part in parts):
            raise UsageError(f"shard {text[:40]!r}: write I/N, such as 0/4 for the first of four receivers")
        return cls(int(parts[0]), int(parts[1]))

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def owns(self, topics: Topics) -> bool:
        """Whether this shard takes the stream."""
        return shard_of(topics, self.count) == self.index


def shard_of(topics: Topics, count: int) -> int:
    """The index, 0 to `count` - 1, of the shard that takes a stream: the one with the largest `weight`, of equal ones
    the first."""
    name = topics.name.encode()
    return max(range(count), key=lambda index: weight(index, name))


def weight(index: int, name: bytes) -> int:
    """Weight of a shard for the stream called `name` (UTF-8 of SITE/DEVICE/STREAM), 0 to 2^64 - 1.

    The BLAKE2b hash (RFC 7693, no key, digest of 8 bytes) of the shard's index in decimal digits, a space, and the
    name, read as a big-endian integer.
    """
    return int.from_bytes(blake2b(b"%d %b" % (index, name), digest_size=8).digest(), "big")
