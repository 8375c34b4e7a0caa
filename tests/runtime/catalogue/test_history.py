"""History of a fleet while the object store does not answer."""

import socket
from importlib.util import find_spec

import pytest

from edgesem.errors import InputError, LinkError
from runtime.catalogue import objects
from runtime.catalogue.catalogue import Catalogue
from runtime.catalogue.catalogue_entry import CatalogueEntry
from runtime.catalogue.history import FleetHistory
from runtime.receiver.archive import Archive
from tests.support.embeddings import packet

GATE = "home/gate/main"


def test_an_object_that_cannot_be_read_keeps_nobody_from_the_others(tmp_path):
    data = packet(7, time_ms=7).to_bytes()
    (tmp_path / "objects" / "segments" / "one").mkdir(parents=True)
    (tmp_path / "objects" / "segments" / "two").write_bytes(data)
    with Archive(tmp_path) as archive:
        history = FleetHistory(None, archive)
        history._catalogue = Catalogue(None, str(tmp_path / "objects"))
        one, two = (
            CatalogueEntry(0, GATE, packet(7).epoch, 7, 1000.0, 1, len(data), False, False, f"segments/{name}", 0, 7)
            for name in ("one", "two")
        )
        with pytest.raises(InputError, match="cannot be read"):
            history.packet(one)
        assert history.packet(two).to_bytes() == data


@pytest.mark.skipif(find_spec("obstore") is None, reason="obstore is not installed")
def test_who_looks_back_waits_once_for_an_object_store_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "_READ_TIMES", {"timeout": "300ms", "connect_timeout": "5s"})
    monkeypatch.setattr(objects, "_READ_RETRIES", 0)
    with socket.create_server(("127.0.0.1", 0)) as silent, Archive(tmp_path) as archive:
        silent.settimeout(10)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
        history = FleetHistory(None, archive)
        history._catalogue = Catalogue(None, "s3://pictures")
        there = CatalogueEntry(0, GATE, 1, 7, 1000.0, 1, 900, False, False, "segments/one", 0, 7)
        with pytest.raises(LinkError, match="does not take or give"):
            history.packet(there)
        for read in (lambda: history.packet(there), lambda: history.earlier(there, 3)):
            with pytest.raises(LinkError, match="a moment ago"):
                read()
        archive.add(GATE, packet(7, time_ms=7), 1000.0)
        assert history.packet(archive.newest(GATE, 2000.0)) == packet(7, time_ms=7)  # what is here is read meanwhile
        silent.accept()[0].close()
        silent.settimeout(0)
        with pytest.raises(BlockingIOError):
            silent.accept()  # it was asked once
