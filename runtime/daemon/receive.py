"""Receiving daemon: pictures to files, to the live page and to Home Assistant, until a signal comes.

Broker -> StreamReceiver -> PictureOutputs, and over HTTP the live page and the metrics
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesem.errors import EdgesemError, LinkError
from runtime.daemon.picture_outputs import PictureOutputs
from runtime.daemon.receive_settings import OutSettings, ReceiveSettings
from runtime.process.folder_lock import locked_folder
from runtime.process.service import running_service
from runtime.receiver.frame_drawer import OnDemand
from runtime.receiver.stream_receiver import StreamReceiver

if TYPE_CHECKING:
    from runtime.catalogue.uploader import Uploader
    from runtime.daemon.event_outputs import EventOutputs
    from runtime.daemon.homeassistant import HomeAssistant
    from runtime.receiver.archive import Archive
    from runtime.receiver.semantic_filter import SemanticFilter

log = logging.getLogger(__name__)

_LOOK_UP_S = 0.5
_TIDY_S = 60.0
_STALLED_S = 45.0
"""systemd's watchdog is told that we work, while every part of the receiver was seen to work within this time."""


def run_receive(
    settings: ReceiveSettings,
    on_event: Callable[[dict[str, Any]], None],
    *,
    max_pictures: int | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Receive until a signal comes, or so many pictures or seconds; returns the figures of all streams.

    `on_event` takes {"event": "ready"} once, and {"event": "picture"} for each picture, on several threads. Raises
    EdgesemError for what must be repaired first; a lost broker is none of these.
    """
    started_s = time.monotonic()
    out = settings.out
    with running_service() as service, contextlib.ExitStack() as stack:
        held: list[Path] = []
        for folder, setting in _owned_folders(settings).items():
            if any(os.path.exists(folder) and os.path.samefile(folder, one) for one in held):
                continue  # mounted twice
            mode = 0o700 if setting == "monitor.state_dir" else 0o777
            stack.enter_context(locked_folder(folder, owner="another edgesem receive", setting=setting, mode=mode))
            held.append(folder)
        home = _home_assistant(settings) if out.home_assistant else None
        outputs = stack.enter_context(PictureOutputs(out, on_event, max_pictures=max_pictures, home_assistant=home))
        if out.folder is not None:
            outputs.events = stack.enter_context(_event_outputs(settings, out.folder, outputs))
        archive = None
        if out.archive_folder is not None:
            opened = _open_archive(out, out.archive_folder, sync_promised=bool(settings.catalogue.url))
            archive = stack.enter_context(opened)
        uploader = _uploader(settings, stack)
        semantic_filter = _semantic_filter(settings) if out.only else None
        receiver = StreamReceiver(
            settings.broker.addresses(),
            settings.streams,
            settings.options(),
            bundle=settings.draw.bundles,
            folder=out.folder,
            key=settings.seal.key(),
            on_picture=outputs.put,
            on_stream_forgotten=outputs.forget,
            archive=archive,
            semantic_filter=semantic_filter,
            state_folder=settings.monitor.folder(),
            other_topics={} if home is None else home.topics(),
            will=None if home is None else home.will,
            on_up=(lambda: None) if home is None else home.announce_again,
            on_demand=OnDemand(outputs.needs_image, outputs.show),
        )
        stack.enter_context(receiver)
        outputs.attach(receiver)
        if home is not None:
            stack.callback(home.close)
        url, server, viewer, fleet = None, None, None, None
        if (address := out.listen_address()) is not None:
            from runtime.daemon.receiver_metrics import metrics_of
            from runtime.web.server import Server

            metrics = metrics_of(receiver, outputs.gallery, uploader)
            if archive is not None:
                from runtime.catalogue.history import FleetHistory
                from runtime.receiver.archive_viewer import ArchiveViewer

                fleet = None if uploader is None else FleetHistory(uploader.database, archive)
                viewer = stack.enter_context(ArchiveViewer(fleet or archive, settings.draw.bundles, stamp=out.stamp))
            server = stack.enter_context(
                Server(
                    address,
                    receiver,
                    outputs.gallery,
                    metrics=metrics,
                    allowed_hosts=out.allowed_hosts,
                    viewer=viewer,
                    events=None if outputs.events is None else outputs.events.store,
                    fleet=fleet,
                )
            )
            url = server.url
            log.info("the live page is at %s", url)
        on_event({"event": "ready", "url": url, "max_steps": receiver.max_steps})
        service.ready()
        tidied_s = float("-inf")
        while not (service.stop.is_set() or receiver.wait(_LOOK_UP_S)):
            trouble = receiver.trouble or (
                "" if server is None or server.alive else "the HTTP server's thread has ended"
            )
            if trouble:
                raise EdgesemError(f"{trouble}: see the log above, please report it")
            if receiver.stalled_s < _STALLED_S:
                service.alive()
            if home is not None:
                home.refresh()
            if outputs.events is not None:
                outputs.events.refresh()
            if viewer is not None:
                viewer.rest()
            if time.monotonic() - tidied_s >= _TIDY_S:
                _tidy(outputs, archive)
                tidied_s = time.monotonic()
            if seconds is not None and time.monotonic() - started_s >= seconds:
                break
        streams = [
            {"stream": one.name, "pictures": one.pictures, "decode_s": round(one.decode_s, 3)}
            | asdict(one.inbox.counters)
            for one in receiver.streams.all()
        ]
    return (
        {
            "seconds": round(time.monotonic() - started_s, 2),
            "pictures": outputs.pictures,
            "unwritten": outputs.unwritten,
            "deleted": outputs.deleted,
            "clips": 0 if outputs.events is None else outputs.events.clips,
            "strays": receiver.streams.strays,
            "others_bytes": receiver.streams.others_bytes,
            "streams": streams,
        }
        | _catalogued(uploader)
        | ({} if semantic_filter is None else {"only": semantic_filter.figures()})
    )


def _owned_folders(settings: ReceiveSettings) -> dict[Path, str]:
    """Folders that no other receiver may write, each once, and the setting that names each."""
    out, owned = settings.out, dict[Path, str]()
    if settings.shard:  # others only add to what they remember there
        owned[Path(os.path.realpath(settings.monitor.folder()))] = "monitor.state_dir"
    if out.archive_folder is not None:
        owned[Path(os.path.realpath(out.archive_folder))] = "out.archive"
    if out.folder is not None:
        owned[Path(os.path.realpath(out.folder))] = "out.folder"
    return owned


def _event_outputs(settings: ReceiveSettings, folder: Path, outputs: PictureOutputs) -> EventOutputs:
    from runtime.daemon.event_hooks import EventHooks
    from runtime.daemon.event_outputs import EventOutputs

    event = settings.event

    def publish(topic: str, payload: bytes) -> None:
        if outputs.receiver is None:
            raise LinkError("there is no connection yet")
        outputs.receiver.connection.publish(topic, payload)

    return EventOutputs(
        folder,
        hooks=EventHooks(event.command, event.webhook, timeout_s=event.timeout_s),
        publish=publish,
        report=outputs.report,
        on_written=outputs.count_promised,
        quiet_s=event.quiet_s,
    )


def _uploader(settings: ReceiveSettings, stack: contextlib.ExitStack) -> Uploader | None:
    """The uploader of the archive, which works until `stack` is closed; None without a catalogue."""
    catalogue, folder = settings.catalogue, settings.out.archive_folder
    if not catalogue.url or folder is None:
        return None
    from runtime.catalogue.database import Database
    from runtime.catalogue.uploader import Uploader

    database = stack.enter_context(Database(catalogue.url, catalogue.password_file))
    return stack.enter_context(Uploader(database, catalogue.objects, folder, period_s=catalogue.period_s))


def _semantic_filter(settings: ReceiveSettings) -> SemanticFilter:
    from edgesem.bundle.bundle import Bundle
    from edgesem.semantics.embedding import Labels
    from runtime.receiver.semantic_filter import SemanticFilter

    labels = Labels.of(Bundle.open(settings.draw.bundle))
    return SemanticFilter([labels.query(text) for text in settings.out.only], settings.out.only_score)


def _catalogued(uploader: Uploader | None) -> dict[str, Any]:
    if uploader is None:
        return {}
    return {"catalogued": uploader.uploaded, "not_catalogued": uploader.waiting}


def _home_assistant(settings: ReceiveSettings) -> HomeAssistant:
    from runtime.daemon.homeassistant import HomeAssistant

    out = settings.out
    return HomeAssistant(
        out.home_assistant_prefix,
        about=" ".join(settings.streams),
        bundle=settings.draw.bundle,
        control=out.home_assistant_control,
        events=out.folder is not None,
    )


def _open_archive(out: OutSettings, folder: Path, *, sync_promised: bool) -> Archive:
    from runtime.receiver.archive import Archive

    max_age_s, promised_max_age_s = out.max_ages_s()
    return Archive(
        folder,
        max_bytes=out.archive_max_bytes,
        free_bytes=out.free_bytes,
        max_age_s=max_age_s,
        promised_max_age_s=promised_max_age_s,
        sync_promised=sync_promised,  # their senders forget them, and the catalogue has them later
    )


def _tidy(outputs: PictureOutputs, archive: Archive | None) -> None:
    """Delete what is too old; a disk that does not take that costs a log line."""
    outputs.tidy()
    if archive is not None:
        try:
            archive.tidy()
        except EdgesemError as error:
            log.warning("%s", error)
