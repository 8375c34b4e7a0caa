"""Device side of edgesem: takes pictures, sends them over a thin link, receives and shows them.

    from runtime import Address, SenderOptions, StreamSender
    with StreamSender(Address("127.0.0.1", 1883), "home/gate/main", SenderOptions(fps=2)) as sender:
        sender.offer(picture)  # uint8 [H, W, 3], RGB

Importing this is cheap: each name loads its module when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.mqtt.address import Address as Address
    from runtime.receiver.archive import Archive as Archive
    from runtime.receiver.options import Limits as Limits
    from runtime.receiver.options import ReceiverOptions as ReceiverOptions
    from runtime.receiver.received_picture import ReceivedPicture as ReceivedPicture
    from runtime.receiver.semantic_filter import SemanticFilter as SemanticFilter
    from runtime.receiver.stream_receiver import StreamReceiver as StreamReceiver
    from runtime.receiver.synthesis import SynthesisOptions as SynthesisOptions
    from runtime.sender.delivery import DeliveryHandle as DeliveryHandle
    from runtime.sender.event_recorder import EventOptions as EventOptions
    from runtime.sender.events import SenderEvent as SenderEvent
    from runtime.sender.options import SenderOptions as SenderOptions
    from runtime.sender.stream_sender import StreamSender as StreamSender

_HOMES = {
    "Address": "runtime.mqtt.address",
    "Archive": "runtime.receiver.archive",
    "DeliveryHandle": "runtime.sender.delivery",
    "EventOptions": "runtime.sender.event_recorder",
    "Limits": "runtime.receiver.options",
    "ReceivedPicture": "runtime.receiver.received_picture",
    "ReceiverOptions": "runtime.receiver.options",
    "SemanticFilter": "runtime.receiver.semantic_filter",
    "SenderEvent": "runtime.sender.events",
    "SenderOptions": "runtime.sender.options",
    "StreamReceiver": "runtime.receiver.stream_receiver",
    "StreamSender": "runtime.sender.stream_sender",
    "SynthesisOptions": "runtime.receiver.synthesis",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'runtime' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value  # the next time costs nothing
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
