"""The list of events: what is asked, what parts of a clip are given; the rest is tested with the receiving daemon."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import InputError, UsageError
from runtime.receiver.event_record import EventRecord
from runtime.receiver.event_store import EventStore
from runtime.web.event_list import byte_range, file, is_file, listing


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-", (0, 99)),
        ("bytes=0-0", (0, 0)),
        ("bytes=10-19", (10, 19)),
        ("bytes=90-500", (90, 99)),
        ("bytes=-10", (90, 99)),
        ("bytes=-500", (0, 99)),
        ("bytes=100-", None),
        ("bytes=-0", None),
        ("bytes=5-4", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("lines=0-1", None),
    ],
)
def test_the_part_of_a_clip_that_a_player_asks_for(header, part):
    assert byte_range(header, 100) == part


@given(st.text(max_size=40), st.integers(0, 200))
def test_any_header_gives_a_part_that_there_is(header, size):
    part = byte_range(f"bytes={header}", size)
    assert part is None or 0 <= part[0] <= part[1] < size


@pytest.mark.parametrize("asked", [{"limit": ["0"]}, {"limit": ["201"]}, {"before": ["-1"]}, {"limit": ["x"]}])
def test_values_that_cannot_be_are_refused(tmp_path, asked):
    with pytest.raises(UsageError, match="must be a whole number"):
        listing(EventStore(tmp_path), asked)


def test_without_a_store_there_are_no_events():
    assert listing(None, {})["events"] == []
    with pytest.raises(InputError):
        file(None, "/events/home/gate/main/03a62aaf.mp4")


def test_only_files_of_events_that_are_listed_are_opened(tmp_path):
    store = EventStore(tmp_path)
    record = EventRecord(
        "03a62aaf", "home/a b/main", "20261130T160407.573Z-03a62aaf", 1, "ask", "", frames=1, clip=".mp4"
    )
    store.update(record)
    store.write(record.clip_file(store.folder), b"the clip")
    path = f"/{record.links()['clip']}"
    assert path == "/events/home/a%20b/main/03a62aaf.mp4"
    assert is_file(path)
    assert file(store, path) == (b"the clip", "video/mp4")
    wrong = ["03a62aaf.webp", "03a62aaf.json", "03a62aaf-sheet.mp4", "03a62aaf-sheet.jpg", "03a62aab.mp4", "..%2fx.mp4"]
    for name in wrong:
        with pytest.raises(InputError):
            file(store, f"/events/home/a%20b/main/{name}")
    assert not is_file("/events/device/main.jpg")  # a picture of the site `events`
    assert not is_file("/events/home/gate/main/x/03a62aaf.mp4")
