"""The mark of a frame that belongs to an event: what is written is read, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesem.errors import PacketError
from edgesem.packet.event_mark import CAUSES, MAX_LABEL_BYTES, EventMark, short_label
from edgesem.packet.side_information import SideInformation

labels = st.text(max_size=150).map(short_label)
marks = st.builds(
    EventMark,
    event=st.integers(1, 2**32 - 1),
    place=st.integers(0, 2**16 - 1),
    since_ms=st.integers(-(2**31), 2**31 - 1),
    kind=st.integers(0, 127),
    last=st.booleans(),
    label=labels,
)


@given(marks, st.one_of(st.none(), st.integers(0, 2**32 - 1)), st.binary(max_size=20))
def test_a_mark_is_read_as_it_was_written_also_beside_items_of_a_later_program(mark, time_high, later):
    unknown = ((9, later),) if later else ()
    side_info = SideInformation(time_high=time_high, event=mark, unknown=unknown)
    data = side_info.to_bytes()
    assert SideInformation.from_bytes(data + b"chunks") == (side_info, len(data))
    assert side_info.size_bytes == len(data)


@given(st.binary(max_size=140))
def test_any_bytes_are_a_mark_or_refused(data):
    try:
        mark = EventMark.from_bytes(data)
    except PacketError:
        return
    assert mark.to_bytes() == data  # who keeps a packet writes it as it came


@given(st.text(max_size=300))
def test_any_text_becomes_a_label(text):
    label = short_label(text)
    assert len(label.encode()) <= MAX_LABEL_BYTES
    assert EventMark.from_bytes(EventMark(1, 0, 0, label=label).to_bytes()).label == label


def test_a_cause_that_is_not_known_here_is_another_one():
    assert [EventMark(1, 0, 0, kind).cause for kind in range(len(CAUSES) + 1)] == [*CAUSES, "other"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"event": 0},
        {"event": 2**32},
        {"place": 2**16},
        {"since_ms": 2**31},
        {"kind": 128},
        {"label": "a\nb"},
        {"label": "ü" * 51},
    ],
)
def test_numbers_that_do_not_fit_are_refused(wrong):
    with pytest.raises(PacketError):
        EventMark(**{"event": 1, "place": 0, "since_ms": 0, **wrong})
