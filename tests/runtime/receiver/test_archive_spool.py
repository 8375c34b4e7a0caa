"""Spool of an archive: which frames it notes for the catalogue."""

from edgesem.semantics.embedding import to_bytes
from runtime.receiver.archive import Archive
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
