"""Search bench: how long a search by words takes in a catalogue of many made-up frames.

A frame's embedding is that of one of the bundle's own pictures, which its camera sees always, and noise.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgesem.errors import InputError
from edgesem.semantics.embedding import DIMENSIONS, EMBEDDING_BYTES, Labels
from runtime.bench.fleet.process_use import use_of
from runtime.catalogue.block import BLOCK_FRAMES, scales_of, similarities
from runtime.catalogue.catalogue import Catalogue
from runtime.catalogue.search import search

if TYPE_CHECKING:
    from psycopg import Connection

_BEGIN_S = 1_700_000_000.0
_CAMERAS = 1000
_NOISE = 0.5
"""Length of the noise, where that of a picture's embedding is 1."""
_LEVELS, _CLIP = 7, 2.4
_PACKET_BYTES = 2914
_PART = 100 * BLOCK_FRAMES

Bytes = npt.NDArray[np.uint8]


def bench_search(
    catalogue: Catalogue,
    labels: Labels,
    queries: Sequence[str],
    *,
    frames: int,
    rounds: int,
    progress: Callable[[float], None],
) -> dict[str, Any]:
    """Fill an empty catalogue with `frames` made-up frames and search it `rounds` times for each query.

    Returns times in ms, median and p95: of a search by words, of one in a fifth of the time, of one stream; and, as a
    measure of this machine, of comparing as many embeddings that are in memory already. `cpu_ms` is what a search of
    all takes of processors here, with the server's part if it is on this machine. Raises InputError if there are frames
    in the catalogue.
    """
    if catalogue.rows("select 1 from edgesem.frames limit 1"):
        raise InputError(f"{catalogue.database.shown} holds frames: a bench fills an empty one")
    started_s = time.monotonic()
    every = _fill(catalogue, labels, frames, progress)
    filled_s = time.monotonic() - started_s
    asked = [labels.query(text) for text in queries]
    last_s = _BEGIN_S + frames
    kinds: dict[str, dict[str, Any]] = {
        "all": {},
        "a_fifth_of_the_time": {"since_s": last_s - frames / 5},
        "one_stream": {"stream": _stream(7)},
    }
    times: dict[str, list[float]] = {name: [] for name in (*kinds, "in_memory")}
    among: dict[str, int] = {}
    scales = scales_of(every)
    search(catalogue, asked[0])  # connections are made
    cpu_s = 0.0
    for _ in range(rounds):
        for query in asked:
            for name, window in kinds.items():
                used_s, begun_s = _cpu_s(catalogue), time.perf_counter()
                among[name] = search(catalogue, query, **window)[1]
                times[name].append(time.perf_counter() - begun_s)
                cpu_s += _cpu_s(catalogue) - used_s if name == "all" else 0.0
            begun_s = time.perf_counter()
            fits = similarities(every, scales, query.vector)
            np.argpartition(-fits, 80)
            times["in_memory"].append(time.perf_counter() - begun_s)
            among["in_memory"] = len(fits)
    return {
        "frames": frames,
        "cameras": _CAMERAS,
        "filled_s": round(filled_s, 1),
        "tables_bytes": catalogue.size_bytes,
        "searches": len(times["all"]),
        "cores": os.cpu_count(),
        "cpu_ms": round(1000 * cpu_s / len(times["all"])),
        "load": round(os.getloadavg()[0], 1),
        "ms": {
            name: {
                "p50": round(1000 * statistics.median(taken), 1),
                "p95": round(1000 * float(np.quantile(taken, 0.95)), 1),
                "compared": among[name],
            }
            for name, taken in times.items()
        },
    }


def _cpu_s(catalogue: Catalogue) -> float:
    """Processor time of this process, and of the server's for it where they are on this machine."""
    rows = catalogue.rows("select pid from pg_stat_activity where application_name = 'edgesem' order by pid")
    servers = [pid for (pid,) in rows if _is_postgres(pid)]
    return time.process_time() + use_of(servers).cpu_s


def _is_postgres(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
    except OSError:
        return False


def _fill(catalogue: Catalogue, labels: Labels, frames: int, progress: Callable[[float], None]) -> Bytes:
    """Add frames, one a second, of one camera after another; their embeddings, uint8 [N, 64]."""
    rng = np.random.default_rng(1)
    seen = labels.pictures[rng.integers(0, len(labels.pictures), _CAMERAS)]
    every = np.empty((frames, EMBEDDING_BYTES), np.uint8)
    with catalogue.database.connection() as connection, connection.transaction():
        connection.execute(
            "insert into edgesem.streams (name) select unnest(%s::text[])", ([_stream(one) for one in range(_CAMERAS)],)
        )
        numbers = [row[0] for row in connection.execute("select id from edgesem.streams order by id").fetchall()]
        row = connection.execute(
            "insert into edgesem.segments (name, size_bytes, receiver) values ('segments/bench', 0, 'bench') "
            "returning id"
        ).fetchone()
        assert row is not None
        for first in range(0, frames, _PART):
            count = min(_PART, frames - first)
            cameras = (first + np.arange(count)) % _CAMERAS
            noise = rng.normal(0, _NOISE / DIMENSIONS**0.5, (count, DIMENSIONS))
            every[first : first + count] = _packed(seen[cameras] + noise.astype(np.float32))
            _add(connection, first, [numbers[one] for one in cameras], every[first : first + count], row[0])
            progress((first + count) / frames)
    with catalogue.database.connection() as connection:
        connection.execute("vacuum analyze edgesem.blocks, edgesem.frames")
    return every


def _add(connection: Connection[Any], first: int, streams: Sequence[int], embeddings: Bytes, segment: int) -> None:
    blocks = [range(start, min(start + BLOCK_FRAMES, len(streams))) for start in range(0, len(streams), BLOCK_FRAMES)]
    values = []
    for block in blocks:
        part, times = embeddings[block.start : block.stop], _BEGIN_S + first + np.arange(block.start, block.stop)
        own = np.asarray(streams[block.start : block.stop], "<i4")
        values.append(
            (
                *(len(block), times[0], times[-1], own.tobytes(), times.astype("<f8").tobytes()),
                *(scales_of(part).tobytes(), part.tobytes()),
            )
        )
    found = []
    for value in values:
        made = connection.execute(
            "insert into edgesem.blocks (frames, first_s, last_s, streams, times, scales, embeddings, receiver) "
            "values (%s, %s, %s, %s, %s, %s, %s, 'bench') returning id",
            value,
        ).fetchone()
        assert made is not None
        found.append(made[0])
    columns = "stream, epoch, frame, time_ms, captured_s, layers, size_bytes, bundle_id, promised, grey, segment, start"
    with connection.cursor().copy(f"copy edgesem.frames ({columns}, block, place) from stdin") as copy:
        for place, stream in enumerate(streams):
            frame = first + place
            plain = (stream, 1, frame, frame * 1000, _BEGIN_S + frame, 2, _PACKET_BYTES, 1, False, False, segment, 0)
            copy.write_row((*plain, found[place // BLOCK_FRAMES], place % BLOCK_FRAMES))


def _packed(vectors: npt.NDArray[np.float32]) -> Bytes:
    """Embeddings as packets have them, all with one step size: uint8 [N, 64]."""
    spread = np.sqrt((vectors**2).mean(axis=1, keepdims=True))
    steps = np.rint(vectors * (_LEVELS / (_CLIP * spread))).clip(-_LEVELS, _LEVELS).astype(np.int8).view(np.uint8) & 15
    return np.asarray(steps[:, ::2] | steps[:, 1::2] << 4, np.uint8)


def _stream(camera: int) -> str:
    return f"bench/cam-{camera}/main"
