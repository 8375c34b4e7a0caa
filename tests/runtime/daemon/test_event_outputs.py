"""Messages of events: each is published once, whichever thread gets to it."""

import threading

from runtime.daemon.event_hooks import EventHooks
from runtime.daemon.event_outputs import EventOutputs
from runtime.receiver.event_record import EventRecord


def test_no_message_is_lost_or_doubled_where_two_threads_publish(tmp_path):
    said, others = [], []

    def publish(_, payload):
        said.append(payload)
        if len(said) == 1:  # the daemon's thread looks, too, before the one that publishes goes on
            others.append(threading.Thread(target=outputs.refresh))
            others[0].start()
            others[0].join(0.2)

    outputs = EventOutputs(
        tmp_path,
        hooks=EventHooks([], "", timeout_s=1),
        publish=publish,
        report=lambda _: None,
        on_written=lambda _: None,
    )
    records = [EventRecord(f"{n:08x}", "home/gate/main", f"20260101T000000.000Z-{n:08x}", n, "ask", "") for n in (1, 2)]
    for record in records:
        outputs._tell(record)
    others[0].join()
    assert [b'"time_ms": 1,' in payload for payload in said] == [True, False]
