"""Shards: every stream has one, shards have their fair part, and one shard more moves only what it takes itself."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import UsageError
from runtime.protocol.shard import Shard, shard_of, weight
from runtime.protocol.topics import Topics

FLEETS = st.integers(0, 2**32).map(lambda seed: [Topics("site", f"cam-{seed}-{n}", "main") for n in range(600)])


@given(FLEETS, st.integers(1, 12))
def test_one_shard_more_takes_its_part_and_moves_nothing_else(fleet, count):
    before, after = [shard_of(one, count) for one in fleet], [shard_of(one, count + 1) for one in fleet]
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) <= {count}  # only to the new one
    part = 1 / (count + 1)
    assert abs(len(moved) / len(fleet) - part) < 6 * math.sqrt(part * (1 - part) / len(fleet))


@given(st.lists(st.text("abcäß字 .-_0", min_size=1, max_size=20), min_size=3, max_size=3), st.integers(1, 64))
def test_each_stream_has_exactly_one_shard(parts, count):
    topics = Topics(*parts)
    owners = [index for index in range(count) if Shard(index, count).owns(topics)]
    assert owners == [shard_of(topics, count)]


def test_shards_have_equal_parts():
    parts = Counter(shard_of(Topics("home", f"cam{n}", "main"), 8) for n in range(8000))
    assert set(parts) == set(range(8))
    assert max(abs(part - 1000) for part in parts.values()) < 150  # five standard deviations


def test_the_hash_is_the_one_of_the_specification():
    """docs/protocol.md, section 2.1: others compute the same."""
    streams = [Topics("home", "gate", "main"), Topics("home", "door", "main"), Topics("büro", "flur", "1")]
    assert [[shard_of(one, count) for count in (2, 3, 4, 10)] for one in streams] == [
        [1, 1, 1, 7],
        [0, 0, 0, 0],
        [1, 1, 3, 5],
    ]
    assert weight(0, b"home/gate/main") == 0x7D7123FADD337191  # printf '0 home/gate/main' | b2sum -l 64


@pytest.mark.parametrize("text", ["", "1", "4/4", "0/0", "-1/4", "0/1025", "1/2/3", "a/b", "0/4 ", "٠/٤", "9999999/1"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UsageError, match="write I/N"):
        Shard.parse(text)


def test_a_shard_is_written_as_it_is_read():
    assert str(Shard.parse("3/16")) == "3/16"
