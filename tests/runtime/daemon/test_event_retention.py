"""Clips count for the disk space of promised frames: the oldest go, and are not listed any more."""

import os
import time

from runtime.daemon.event_hooks import EventHooks
from runtime.daemon.event_outputs import EventOutputs
from runtime.daemon.picture_outputs import PictureOutputs
from runtime.daemon.receive_settings import OutSettings
from runtime.receiver.event_record import COMPLETE, EventRecord

DAY_S = 86_400


def filled(folder, settings, days):
    """Outputs with one event for each of so many days, and a file that is not ours."""
    outputs = PictureOutputs(OutSettings(folder=folder, **settings), lambda event: None)
    hooks = EventHooks([], "", timeout_s=1)
    events = outputs.events = EventOutputs(
        folder, hooks=hooks, publish=lambda *_: None, report=outputs.report, on_written=outputs.count_promised
    )
    now_s = time.time()
    for day in range(days):
        name = f"202601{30 - day:02d}T000000.000Z-{day:08x}"
        time_ms = round(1000 * (now_s - DAY_S * day))
        record = EventRecord(
            f"{day:08x}", "home/a b/main", name, time_ms, "ask", "", COMPLETE, frames=1, clip=".mp4", sheet=True
        )
        folder_of_events = events.store.folder
        frame = record.frames_folder(folder_of_events) / "00000_-500.jpg"
        for path in (
            record.clip_file(folder_of_events),
            record.sheet_file(folder_of_events),
            record.picture_file(folder_of_events),
            frame,
        ):
            events.store.write(path, bytes(1000))
        events.store.update(record)
        for path in (*record.folder(folder_of_events).glob(f"{name}*"), frame):
            os.utime(path, (now_s - DAY_S * day,) * 2)
    mine = events.store.folder / "home/a%20b/main/mine.mp4"
    mine.write_bytes(b"")
    os.utime(mine, (1, 1))
    return outputs, mine


def days_left(outputs):
    return [int(one.id, 16) for one in outputs.events.store.events(limit=100)[0]]


def test_events_go_by_age_with_promised_frames_and_other_files_stay(tmp_path):
    outputs, mine = filled(tmp_path, {"max_age": "2d", "promised_max_age": "4.5d"}, 8)
    assert days_left(outputs) == list(range(8))
    outputs.tidy()
    outputs.tidy()
    assert days_left(outputs) == [0, 1, 2, 3, 4]
    assert len(list(outputs.events.store.folder.rglob("*.jpg"))) == 3 * 5
    assert mine.exists()


def test_events_go_by_size_with_promised_frames_the_oldest_first(tmp_path):
    outputs, _ = filled(tmp_path, {"promised_max_bytes": 12_000}, 8)
    outputs.tidy()
    assert days_left(outputs) == [0, 1]
    assert {path.name[:24] for path in outputs.events.store.folder.rglob("*.json")} == {
        "20260130T000000.000Z-000",
        "20260129T000000.000Z-000",
    }
    used = sum(path.stat().st_size for path in outputs.events.store.folder.rglob("*") if path.is_file())
    assert 8000 <= used <= 12_000


def test_without_limits_all_events_stay(tmp_path):
    outputs, _ = filled(tmp_path, {"max_age": "1d", "max_bytes": 1}, 8)
    outputs.tidy()
    assert days_left(outputs) == list(range(8))
