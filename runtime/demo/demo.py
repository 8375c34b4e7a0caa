"""Demo: all of edgesem on one machine, with the real sender and receiver at the two ends of a thin link.

    pictures -> StreamSender -> relay (the thin link) -> broker -> StreamReceiver -> pictures

Everything listens on 127.0.0.1 only, the broker behind a random password, and all of it is gone when the demo ends,
however it ends. A camera shows the newest picture and lets the link decide which are left out; here each picture is
offered until it was received, so that none is.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgesem.errors import InputError
from runtime.capture.frame import PHOTOS
from runtime.capture.samples import sample_frames
from runtime.demo.progress import Progress
from runtime.demo.report import CONTACT_SHEET, REPORT, draw, rate_text, write_files
from runtime.demo.transfer import Options, Show, Transfer


def run_demo(options: Options, show: Show) -> dict[str, Any]:
    """Send the pictures, fill the folder `options.out`, and return the report; `show` is called at each change.

    The report's `ok` says whether every picture came and every layer was acknowledged. Raises EdgesemError for what
    must be repaired first, and LinkError if a picture does not come in time.
    """
    with _signals_as_exit():
        received = _make_folder(options.out.resolve() / "received")
        frames = list(sample_frames(options.source or PHOTOS, options.frames))
        progress = Progress([frame.name for frame in frames], [frame.image for frame in frames])
        show(progress)
        started_s = time.monotonic()
        with Transfer(options, frames, progress, show, received) as transfer:
            about = transfer.run()
            seconds = time.monotonic() - started_s
            transfer.enter_phase("drawing the contact sheet")
            transfer.add_redrawn()
        sheet = draw(progress, f"edgesem over {rate_text(options.rate_bps)}", _subtitle(options, progress))
        report = {
            **progress.counts(),
            "seconds": round(seconds, 2),
            "out": str(options.out),
            "contact_sheet": str(options.out / CONTACT_SHEET),
            "report": str(options.out / REPORT),
            "source": None if options.source is None else str(options.source),
            "interval_s": options.interval_s,
            **about,
            "rows": progress.rows,
        }
        write_files(options.out, sheet, report)
    return report


def _make_folder(folder: Path) -> Path:
    """Make the folder for received pictures, and take away what an earlier demo has left."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if re.fullmatch(r"\d{4}\.png", path.name):
                path.unlink()
        for name in (CONTACT_SHEET, REPORT):
            (folder.parent / name).unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to ({error.strerror}): name another folder by --out") from error
    return folder


def _subtitle(options: Options, progress: Progress) -> str:
    source = "photographs that ship with edgesem" if options.source is None else str(options.source.name)
    count, interval = len(progress.rows), options.interval_s
    return f"{count} pictures, one each {interval:g} s, {source}; bytes are those of the MQTT messages"


@contextlib.contextmanager
def _signals_as_exit() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP end the program the way that an exception does, so that everything is cleaned up."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]  # as `nohup` leaves SIGHUP
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
