"""What a catalogue or its objects say, whoever has written it: an entry, a block, a name, or one clear error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import EdgesemError, InputError, UsageError
from edgesem.packet.packet import MAX_PACKET_BYTES
from edgesem.semantics.embedding import DIMENSIONS, EMBEDDING_BYTES, from_bytes, to_bytes
from runtime.catalogue.block import BLOCK_FRAMES, Block, scales_of, similarities
from runtime.catalogue.catalogue import Catalogue
from runtime.catalogue.catalogue_entry import entry_of, event_of, total_of
from runtime.catalogue.database import check_url
from runtime.catalogue.objects import FolderObjects, check_name, open_objects
from tests.support.embeddings import packet, vector

GOOD = ("home/gate/main", 3, 7, 1000.5, 2, 900, True, False, "segments/2026/11/30/120000-ab-cd", 5, 77)
values = st.one_of(
    st.none(), st.integers(), st.floats(), st.text(max_size=30), st.binary(max_size=10), st.booleans(), st.just("a/b/c")
)


@given(st.lists(values, max_size=14))
def test_a_row_is_an_entry_or_an_input_error(row):
    with pytest.raises(InputError):
        entry_of(row)


@given(st.lists(values, max_size=10))
def test_an_event_is_one_or_an_input_error(row):
    with pytest.raises(InputError):
        event_of(row)


@given(st.integers(0, len(GOOD) - 1), values)
def test_a_value_that_cannot_be_is_refused(place, value):
    row = [*GOOD[:place], value, *GOOD[place + 1 :]]
    try:
        entry = entry_of(row)
    except InputError:
        return
    assert 0 < entry.size_bytes <= MAX_PACKET_BYTES
    assert entry.stream.count("/") == 2
    assert check_name(entry.segment)


@given(st.text(max_size=80))
def test_a_name_leads_nowhere_else(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / "objects"
    try:
        found = (folder / check_name(name)).resolve()
    except InputError:
        return
    assert found.is_relative_to(folder.resolve())


@pytest.mark.parametrize("name", ["..", "a/../b", "/etc/passwd", "a//b", ".hidden", "a/.b", "", "a\nb", "a" * 700])
def test_these_names_are_refused(tmp_path, name):
    for use in (FolderObjects(tmp_path).read, lambda *_: FolderObjects(tmp_path).put(name, b"")):
        with pytest.raises(InputError, match="no name"):
            use(name, 0, 1)


@given(st.text(max_size=60))
def test_a_place_is_one_or_a_usage_error(text):
    try:
        open_objects("s3://" + text.replace("://", ""))
    except UsageError:
        return


@given(st.text(max_size=60))
def test_a_url_is_one_or_a_usage_error(text):
    for url in (text, "postgresql://" + text):
        try:
            assert len(check_url(url)) < 200
        except UsageError:
            continue


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=7000))
def test_parts_that_do_not_fit_are_no_block(streams, times, scales, embeddings):
    block = Block(streams, times, scales, embeddings)
    try:
        block.check()
    except InputError:
        return
    assert block.frames <= BLOCK_FRAMES
    assert len(embeddings) == EMBEDDING_BYTES * block.frames


@given(st.binary(min_size=EMBEDDING_BYTES, max_size=EMBEDDING_BYTES), st.integers(0, 99))
def test_similarities_are_those_of_embeddings_whatever_the_bytes(data, seed):
    embeddings = np.frombuffer(data, np.uint8).reshape(1, -1)
    fit = similarities(embeddings, scales_of(embeddings), vector(seed))[0]
    assert -1.0001 <= fit <= 1.0001
    try:
        known = from_bytes(data)
    except EdgesemError:
        return
    assert fit == pytest.approx(float(known @ vector(seed)), abs=1e-5)


def test_a_block_grows_to_its_bound():
    block = Block()
    for number in range(BLOCK_FRAMES):
        block = block.with_frames([number], [1.5 * number], [to_bytes(vector(number))])
        block.check()
    assert np.frombuffer(block.times, "<f8")[-1] == 1.5 * (BLOCK_FRAMES - 1)
    with pytest.raises(InputError, match="damaged"):
        block.with_frames([1], [1.0], [to_bytes(vector(1))]).check()
    stored = np.frombuffer(block.embeddings, np.uint8).reshape(-1, EMBEDDING_BYTES)
    query = vector(42)
    assert query.shape == (DIMENSIONS,)
    assert similarities(stored, np.frombuffer(block.scales, "<f4"), query).argmax() == 42


class _OnePlace:
    """Objects that give the same bytes for every question, fewer or more than were asked for."""

    def __init__(self, data):
        self.data = data

    def read(self, name, start, size_bytes):
        return self.data


@given(st.binary(max_size=400))
def test_bytes_of_an_object_are_the_packet_or_an_input_error(data):
    catalogue = Catalogue(None, "nowhere")
    catalogue._objects = _OnePlace(data)
    with pytest.raises(InputError):
        catalogue.packet(entry_of(GOOD))


def test_the_packet_of_another_frame_is_refused():
    catalogue = Catalogue(None, "nowhere")
    data = packet(8).to_bytes()
    catalogue._objects = _OnePlace(bytes(5) + data)
    row = [*GOOD]
    row[5] = len(data)
    with pytest.raises(InputError, match="not where the catalogue says"):
        catalogue.packet(entry_of(row))


@pytest.mark.parametrize(
    "changed", [{"first_s": float("nan")}, {"last_s": 1e300}, {"stream": "../../etc/x"}, {"stream": "a\x1b/b/c"}]
)
def test_the_total_of_damaged_rows_is_refused(changed):
    good = {"stream": "home/gate/main", "frames": 1, "promised": 0, "first_s": 1.0, "last_s": 2.0, "size_bytes": 9}
    assert total_of(list(good.values())).stream == "home/gate/main"
    with pytest.raises(InputError, match="damaged"):
        total_of(list((good | changed).values()))
