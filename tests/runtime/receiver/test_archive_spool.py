"""Spool of an archive: which frames it notes for the catalogue."""

import contextlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

from edgesem.semantics.embedding import to_bytes
from runtime.receiver.archive import Archive
from runtime.receiver.archive_file import FILE
from runtime.receiver.archive_spool import ArchiveSpool
from tests.support.embeddings import packet, vector


def test_a_frame_that_waits_takes_more_layers(tmp_path):
    with Archive(tmp_path) as archive, ArchiveSpool(tmp_path) as spool:
        for layers in (1, 2, 4):
            archive.add("home/gate/main", packet(1, to_bytes(vector(1)), layers=layers), 1000.0)
        (waits,) = spool.take(10, 1 << 20)
        assert waits.layers == 4
        spool.done([waits])
        assert spool.waiting == 0


def test_many_may_open_one_archive_at_once(tmp_path):
    """Whoever comes second finds the tables and columns that the first one is making."""
    openers = 8
    for number in range(20):
        folder = tmp_path / str(number)
        Archive(folder).__exit__(None, None, None)
        if number % 2:  # as edgesem 0.1 made it
            with contextlib.closing(sqlite3.connect(folder / FILE)) as base, base:
                base.execute("drop index by_worth")
                base.execute("alter table frames drop column promised")
                base.execute("alter table frames drop column grey")
        together = threading.Barrier(openers)

        def name_of_it(_, folder=folder, together=together):
            together.wait()
            with ArchiveSpool(folder) as spool:
                return spool.receiver

        with ThreadPoolExecutor(openers) as pool:
            assert len(set(pool.map(name_of_it, range(openers)))) == 1
